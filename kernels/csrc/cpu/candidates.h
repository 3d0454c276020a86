// Which inputs can matter to an output, for a whole block of lanes at once.
//
// Per input i a block of lane rows spans [low_i, high_i]. For a broadcast row r
//   |lane_i - r_i| <= bound_i = max(high_i - r_i, r_i - low_i)      for every lane, rounding included:
// rounding to nearest is monotone, so the rounded difference is at most the rounded bound. Inputs with
// bound_i below a threshold that no lane's deciding difference falls below need not be looked at.
#pragma once

#include "vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// Ends of a block of lanes per input.
struct Span {
  const float *low, *high;
};

inline V bound_at(const Span& span, const float* row, int64_t i) {
  const V r = load(row + i);
  return max(load(span.high + i) - r, r - load(span.low + i));
}

inline float bound_one(const Span& span, const float* row, int64_t i) {
  const float above = span.high[i] - row[i], below = row[i] - span.low[i];
  return above > below ? above : below;
}

// Appends the inputs with bound >= threshold to the list, ascending; it has room for count + kWidth.
inline int64_t list_candidates(const Span& span, const float* row, int64_t count, float threshold,
                               int32_t* list) {
  const V limit = all(threshold);
  int32_t* end = list;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    end = append_where_ge(bound_at(span, row, i), limit, static_cast<int32_t>(i), end);
  }
  for (; i < count; ++i) {
    *end = static_cast<int32_t>(i);
    end += bound_one(span, row, i) >= threshold;
  }
  return end - list;
}

constexpr int kMaxSeeds = 2 * kWidth;

// A few inputs with large bounds, the largest among them: the best of each residue class modulo
// kWidth, and the rest that does not fill a vector. Returns how many.
inline int list_seeds(const Span& span, const float* row, int64_t count, int32_t* seeds) {
  int num_seeds = 0;
  int64_t i = 0;
  if (count >= kWidth) {
    V best = bound_at(span, row, 0);
    V best_step = all(0.0f);
    for (i = kWidth; i + kWidth <= count; i += kWidth) {
      const V bound = bound_at(span, row, i);
      best_step = select_gt(bound, best, all(static_cast<float>(i)), best_step);
      best = max(best, bound);
    }
    float step[kWidth];
    store(step, best_step);
    for (int lane = 0; lane < kWidth; ++lane) {
      seeds[num_seeds++] = static_cast<int32_t>(step[lane]) + lane;
    }
  }
  for (; i < count; ++i) seeds[num_seeds++] = static_cast<int32_t>(i);
  return num_seeds;
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
