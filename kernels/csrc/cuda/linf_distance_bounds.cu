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
  int* smallest;      // bits of floats; zeros where there are several splits
  unsigned* largest;  // likewise, with the sign set
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

}  // namespace supnorm
