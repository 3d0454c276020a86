// What the kernels of one instruction set offer for weights in compressed rows. Plain data only.
//
// Legend: B samples (rows of x), O outputs, I inputs, E edges. T is float, double, int16_t or
// int32_t. Output o is max(floor_o, max over its edges k of |x[columns_k] - values_k|). Tasks are
// groups of samples: see `sparse_task_samples`.
#pragma once

#include <stdint.h>

namespace supnorm {

template <class T>
struct SparseRows {
  const T* values;         // (E)
  const int16_t* columns;  // (E), each in [0, num_inputs), ascending within a row
  const int32_t* starts;   // (O + 1): row o has the edges [starts[o], starts[o + 1])
  const T* floor;          // (O), none below 0
  int64_t num_outputs, num_inputs;
};

template <class T>
struct SparseProblem {
  SparseRows<T> rows;
  const T* x;      // (B, I), dense; for bounds the lower ends
  const T* upper;  // (B, I), or null
  int64_t num_samples;
  T* out;             // (B, O); for bounds the smallest
  T* out_largest;     // (B, O), or null
  int32_t* deciding;  // (B, O): the lowest edge that reaches the maximum, -1 where the floor does;
                      // or null
};

template <class T>
struct SparseKernels {
  void (*distance)(const SparseProblem<T>&, int64_t begin, int64_t end);
  void (*bounds)(const SparseProblem<T>&, int64_t begin, int64_t end);
};

// Bytes of samples side by side in a transposed block.
constexpr int64_t kSparseBlockBytes = 256;

template <class T>
constexpr int64_t sparse_task_samples() {
  return kSparseBlockBytes / sizeof(T);
}

struct AllSparseKernels {
  SparseKernels<float> f32;
  SparseKernels<double> f64;
  SparseKernels<int16_t> i16;
  SparseKernels<int32_t> i32;
};

inline const SparseKernels<float>& of_type(const AllSparseKernels& k, float) { return k.f32; }
inline const SparseKernels<double>& of_type(const AllSparseKernels& k, double) { return k.f64; }
inline const SparseKernels<int16_t>& of_type(const AllSparseKernels& k, int16_t) { return k.i16; }
inline const SparseKernels<int32_t>& of_type(const AllSparseKernels& k, int32_t) { return k.i32; }

}  // namespace supnorm
