// How a block of threads walks over the inputs: the loop that all forward kernels share.
//
// A block has a tile of samples by outputs, a thread kThreadRows x kThreadCols pairs of it, which
// it keeps in registers. Stages of kDepth inputs pass through shared memory, kStages - 1 of them on
// their way while one is used:
//
//              outputs (tx + 8 c)              shared memory, a stage: [row][kDepth inputs + 4]
//            +--------------------+            The 4 spare words put the 8 rows that a quarter
//   samples  |  thread (tx, ty)   |            warp reads at once into different banks.
//  (ty+16 r) |  16 x 8 of them    |
//            +--------------------+
//
// Legend: B samples, I inputs and O outputs of one group; x (B, x_stride), w (O, I), out (B,
// out_stride).
#pragma once

#include "device.h"

namespace supnorm {

// One group of the operator, or all of them: block z moves the pointers to its own.
struct Problem {
  const float* x;
  const float* upper;  // upper ends of boxes whose lower ends are x; else null
  const float* w;
  int64 rows, outputs, inputs;
  int64 x_stride, out_stride;
  int64 stages_a_split;  // block y owns these stages
  const int* gate;       // null, or where the device says whether candidates alone are computed

  SUPNORM_DEVICE int64 first_output() const { return blockIdx.z * outputs; }
  SUPNORM_DEVICE int64 first_input() const { return blockIdx.z * inputs; }
};

// Whether the dense kernels have nothing to do.
SUPNORM_DEVICE bool is_sparse(const int* gate) { return gate != nullptr && *gate != 0; }

constexpr int kThreads = 128;

// kVector: 4 where rows start at multiples of 16 bytes, else 1. kOperands: 2 for boxes.
template <int kThreadRowsIn, int kThreadColsIn, int kVectorIn, int kOperandsIn = 1>
struct Tile {
  static constexpr int kThreadRows = kThreadRowsIn, kThreadCols = kThreadColsIn;
  static constexpr int kVector = kVectorIn, kOperands = kOperandsIn;
  static constexpr int kRows = 16 * kThreadRows, kCols = 8 * kThreadCols;
  static constexpr int kDepth = 16, kStages = 3, kStride = kDepth + 4;
  static constexpr int kStageFloats = (kOperands * kRows + kCols) * kStride;
};

SUPNORM_DEVICE int thread_col() { return threadIdx.x % 8; }
SUPNORM_DEVICE int thread_row() { return threadIdx.x / 8; }

// The tile of this block.
template <class T>
struct Place {
  int64 first_row, first_col;

