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

// A stack of layers, y = max(floor, max over edges of |x - w|) - offset. Outputs are taken
// kSliceRows at a time: step k of slice s has the edge k of each of its rows, values[k][row] and
// columns[k][row], steps counted through all slices of all layers; a shorter row repeats an edge,
// and one without edges has columns[k][row] = I and values[k][row] = 0, the input behind the last
// one, which is 0.
constexpr int64_t kSliceRows = 16;

template <class T>
struct SparseStack {
  const uint8_t* pixels;  // (B, I), entering as pixel << shift; or null, and then
  const T* x;             // (B, I)
  int shift;
  int64_t num_samples, num_layers;
  const int32_t* widths;   // (layers + 1): I, then the outputs of each layer
  const int32_t* starts;   // (slices + 1): slice s has the steps [starts[s], starts[s + 1])
  const T* values;         // (steps, kSliceRows)
  const int16_t* columns;  // (steps, kSliceRows)
  const T* floor;          // (slices, kSliceRows)
  const T* offset;         // (slices, kSliceRows)
  T* out;                  // (B, outputs of the last layer)
};

// Tasks are groups of samples, as above.
struct SparseStackKernels {
  void (*i16)(const SparseStack<int16_t>&, int64_t begin, int64_t end);
  void (*i32)(const SparseStack<int32_t>&, int64_t begin, int64_t end);
};

inline int64_t num_slices(int64_t outputs) { return (outputs + kSliceRows - 1) / kSliceRows; }

inline const SparseKernels<float>& of_type(const AllSparseKernels& k, float) { return k.f32; }
inline const SparseKernels<double>& of_type(const AllSparseKernels& k, double) { return k.f64; }
inline const SparseKernels<int16_t>& of_type(const AllSparseKernels& k, int16_t) { return k.i16; }
inline const SparseKernels<int32_t>& of_type(const AllSparseKernels& k, int32_t) { return k.i32; }

}  // namespace supnorm
