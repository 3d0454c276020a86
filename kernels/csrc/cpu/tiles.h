// The loop that the forward kernels share: blocks of lanes by groups of broadcast rows.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kVectors = 2;  // of a tile, along the lanes
constexpr int kLanes = kVectors * kWidth;

struct Rows {
  const float* data;
  int64_t count, stride;
};

// Where the result for (lane row, broadcast row) lies.
struct OutStrides {
  int64_t lane, row;
};

inline int64_t num_lane_rows(const ForwardArgs& a) {
  return a.batch_lanes ? a.problem.num_rows : a.problem.num_outputs;
}

inline Rows broadcast_rows(const ForwardArgs& a) {
  const int64_t count = a.batch_lanes ? a.problem.num_outputs : a.problem.num_rows;
  return {a.broadcast, count, a.broadcast_stride};
}

inline OutStrides out_strides(const ForwardArgs& a) {
  return a.batch_lanes ? OutStrides{a.problem.out_stride, 1} : OutStrides{1, a.problem.out_stride};
}

// One tile: kLanes lane rows from lane_begin (num_lanes of them real) by num_rows rows from row_begin.
struct TilePlace {
  int64_t lane_begin, row_begin;
  int num_lanes, num_rows;
};

// Calls tile(packed block, row indices, place) for every tile of tasks [begin, end). kRows row indices
// are given always: past the end the last row is repeated, and its results are not to be stored.
template <int kRows, class Tile>
inline void for_each_tile(const ForwardArgs& a, int64_t begin, int64_t end, const Tile& tile) {
  const int64_t lane_rows = num_lane_rows(a);
  const int64_t count = broadcast_rows(a).count;
  const int64_t tasks_a_block = (count + kTaskRows - 1) / kTaskRows;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task / tasks_a_block;
    const int64_t first = task % tasks_a_block * kTaskRows;
    const int64_t last = first + kTaskRows < count ? first + kTaskRows : count;
    const int64_t lanes_left = lane_rows - block * kLanes;
    for (int64_t row = first; row < last; row += kRows) {
      int64_t rows[kRows];
      for (int r = 0; r < kRows; ++r) rows[r] = row + r < last ? row + r : last - 1;
      const TilePlace place = {block * kLanes, row,
                               static_cast<int>(lanes_left < kLanes ? lanes_left : kLanes),
                               static_cast<int>(last - row < kRows ? last - row : kRows)};
      tile(a.packed + block * kLanes * a.problem.num_inputs, rows, place);
    }
  }
}

// Stores result[r][lane] of a tile.
template <class T>
inline void store_tile(const ForwardArgs& a, const TilePlace& place, const float* result, T* out) {
  const OutStrides strides = out_strides(a);
  for (int lane = 0; lane < place.num_lanes; ++lane) {
    T* target = out + (place.lane_begin + lane) * strides.lane + place.row_begin * strides.row;
    for (int r = 0; r < place.num_rows; ++r) {
      target[r * strides.row] = static_cast<T>(result[r * kLanes + lane]);
    }
  }
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
