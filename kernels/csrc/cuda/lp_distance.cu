// (sum_i |x_i - w_oi|^p)^(1/p).
//
// lp_distance_even: even p to 32, one pass of multiplications, t = x - w scaled by a power of two
// where the power needs it. lp_distance_power: any p, divided by the maxima that linf_distance
// found before. Both leave sums of the splits, which lp_distance_finish adds up; a sum
// out of float32's range is found there, and its pair is computed again by a whole warp.
#include "power.h"
#include "tiles.h"

namespace supnorm {

// After so many stages a sum moves to memory, in double precision. Each term may lose half a unit
// of the sum to rounding, of which the root leaves a p-th: small p need short sums.
constexpr int kLongSum = 4, kShortSum = 2;

struct LpArgs {
  Problem problem;
  double* sums;          // [split][group][tile][pair of a thread][thread]
  const float* plan;     // of the power; lp_distance_even has none
  const float* largest;  // maxima, (B, all outputs); likewise
  const float* scale;    // one number; lp_distance_even only
};

// This thread's first sum in memory; the next one is kThreads further on.
template <class T>
SUPNORM_DEVICE double* thread_sums(const LpArgs& a) {
  const int64 block =
      (static_cast<int64>(blockIdx.y) * gridDim.z + blockIdx.z) * gridDim.x + blockIdx.x;
  return a.sums + block * (T::kRows * T::kCols) + threadIdx.x;
}

template <class T>
using Sums = float[T::kThreadCols][T::kThreadRows];

template <class T>
SUPNORM_DEVICE void move_sums(double* to, bool is_first, Sums<T>& sum) {
#pragma unroll
  for (int c = 0; c < T::kThreadCols; ++c) {
#pragma unroll
    for (int r = 0; r < T::kThreadRows; ++r) {
      double* at = to + (c * T::kThreadRows + r) * kThreads;
      const double before = is_first ? 0.0 : *at;
      *at = before + sum[c][r];
      sum[c][r] = 0.0f;
    }
    sync_warp();  // the loads of all columns at once would not fit into the registers
  }
}

// Calls add(sums, stage in shared memory) for every stage and moves the sums from time to time.
template <int kStagesASum, class T, class Add>
SUPNORM_DEVICE void sum_stages(const LpArgs& a, const Place<T>& place, const Add& add) {
  Sums<T> sum = {};
  for_each_stage<kStagesASum>(
      a.problem, place, [&](const float* stage, int) { add(sum, stage); },
      [&](bool is_first) { move_sums<T>(thread_sums<T>(a), is_first, sum); });
}

template <int kP, bool kIsScaled, class T>
__global__ void __launch_bounds__(kThreads, T::kThreadCols == 8 ? 3 : 4)
    lp_distance_even(const LpArgs a) {
  if (is_sparse(a.problem.gate)) return;
  const Place<T> place(a.problem);
  const float scale = kIsScaled ? *a.scale : 1.0f;
  constexpr int kStages = kP < 8 ? kShortSum : kLongSum;
  sum_stages<kStages>(a, place, [&](Sums<T>& sum, const float* stage) {
    for_each_quad<T>(stage, [&](int c, const float4* x, const float4& w) {
      const float4 v = {w.x * scale, w.y * scale, w.z * scale, w.w * scale};
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) {
        float s = sum[c][r];
        s = add_power<kP>(s, kIsScaled ? fmaf(x[r].x, scale, -v.x) : x[r].x - w.x);
        s = add_power<kP>(s, kIsScaled ? fmaf(x[r].y, scale, -v.y) : x[r].y - w.y);
        s = add_power<kP>(s, kIsScaled ? fmaf(x[r].z, scale, -v.z) : x[r].z - w.z);
        s = add_power<kP>(s, kIsScaled ? fmaf(x[r].w, scale, -v.w) : x[r].w - w.w);
        sum[c][r] = s;
      }
    });
  });
}

template <int kDegree, class T>
__global__ void __launch_bounds__(kThreads, kDegree == 0 ? 3 : 4)
    lp_distance_power(const LpArgs a) {
  if (is_sparse(a.problem.gate)) return;
  const Place<T> place(a.problem);
  const Power<kDegree> power(a.plan);
  const float top = a.plan[kPlanTop];
  float inverse[T::kThreadCols][T::kThreadRows] = {};
  for_each_pair(a.problem, place,
                [&](int c, int r, int64 at) { inverse[c][r] = inverse_of(a.largest[at], top); });
  constexpr int kStages = kDegree == 0 ? kShortSum : kLongSum;
  sum_stages<kStages>(a, place, [&](Sums<T>& sum, const float* stage) {
    for_each_quad<T>(stage, [&](int c, const float4* x, const float4& w) {
#pragma unroll
      for (int r = 0; r < T::kThreadRows; ++r) {
        sum[c][r] += power(x[r].x - w.x, inverse[c][r]);
        sum[c][r] += power(x[r].y - w.y, inverse[c][r]);
        sum[c][r] += power(x[r].z - w.z, inverse[c][r]);
        sum[c][r] += power(x[r].w - w.w, inverse[c][r]);
      }
    });
  });
}

