// A block of rows laid out for vectors that run across rows.
#pragma once

#include "isa/tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// Rows [block * kLanes, ...) of a matrix, in the given order, to target[column][lane], filled up
// with the last row, and the ends of what the lanes span in every column. Columns go by in strips
// that fit the L1 cache.
template <int kLanes>
inline void pack_block(const float* source, int64_t rows, int64_t columns, int64_t stride,
                       const int32_t* order, float scale, int64_t block, float* target, float* low,
                       float* high) {
  constexpr int64_t kStrip = 16;
  for (int64_t first = 0; first < columns; first += kStrip) {
    const int64_t last = first + kStrip < columns ? first + kStrip : columns;
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t row = block * kLanes + lane;
      const float* from = source + row_at(order, row < rows ? row : rows - 1) * stride;
      for (int64_t c = first; c < last; ++c) target[c * kLanes + lane] = from[c] * scale;
    }
    for (int64_t c = first; c < last; ++c) {
      V smallest = load(target + c * kLanes), largest = smallest;
      for (int v = 1; v < kLanes / kWidth; ++v) {
        const V lanes = load(target + c * kLanes + v * kWidth);
        smallest = min(smallest, lanes);
        largest = max(largest, lanes);
      }
      low[c] = smallest_lane(smallest);
      high[c] = largest_lane(largest);
    }
  }
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
