// The loop that the forward kernels share: blocks of lanes by groups of broadcast rows.
#pragma once

#include "host/kernels.h"
#include "isa/vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kLanes = 64;   // rows side by side in a packed operand, whatever the vectors
constexpr int kVectors = 4;  // that a tile takes along them at a time
constexpr int kPassLanes = kVectors * kWidth;
static_assert(kLanes % kPassLanes == 0, "a block of lanes is a whole number of passes");

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

// One tile: kLanes lane rows from lane_begin (num_lanes of them real) by num_rows rows from
// row_begin.
struct TilePlace {
  int64_t lane_begin, row_begin;
  int num_lanes, num_rows;
};

// A task: some broadcast rows against one block of lanes.
struct Task {
  int64_t block, first_row, last_row;
};

inline Task task_at(const ForwardArgs& a, int64_t index) {
  const int64_t count = broadcast_rows(a).count;
  const int64_t tasks_a_block = (count + kTaskRows - 1) / kTaskRows;
  const int64_t first = index % tasks_a_block * kTaskRows;
  return {index / tasks_a_block, first, first + kTaskRows < count ? first + kTaskRows : count};
}

// Calls tile(row indices, place) for every tile of a task. kRows row indices are given always: past
// the end the last row is repeated, and its results are not to be stored.
template <int kRows, class Tile>
inline void for_each_tile(const ForwardArgs& a, const Task& task, const Tile& tile) {
  const int64_t lanes_left = num_lane_rows(a) - task.block * kLanes;
  for (int64_t row = task.first_row; row < task.last_row; row += kRows) {
    const int64_t rows_left = task.last_row - row;
    int64_t rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = r < rows_left ? row + r : task.last_row - 1;
    tile(rows, TilePlace{task.block * kLanes, row,
                         static_cast<int>(lanes_left < kLanes ? lanes_left : kLanes),
                         static_cast<int>(rows_left < kRows ? rows_left : kRows)});
  }
}

// Sample and output of (lane row, broadcast row).
struct Pair {
  int64_t sample, output;
};

inline Pair pair_at(const ForwardArgs& a, const TilePlace& place, int lane, int r) {
  const int64_t lane_row = row_at(a.order, place.lane_begin + lane), row = place.row_begin + r;
  return a.batch_lanes ? Pair{lane_row, row} : Pair{row, lane_row};
}

// Stores result[r][lane] of a tile.
inline void store_tile(const ForwardArgs& a, const TilePlace& place, const float* result,
                       float* out) {
  const OutStrides strides = out_strides(a);
  for (int lane = 0; lane < place.num_lanes; ++lane) {
    float* target = out + row_at(a.order, place.lane_begin + lane) * strides.lane +
                    place.row_begin * strides.row;
    for (int r = 0; r < place.num_rows; ++r) target[r * strides.row] = result[r * kLanes + lane];
  }
}

// The same for integers whose bits the floats carry.
inline void store_tile_bits(const ForwardArgs& a, const TilePlace& place, const float* result,
                            int32_t* out) {
  static_assert(sizeof(float) == sizeof(int32_t), "an index takes the place of a float");
  store_tile(a, place, result, reinterpret_cast<float*>(out));
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