struct FinishArgs {
  Problem problem;
  const double* sums;
  const float* largest;  // null after lp_distance_even
  const float* scale;    // null where nothing was scaled
  float* distance;
  const float* plan;  // null after lp_distance_even
  float p;            // then
  int num_splits;
  int64 sums_a_split;
  int thread_rows, thread_cols;  // of the tile that made the sums
};

// Where lp_distance_* keeps the sum of a pair of the first split.
SUPNORM_DEVICE int64 place_of_sum(const FinishArgs& a, int64 row, int64 output) {
  const int tile_rows = 16 * a.thread_rows, tile_cols = 8 * a.thread_cols;
  const int64 row_tiles = (a.problem.rows + tile_rows - 1) / tile_rows;
  const int64 col_tiles = (a.problem.outputs + tile_cols - 1) / tile_cols;
  const int64 group = output / a.problem.outputs, col = output % a.problem.outputs;
  const int64 block = (group * col_tiles + col / tile_cols) * row_tiles + row / tile_rows;
  const int r = static_cast<int>(row % tile_rows), c = static_cast<int>(col % tile_cols);
  const int pair = c / 8 * a.thread_rows + r / 16, thread = r % 16 * 8 + c % 8;
  return (block * a.thread_rows * a.thread_cols + pair) * kThreads + thread;
}

// A thread a pair.
__global__ void __launch_bounds__(kThreads) lp_distance_finish(const FinishArgs a) {
  if (is_sparse(a.problem.gate)) return;
  const Problem& problem = a.problem;
  const float p = a.plan != nullptr ? a.plan[kPlanP] : a.p;
  const int64 pairs = problem.rows * problem.out_stride;
  const int64 first = static_cast<int64>(blockIdx.x) * kThreads;
  const int64 at = first + threadIdx.x;
  const bool is_pair = at < pairs;
  const float top = a.plan != nullptr ? a.plan[kPlanTop] : 1.0f;
  float sum = 1.0f, inverse = 1.0f;
  if (is_pair) {
    const double* sums = a.sums + place_of_sum(a, at / problem.out_stride, at % problem.out_stride);
    double total = *sums;
    for (int split = 1; split < a.num_splits; ++split) total += sums[split * a.sums_a_split];
    sum = static_cast<float>(total);
    if (a.scale != nullptr) inverse = *a.scale;
    if (a.largest != nullptr) inverse = inverse_of(a.largest[at], top);
  }
  const bool is_good = sum >= kSmallestSum && sum <= kLargestSum && inverse != 0.0f;
  float distance = is_good ? root(sum, p) * top / inverse : 0.0f;
  unsigned bad = vote(!is_good);
  while (bad != 0) {
    const int lane = lowest_bit(bad);
    bad &= bad - 1;
    const int64 pair = first + threadIdx.x / 32 * 32 + lane;
    const int64 row = pair / problem.out_stride, output = pair % problem.out_stride;
    const float exact = exact_distance(
        problem.x + row * problem.x_stride + output / problem.outputs * problem.inputs,
        problem.w + output * problem.inputs, static_cast<int>(problem.inputs), p);
    if (static_cast<int>(threadIdx.x % 32) == lane) distance = exact;
  }
  if (is_pair) a.distance[at] = distance;
}

struct ScaleArgs {
  Problem problem;
  float* scale;
  float p;
};

// A power of two that brings the sums of typical pairs to the middle of float32's range. A block of
// 32 warps, each the maximum of one pair; all give the same scale, for any order.
__global__ void __launch_bounds__(1024) lp_distance_scale(const ScaleArgs a) {
  const Problem& problem = a.problem;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64 row = problem.rows * warp / 32, output = problem.out_stride * warp / 32;
  const float* x = problem.x + row * problem.x_stride + output / problem.outputs * problem.inputs;
  const float* w = problem.w + output * problem.inputs;
  int largest = 0;
  for (int i = lane; i < problem.inputs; i += 32) {
    const int bits = bits_of(fabsf(x[i] - w[i]));
    if (bits < 0x7f800000) largest = max(largest, bits);
  }
  int* shared = reinterpret_cast<int*>(shared_memory());
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) largest = max(largest, shuffle_xor(largest, mask));
  if (lane == 0) shared[warp] = largest;
  sync_block();
  if (threadIdx.x != 0) return;
  for (int other = 1; other < 32; ++other) largest = max(largest, shared[other]);
  // Their largest terms become about 2^60: room for 2^14 inputs, and for pairs larger or smaller.
  const int exponent = (largest >> 23) - 126;
  const int room = static_cast<int>(60.0f / a.p);
  *a.scale = from_bits((max(-126, min(126, room - exponent)) + 127) << 23);
}

}  // namespace supnorm
