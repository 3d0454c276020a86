// Distances of int16 and int32 samples, the network of exact certificates. Plain data only.
#pragma once

#include <stdint.h>

#include "host/plain.h"

namespace supnorm {

// Exact where no |x_i - w_oi| exceeds the largest T, which the caller has to prove; else the result
// means nothing.
template <class T>
struct IntegerArgs {
  PlainProblem<T> problem;  // x has the samples, or the lower ends
  const T* upper;           // bounds: upper ends
  const T* packed;          // the weights, [vector of outputs][input][lane], its last row repeated
  T* out;                   // (B, O)
  T* out_largest;           // bounds: (B, O)
};

// Tasks: groups of kVectors vectors of outputs times blocks of kIntegerRows samples.
template <class T>
struct IntegerOperators {
  void (*linf_distance)(const IntegerArgs<T>&, int64_t begin, int64_t end);
  void (*linf_distance_bounds)(const IntegerArgs<T>&, int64_t begin, int64_t end);
};

struct IntegerKernels {
  int vector_bytes;
  IntegerOperators<int16_t> int16;
  IntegerOperators<int32_t> int32;
};

constexpr int64_t kIntegerVectors = 4;
constexpr int64_t kIntegerRows = 48;

template <class T>
const IntegerOperators<T>& integer_operators(const IntegerKernels& kernels);
template <>
inline const IntegerOperators<int16_t>& integer_operators(const IntegerKernels& kernels) {
  return kernels.int16;
}
template <>
inline const IntegerOperators<int32_t>& integer_operators(const IntegerKernels& kernels) {
  return kernels.int32;
}

// An operator on one group's raw data.
template <class T>
void run_integer_linf_distance(const PlainProblem<T>& problem, T* out);
template <class T>
void run_integer_bounds(const PlainProblem<T>& problem, const T* upper, T* smallest, T* largest);

}  // namespace supnorm
