// Over the box lower <= x <= upper: smallest and largest max_i |x_i - w_oi|.
//
// With a = lower - w and b = upper - w the distance to an interval is max(a, -b, 0) and the far end
// is max(b, -a), so four running extremes of two differences give both.
#include "isa/tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = 1;  // four extremes of kVectors vectors each

struct Extremes {
  V max_lower[kRows][kVectors], min_lower[kRows][kVectors];
  V max_upper[kRows][kVectors], min_upper[kRows][kVectors];
};

// Outputs along the lanes; the box is broadcast.
__attribute__((always_inline)) inline void extremes(const float* packed, const float* const* lower,
                                                    const float* const* upper, int64_t num_inputs,
                                                    Extremes* e) {
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      e->max_lower[r][v] = e->max_upper[r][v] = all(-__builtin_inff());
      e->min_lower[r][v] = e->min_upper[r][v] = all(__builtin_inff());
    }
  }
  for (int64_t i = 0; i < num_inputs; ++i) {
    V w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = load(packed + i * kLanes + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const V low = all(lower[r][i]), high = all(upper[r][i]);
      for (int v = 0; v < kVectors; ++v) {
        const V a = difference(low, w[v]), b = difference(high, w[v]);
        e->max_lower[r][v] = max(e->max_lower[r][v], a);
        e->min_lower[r][v] = min(e->min_lower[r][v], a);
        e->max_upper[r][v] = max(e->max_upper[r][v], b);
        e->min_upper[r][v] = min(e->min_upper[r][v], b);
      }
    }
  }
}

__attribute__((noinline)) void bounds_tile(const ForwardArgs& a, const float* packed,
                                           const int64_t* rows, const TilePlace& place) {
  const float *lower[kRows], *upper[kRows];
  for (int r = 0; r < kRows; ++r) {
    lower[r] = a.problem.x + rows[r] * a.problem.x_stride;
    upper[r] = a.upper + rows[r] * a.problem.x_stride;
  }
  alignas(64) float smallest[kRows * kLanes], largest[kRows * kLanes];
  const V zero = all(0.0f);
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    Extremes e;
    extremes(packed + lane, lower, upper, a.problem.num_inputs, &e);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        const int at = r * kLanes + lane + v * kWidth;
        store(smallest + at, max(max(e.max_lower[r][v], zero - e.min_upper[r][v]), zero));
        store(largest + at, max(max(e.max_upper[r][v], zero - e.min_lower[r][v]), zero));
      }
    }
  }
  store_tile(a, place, smallest, a.out);
  store_tile(a, place, largest, a.out_largest);
}

}  // namespace

void linf_distance_bounds(const ForwardArgs& a, int64_t begin, int64_t end) {
  for (int64_t index = begin; index < end; ++index) {
    const Task task = task_at(a, index);
    const float* packed = a.packed + task.block * kLanes * a.problem.num_inputs;
    for_each_tile<kRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
      bounds_tile(a, packed, rows, place);
    });
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
