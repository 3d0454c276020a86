// max_i |x_i - w_oi|, and the lowest i that reaches it.
//
// Four inputs cost 4 subtractions, 2 maxima that take the absolute values, and one 3-input maximum
// of bits: 7/4 instructions an input. Splits of the inputs meet in an integer maximum, which is
// exact in any order.
#include "tiles.h"

namespace supnorm {

struct LinfArgs {
  Problem problem;
  int* distance;  // bits of floats; zeros where there are several splits
  uint64* key;    // with the arg-max: (bits, ~chunk) of every pair; zeros likewise
  int num_splits;
};

SUPNORM_DEVICE int largest_of_quad(int best, const float4& x, const float4& w) {
  const float first = max_abs(x.x - w.x, x.y - w.y), second = max_abs(x.z - w.z, x.w - w.w);
  return max3(best, bits_of(first), bits_of(second));
}

template <class T>
__global__ void __launch_bounds__(kThreads, T::kThreadCols == 8 ? 4 : 5)
    linf_distance(const LinfArgs a) {
  if (is_sparse(a.problem.gate)) return;
  const Place<T> place(a.problem);
  int best[T::kThreadCols][T::kThreadRows] = {};
  for_each_stage(a.problem, place, [&](const float* stage, int) {
    for_each_quad<T>(stage, [&](int c, const float4* x, const float4& w) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) best[c][r] = largest_of_quad(best[c][r], x[r], w);
    });
  });
  for_each_pair(a.problem, place, [&](int c, int r, int64 at) {
    if (a.num_splits == 1) {
      a.distance[at] = best[c][r];
    } else {
      atomicMax(a.distance + at, best[c][r]);
    }
  });
}

// The maximum and the stage in which it appears first. A larger key is a larger maximum or, of
// equal ones, the one of an earlier stage.
template <class T>
__global__ void __launch_bounds__(kThreads, 3) linf_distance_stage(const LinfArgs a) {
  if (is_sparse(a.problem.gate)) return;
  const Place<T> place(a.problem);
  int best[T::kThreadCols][T::kThreadRows], best_stage[T::kThreadCols][T::kThreadRows];
#pragma unroll
  for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
    for (int r = 0; r < T::kThreadRows; ++r) best[c][r] = -1, best_stage[c][r] = 0;
  }
  for_each_stage(a.problem, place, [&](const float* shared, int stage) {
    int largest[T::kThreadCols][T::kThreadRows] = {};
    for_each_quad<T>(shared, [&](int c, const float4* x, const float4& w) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) {
        largest[c][r] = largest_of_quad(largest[c][r], x[r], w);
      }
    });
#pragma unroll
    for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) {
        if (largest[c][r] > best[c][r]) best_stage[c][r] = stage;
        best[c][r] = max(best[c][r], largest[c][r]);
      }
    }
  });
  for_each_pair(a.problem, place, [&](int c, int r, int64 at) {
    const uint64 key = static_cast<uint64>(static_cast<unsigned>(best[c][r])) << 32 |
                       ~static_cast<unsigned>(best_stage[c][r]);
    if (a.num_splits == 1) {
      a.key[at] = key;
    } else {
      atomicMax(a.key + at, key);
    }
  });
}

struct ArgmaxArgs {
  Problem problem;
  const uint64* key;
  float* distance;
  int* argmax;
  int depth;  // inputs a stage
};

// Takes keys apart: looks the maximum up in its stage. A thread a pair.
__global__ void __launch_bounds__(kThreads) linf_argmax(const ArgmaxArgs a) {
  const Problem& problem = a.problem;
  if (is_sparse(a.problem.gate)) return;
  const int64 at = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= problem.rows * problem.out_stride) return;
  const int64 row = at / problem.out_stride, output = at % problem.out_stride;
  const float* x = problem.x + row * problem.x_stride + output / problem.outputs * problem.inputs;
  const float* w = problem.w + output * problem.inputs;
  const float value = from_bits(static_cast<int>(a.key[at] >> 32));
  const int first = static_cast<int>(~static_cast<unsigned>(a.key[at])) * a.depth;
  const int last = min(first + a.depth, static_cast<int>(problem.inputs));
  int found = last - 1;
  for (int i = last - 1; i >= first; --i) {
    const float size = fabsf(x[i] - w[i]);
    if (size == value || size != size) found = i;
  }
  a.distance[at] = value;
  a.argmax[at] = found;
}

}  // namespace supnorm
