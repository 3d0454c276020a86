// The smallest and the largest max_i |x_i - w_oi| over boxes lower <= x <= upper.
//
// With above = lower - w and below = w - upper, of which at most one is positive, the smallest
// distance is max(0, above, below) and the largest the negative of min(above, below). Of bit
// patterns the signed maximum, begun at +0, is the former, and the unsigned maximum, begun at -0,
// the most negative number: one 3-input instruction each.
#include "tiles.h"

namespace supnorm {

struct BoundsArgs {
  Problem problem;
  int* smallest;                       // bits of floats; zeros where there are several splits
  unsigned* largest;                   // likewise, with the sign set
  uint64 *smallest_key, *largest_key;  // for the gradient: (bits, ~stage)
  int num_splits;
};

template <class T>
struct Extremes {
  int smallest[T::kThreadCols][T::kThreadRows];
  unsigned largest[T::kThreadCols][T::kThreadRows];

  SUPNORM_DEVICE Extremes() {
#pragma unroll
    for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) smallest[c][r] = 0, largest[c][r] = 0x80000000u;
    }
  }
  SUPNORM_DEVICE void add(int c, int r, float above, float below) {
    smallest[c][r] = max3(smallest[c][r], bits_of(above), bits_of(below));
    largest[c][r] = max3(largest[c][r], static_cast<unsigned>(bits_of(above)),
                         static_cast<unsigned>(bits_of(below)));
  }
};

template <class T>
SUPNORM_DEVICE void add_stage(const float* stage, Extremes<T>& extremes) {
  for_each_quad<T>(stage, [&](int c, const float4* ends, const float4& w) {
#pragma unroll
    for (int r = 0; r < T::kThreadRows; ++r) {
      const float4 lower = ends[r], upper = ends[T::kThreadRows + r];
      extremes.add(c, r, lower.x - w.x, w.x - upper.x);
      extremes.add(c, r, lower.y - w.y, w.y - upper.y);
      extremes.add(c, r, lower.z - w.z, w.z - upper.z);
      extremes.add(c, r, lower.w - w.w, w.w - upper.w);
    }
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 2) linf_distance_bounds(const BoundsArgs a) {
  const Place<T> place(a.problem);
  Extremes<T> extremes;
  for_each_stage(a.problem, place, [&](const float* stage, int) { add_stage<T>(stage, extremes); });
  for_each_pair(a.problem, place, [&](int c, int r, int64 at) {
    if (a.num_splits == 1) {
      a.smallest[at] = extremes.smallest[c][r];
      a.largest[at] = extremes.largest[c][r];
    } else {
      atomicMax(a.smallest + at, extremes.smallest[c][r]);
      atomicMax(a.largest + at, extremes.largest[c][r]);
    }
  });
}

// Takes the signs away, and makes the largest distance NaN where the smallest is: of bit patterns
// NaN is no unsigned maximum.
__global__ void __launch_bounds__(kThreads) linf_distance_bounds_finish(const BoundsArgs a) {
  const int64 at = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= a.problem.rows * a.problem.out_stride) return;
  const int smallest = a.smallest[at];
  a.largest[at] = smallest > 0x7f800000 ? 0x7fffffffu : a.largest[at] & 0x7fffffffu;
}

SUPNORM_DEVICE uint64 bounds_key(unsigned bits, int stage) {
  return static_cast<uint64>(bits) << 32 | ~static_cast<unsigned>(stage);
}

// Both bounds and the stages in which they appear first.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) linf_distance_bounds_stage(const BoundsArgs a) {
  const Place<T> place(a.problem);
  uint64 smallest[T::kThreadCols][T::kThreadRows] = {},
         largest[T::kThreadCols][T::kThreadRows] = {};
  for_each_stage(a.problem, place, [&](const float* shared, int stage) {
    Extremes<T> extremes;
    add_stage<T>(shared, extremes);
#pragma unroll
    for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) {
        const auto bits = static_cast<unsigned>(extremes.smallest[c][r]);
        smallest[c][r] = max(smallest[c][r], bounds_key(bits, stage));
        largest[c][r] = max(largest[c][r], bounds_key(extremes.largest[c][r], stage));
      }
    }
  });
  for_each_pair(a.problem, place, [&](int c, int r, int64 at) {
    if (a.num_splits == 1) {
      a.smallest_key[at] = smallest[c][r];
      a.largest_key[at] = largest[c][r];
    } else {
      atomicMax(a.smallest_key + at, smallest[c][r]);
      atomicMax(a.largest_key + at, largest[c][r]);
    }
  });
}

struct DecideArgs {
  Problem problem;
  const uint64 *smallest_key, *largest_key;
  int *smallest, *largest;  // 2 * input + (1 where the upper end decides), or -1 for a bound of 0
  int depth;                // inputs a stage
};

// The number of a box, among those of a stage, that a bound comes from.
SUPNORM_DEVICE int decision(const DecideArgs& a, uint64 key, const float* lower, const float* upper,
                            const float* w, bool is_smallest) {
  const int size = static_cast<int>(key >> 32) & 0x7fffffff;
  if (size == 0) return -1;
  const int first = static_cast<int>(~static_cast<unsigned>(key)) * a.depth;
  const int last = min(first + a.depth, static_cast<int>(a.problem.inputs));
  int found = 2 * first;
  for (int i = last - 1; i >= first; --i) {
    const float above = lower[i] - w[i], below = w[i] - upper[i];
    const bool is_lower = bits_of(is_smallest ? above : -above) == size;
    const bool is_upper = bits_of(is_smallest ? below : -below) == size;
    // The upper end of two that decide a largest distance, the lower of two that decide a smallest.
    if (is_lower || is_upper) found = 2 * i + (is_smallest ? !is_lower : is_upper);
  }
  return found;
}

// A thread a pair.
__global__ void __launch_bounds__(kThreads) linf_distance_bounds_decide(const DecideArgs a) {
  const Problem& problem = a.problem;
  const int64 at = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= problem.rows * problem.out_stride) return;
  const int64 row = at / problem.out_stride, output = at % problem.out_stride;
  const int64 x_at = row * problem.x_stride + output / problem.outputs * problem.inputs;
  const float *lower = problem.x + x_at, *upper = problem.upper + x_at;
  const float* w = problem.w + output * problem.inputs;
  a.smallest[at] = decision(a, a.smallest_key[at], lower, upper, w, true);
  a.largest[at] = decision(a, a.largest_key[at], lower, upper, w, false);
}

}  // namespace supnorm
