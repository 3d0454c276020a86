// Maxima over one block of lanes and one broadcast row, looking at candidate inputs only.
#pragma once

#include "candidates.h"
#include "tiles.h"

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

// max[v] <- max over the listed inputs of |lane - row|, starting from max[v].
inline void largest_of_list(const LaneBlock& block, const float* row, const int32_t* list,
                            int64_t count, V* max) {
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = list[k];
    const V r = all(row[i]);
    for (int v = 0; v < kVectors; ++v) {
      max[v] = max_abs(max[v], load(block.packed + i * kLanes + v * kWidth) - r);
    }
  }
}

inline float smallest_of(const V* values) {
  return smallest_lane(min(min(values[0], values[1]), min(values[2], values[3])));
}

// A number that no lane's maximum is below, from a few exact differences.
inline float maximum_at_least(const LaneBlock& block, const float* row, int64_t num_inputs) {
  int32_t seeds[kMaxSeeds];
  const int num_seeds = list_seeds(block.span, row, num_inputs, seeds);
  V max[kVectors] = {all(0.0f), all(0.0f), all(0.0f), all(0.0f)};
  largest_of_list(block, row, seeds, num_seeds, max);
  return smallest_of(max);
}

// Lists of candidates of one thread's kernel; grows, and is kept by the caller for a run of tasks.
class List {
 public:
  explicit List(int64_t count) : data_(new int32_t[count + kWidth]) {}
  ~List() { delete[] data_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;
  int32_t* data() const { return data_; }

 private:
  int32_t* data_;
};

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