  SUPNORM_DEVICE explicit Place(const Problem& problem) {
    const int64 row_tiles = (problem.rows + T::kRows - 1) / T::kRows;
    // Neighbouring blocks share their weights, which are the larger operand.
    first_row = blockIdx.x % row_tiles * T::kRows;
    first_col = blockIdx.x / row_tiles * T::kCols;
  }
  SUPNORM_DEVICE int64 row(int r) const { return first_row + thread_row() + 16 * r; }
  SUPNORM_DEVICE int64 col(int c) const { return first_col + thread_col() + 8 * c; }
};

// Starts copying kCount rows of one stage; what is outside the operand becomes 0.
template <class T, int kCount>
SUPNORM_DEVICE void copy_rows(float* to, const float* from, int64 stride, int64 rows_left,
                              int first_input, int inputs) {
  constexpr int kPieces = T::kDepth / T::kVector, kStep = kThreads / kPieces;
  constexpr int kRounds = (kCount + kStep - 1) / kStep;
  const int piece = threadIdx.x % kPieces * T::kVector, input = first_input + piece;
  const int first = threadIdx.x / kPieces;
  if (kCount % kStep != 0 && first >= kCount) return;
  const float* row_start = from + first * stride + input;
#pragma unroll
  for (int round = 0; round < kRounds; ++round, row_start += kStep * stride) {
    const int row = first + round * kStep;
    const bool is_inside = row < rows_left && input < inputs;
    copy_async<4 * T::kVector>(to + row * T::kStride + piece, is_inside ? row_start : from,
                               is_inside);
  }
}

template <class T>
SUPNORM_DEVICE void copy_stage(const Problem& problem, const Place<T>& place, int stage,
                               float* to) {
  const int inputs = static_cast<int>(problem.inputs), first = stage * T::kDepth;
  const int64 rows_left = problem.rows - place.first_row;
  const int64 cols_left = problem.outputs - place.first_col;
  const int64 x_at = place.first_row * problem.x_stride + problem.first_input();
  const int64 w_at = (problem.first_output() + place.first_col) * problem.inputs;
  copy_rows<T, T::kRows>(to, problem.x + x_at, problem.x_stride, rows_left, first, inputs);
  if constexpr (T::kOperands == 2) {
    copy_rows<T, T::kRows>(to + T::kRows * T::kStride, problem.upper + x_at, problem.x_stride,
                           rows_left, first, inputs);
  }
  copy_rows<T, T::kCols>(to + T::kOperands * T::kRows * T::kStride, problem.w + w_at,
                         problem.inputs, cols_left, first, inputs);
}

struct Nothing {
  SUPNORM_DEVICE void operator()(bool) const {}
};

// Calls use(stage in shared memory, its number) for the stages of this block's split, in order, and
// after every kStretch of them, and at the end, pause(whether it is the first pause).
template <int kStretch = 1 << 30, class T, class Use, class Pause = Nothing>
SUPNORM_DEVICE void for_each_stage(const Problem& problem, const Place<T>& place, const Use& use,
                                   const Pause& pause = {}) {
  constexpr int kEnd = T::kStages * T::kStageFloats;
  const int all = static_cast<int>((problem.inputs + T::kDepth - 1) / T::kDepth);
  const int first = static_cast<int>(blockIdx.y * problem.stages_a_split);
  const int last = min(all, first + static_cast<int>(problem.stages_a_split));
  float* shared = shared_memory();
  int to_fill = 0, to_use = 0;
  for (int stage = first; stage < first + T::kStages - 1; ++stage) {
    if (stage < last) copy_stage(problem, place, stage, shared + to_fill);
    commit_copies();
    to_fill += T::kStageFloats;
  }
#pragma unroll 1
  for (int stretch = first; stretch < last; stretch += kStretch) {
    const int stretch_end = last - stretch < kStretch ? last : stretch + kStretch;
#pragma unroll 1
    for (int stage = stretch; stage < stretch_end; ++stage) {
      wait_copies<T::kStages - 2>();
      // Behind it every thread's copies are there, and the slot to fill next is no longer in use.
      sync_block();
      if (stage + T::kStages - 1 < last) {
        copy_stage(problem, place, stage + T::kStages - 1, shared + to_fill);
      }
      commit_copies();
      use(shared + to_use, stage);
      to_fill = to_fill + T::kStageFloats == kEnd ? 0 : to_fill + T::kStageFloats;
      to_use = to_use + T::kStageFloats == kEnd ? 0 : to_use + T::kStageFloats;
    }
    pause(stretch == first);
  }
}

// Calls use(c, x, w) for four inputs at a time: x has them for the thread's rows (lower ends, then
// upper ends), w for its column c.
template <class T, class Use>
SUPNORM_DEVICE void for_each_quad(const float* stage, const Use& use) {
  constexpr int kFragments = T::kOperands * T::kThreadRows;
  const float* x_at = stage + thread_row() * T::kStride;
  const float* w_at = stage + (T::kOperands * T::kRows + thread_col()) * T::kStride;
#pragma unroll 1
  for (int k = 0; k < T::kDepth; k += 4) {
    float4 x[kFragments];
#pragma unroll
    for (int r = 0; r < kFragments; ++r) {
      x[r] = *reinterpret_cast<const float4*>(x_at + r * 16 * T::kStride + k);
    }
#pragma unroll
    for (int c = 0; c < T::kThreadCols; ++c) {
      use(c, x, *reinterpret_cast<const float4*>(w_at + c * 8 * T::kStride + k));
    }
  }
}

// Calls use(c, r, sample, offset in out) for the thread's pairs that exist.
template <class T, class Use>
SUPNORM_DEVICE void for_each_pair(const Problem& problem, const Place<T>& place, const Use& use) {
#pragma unroll
  for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
    for (int r = 0; r < T::kThreadRows; ++r) {
      const int64 row = place.row(r), col = place.col(c);
      if (row < problem.rows && col < problem.outputs) {
        use(c, r, row * problem.out_stride + problem.first_output() + col);
      }
    }
  }
}

}  // namespace supnorm
