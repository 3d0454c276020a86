// Every operator in plain C++: for float64, and for float32 with NaN or infinity among the inputs,
// which the vector kernels' maxima would lose. Also the scatters behind the gradients at p =
// infinity.
//
// Legend as in kernels.h. T is float or double. Tasks are rows (samples) unless said otherwise.
#pragma once

#include <stdint.h>

namespace supnorm {

template <class T>
struct PlainProblem {
  const T* x;
  const T* w;
  int64_t num_rows, num_outputs, num_inputs;
  int64_t x_stride, out_stride;
};

template <class T>
void plain_lp_distance(const PlainProblem<T>& problem, double p, T* out, int64_t begin,
                       int64_t end);

// Tasks are inputs: each adds to its own columns of grad_x and grad_w (either may be null).
template <class T>
void plain_lp_distance_backward(const PlainProblem<T>& problem, double p, const T* grad,
                                const T* distance, T* grad_x, T* grad_w, int64_t begin,
                                int64_t end);

// Adds, on one thread, the gradients of the outputs with 0 < distance < limit.
void plain_lp_distance_backward_below(const PlainProblem<float>& problem, double p, float limit,
                                      const float* grad, const float* distance, float* grad_x,
                                      float* grad_w);

// argmax may be null.
template <class T>
void plain_linf_distance(const PlainProblem<T>& problem, T* out, int32_t* argmax, int64_t begin,
                         int64_t end);

// flow (B, O, dense) <- grad * sign(x - w) at the arg-max; grad_w <- minus its sums, unless null.
// Tasks are outputs.
template <class T>
void linf_backward_outputs(const PlainProblem<T>& problem, const T* grad, const int32_t* argmax,
                           T* flow, T* grad_w, int64_t begin, int64_t end);

// grad_x <- the sums of flow.
template <class T>
void linf_backward_rows(const PlainProblem<T>& problem, const T* flow, const int32_t* argmax,
                        T* grad_x, int64_t begin, int64_t end);

// problem.x has the lower ends.
template <class T>
void plain_bounds(const PlainProblem<T>& problem, const T* upper, T* smallest, T* largest,
                  int64_t begin, int64_t end);

}  // namespace supnorm
