// Which inputs can matter to an output, for a whole block of lanes at once.
//
// Per input i a block of lane rows spans [low_i, high_i]. For a broadcast row r
//   |lane_i - r_i| <= bound_i = max(high_i - r_i, r_i - low_i)      for every lane, rounding
//   included:
// rounding to nearest is monotone, so the rounded difference is at most the rounded bound. Inputs
// with bound_i below a threshold that no lane's deciding difference falls below need not be looked
// at.
#pragma once

#include "isa/vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// Ends of a block of lanes per input.
struct Span {
  const float *low, *high;
};

inline wide::V bound_at(const Span& span, const float* row, int64_t i) {
  const wide::V r = wide::load(row + i);
  return wide::max(wide::load(span.high + i) - r, r - wide::load(span.low + i));
}

inline float bound_one(const Span& span, const float* row, int64_t i) {
  const float above = span.high[i] - row[i], below = row[i] - span.low[i];
  return above > below ? above : below;
}

// Room that a list of candidates among `count` inputs needs.
inline int64_t list_room(int64_t count) { return count + wide::kWidth; }

// Where bound >= limit.
inline wide::Mask reaches(Span span, const float* row, int64_t i, wide::V limit) {
  const wide::V r = wide::load(row + i);
  return wide::either_ge(wide::load(span.high + i) - r, r - wide::load(span.low + i), limit);
}

// Puts the inputs with bound >= threshold on the list, ascending, where asked without those that
// have bound >= end, too; returns how many.
template <bool kHasEnd = false>
inline int64_t list_candidates(Span span, const float* row, int64_t count, float threshold,
                               int32_t* list, float end = 0.0f) {
  const wide::V limit = wide::all(threshold), end_limit = wide::all(end);
  const wide::I step = wide::all_int(wide::kWidth);
  wide::I inputs = wide::lane_numbers();
  int32_t* next = list;
  int64_t i = 0;
  for (; i + wide::kWidth <= count; i += wide::kWidth) {
    wide::Mask listed = reaches(span, row, i, limit);
    if (kHasEnd) listed &= ~reaches(span, row, i, end_limit);
    next = wide::append_where(listed, inputs, next);
    inputs = wide::add_int(inputs, step);
  }
  for (; i < count; ++i) {
    const float bound = bound_one(span, row, i);
    *next = static_cast<int32_t>(i);
    next += bound >= threshold && !(kHasEnd && bound >= end);
  }
  return next - list;
}

template <int kSeedVectors>
constexpr int kMaxSeeds = 2 * kSeedVectors * wide::kWidth;

// A few inputs with large bounds, the largest among them: the best of each residue class modulo
// kSeedVectors vectors, and the rest that does not fill them. Returns how many.
template <int kSeedVectors>
inline int list_seeds(const Span& span, const float* row, int64_t count, int32_t* seeds) {
  constexpr int kWide = wide::kWidth, kStep = kSeedVectors * kWide;
  int num_seeds = 0;
  int64_t i = 0;
  if (count >= kStep) {
    wide::V best[kSeedVectors], best_step[kSeedVectors];
    for (int v = 0; v < kSeedVectors; ++v) best[v] = best_step[v] = wide::all(0.0f);
    for (i = 0; i + kStep <= count; i += kStep) {
      for (int v = 0; v < kSeedVectors; ++v) {
        const wide::V bound = bound_at(span, row, i + v * kWide);
        best_step[v] =
            wide::select_gt(bound, best[v], wide::all(static_cast<float>(i)), best_step[v]);
        best[v] = wide::max(best[v], bound);
      }
    }
    for (int v = 0; v < kSeedVectors; ++v) {
      float step[kWide];
      wide::store(step, best_step[v]);
      for (int lane = 0; lane < kWide; ++lane) {
        seeds[num_seeds++] = static_cast<int32_t>(step[lane]) + v * kWide + lane;
      }
    }
  }
  for (; i < count; ++i) seeds[num_seeds++] = static_cast<int32_t>(i);
  return num_seeds;
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
