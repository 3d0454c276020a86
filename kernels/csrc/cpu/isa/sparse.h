// Maxima over one block of lanes and one broadcast row, looking at candidate inputs only.
#pragma once

#include "isa/candidates.h"
#include "isa/memory.h"
#include "isa/tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// A block of lanes: packed[i][lane], and what it spans.
struct LaneBlock {
  const float* packed;
  Span span;
};

inline LaneBlock lane_block(const ForwardArgs& a, int64_t block) {
  const int64_t n = a.problem.num_inputs;
  const float* ends = a.spans + block * 2 * n;
  return {a.packed + block * kLanes * n, {ends, ends + n}};
}

// max[v] <- max over the listed inputs of |lane - row|, starting from max[v], for the lanes from
// `lane`.
__attribute__((always_inline)) inline void largest_of_list(const LaneBlock& block, int lane,
                                                           const float* row, const int32_t* list,
                                                           int64_t count, V* max) {
  const float* packed = block.packed + lane;
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = list[k];
    const V r = all(row[i]);
    for (int v = 0; v < kVectors; ++v) {
      max[v] = max_abs(max[v], difference(load(packed + i * kLanes + v * kWidth), r));
    }
  }
}

// Ends between which the maxima of all lanes lie.
struct Reach {
  float at_least, at_most;
};

// From the exact differences of some seeds, and the largest bound.
template <int kSeedVectors = 1>
inline Reach reach_of(const LaneBlock& block, const float* row, int64_t num_inputs) {
  int32_t seeds[kMaxSeeds<kSeedVectors>];
  const int num_seeds = list_seeds<kSeedVectors>(block.span, row, num_inputs, seeds);
  V smallest = all(__builtin_inff());
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    V max[kVectors];
    for (int v = 0; v < kVectors; ++v) max[v] = all(0.0f);
    largest_of_list(block, lane, row, seeds, num_seeds, max);
    for (int v = 0; v < kVectors; ++v) smallest = min(smallest, max[v]);
  }
  float at_most = 0;
  for (int k = 0; k < num_seeds; ++k) {
    const float bound = bound_one(block.span, row, seeds[k]);
    at_most = bound > at_most ? bound : at_most;
  }
  return {smallest_lane(smallest), at_most};
}

template <int kSeedVectors>
inline float maximum_at_least(const LaneBlock& block, const float* row, int64_t num_inputs) {
  return reach_of<kSeedVectors>(block, row, num_inputs).at_least;
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
