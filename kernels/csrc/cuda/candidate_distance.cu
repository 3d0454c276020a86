// Distances from candidates alone (candidates.h). A warp has one output and 128 samples, 4 a lane.
#include "candidates.h"
#include "power.h"

namespace supnorm {

struct CandidateDistanceArgs {
  CandidateArgs candidates;
  float* distance;
  int* argmax;        // or null
  const float* plan;  // of the power; null at infinity
};

struct Warp {
  int64 output, row;
  const float *x, *w;  // x: [input][sample, padded], from the first of this lane's samples
  const unsigned* bits;

  SUPNORM_DEVICE Warp(const CandidateArgs& a, int64 at) : output(at) {
    const int64 sample_block = blockIdx.y;
    row = sample_block * kBlockRows + lane_index() * 4;
    x = a.turned + output / a.outputs * a.inputs * a.padded_rows + row;
    w = a.w + output * a.inputs;
    bits = a.bits + (sample_block * a.out_stride + output) * a.words;
  }
};

SUPNORM_DEVICE int64 output_of_warp() {
  return static_cast<int64>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
}

template <bool kWithInput>
SUPNORM_DEVICE void largest_of_candidates(const CandidateArgs& a, const Warp& warp,
                                          int (&largest)[4], int (&input)[4]) {
  const int words = static_cast<int>(a.words), inputs = static_cast<int>(a.inputs);
#pragma unroll
  for (int r = 0; r < 4; ++r) largest[r] = -1, input[r] = 0;
  for_each_candidate(warp.bits, words, warp.w, inputs, [&](int k, float w) {
    float x[4];
    load_four(warp.x + k * a.padded_rows, x);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int size = bits_of(fabsf(x[r] - w));
      if (kWithInput && size > largest[r]) input[r] = k;
      largest[r] = max(largest[r], size);
    }
  });
}

// At infinity; exactly what the dense kernels find.
template <bool kWithInput>
__global__ void __launch_bounds__(kThreads) candidate_linf(const CandidateDistanceArgs a) {
  const CandidateArgs& candidates = a.candidates;
  const int64 output = output_of_warp();
  if (*candidates.gate == 0 || output >= candidates.out_stride) return;
  const Warp warp(candidates, output);
  int largest[4], input[4];
  largest_of_candidates<kWithInput>(candidates, warp, largest, input);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (warp.row + r >= candidates.rows) continue;
    const int64 at = (warp.row + r) * candidates.out_stride + output;
    a.distance[at] = from_bits(largest[r]);
    if (kWithInput) a.argmax[at] = input[r];
  }
}

// Any p: the largest difference first, which is exact, then the powers.
template <int kDegree>
__global__ void __launch_bounds__(kThreads) candidate_power(const CandidateDistanceArgs a) {
  const CandidateArgs& candidates = a.candidates;
  const int64 output = output_of_warp();
  if (*candidates.gate == 0 || output >= candidates.out_stride) return;
  const Warp warp(candidates, output);
  const int words = static_cast<int>(candidates.words),
            inputs = static_cast<int>(candidates.inputs);
  int largest[4], unused[4];
  largest_of_candidates<false>(candidates, warp, largest, unused);
  const Power<kDegree> power(a.plan);
  const float top = a.plan[kPlanTop];
  float inverse[4], sum[4] = {}, lost[4] = {};  // lost: what the last addition rounded away
#pragma unroll
  for (int r = 0; r < 4; ++r) inverse[r] = inverse_of(from_bits(largest[r]), top);
  for_each_candidate(warp.bits, words, warp.w, inputs, [&](int k, float w) {
    float x[4];
    load_four(warp.x + k * candidates.padded_rows, x);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float term = power(x[r] - w, inverse[r]) - lost[r], before = sum[r];
      sum[r] = before + term;
      lost[r] = (sum[r] - before) - term;
    }
  });
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const bool is_row = warp.row + r < candidates.rows;
    const bool is_good = sum[r] >= kSmallestSum && sum[r] <= kLargestSum && inverse[r] != 0.0f;
    float distance = is_good ? root(sum[r], a.plan[kPlanP]) * top / inverse[r] : 0.0f;
    unsigned bad = vote(is_row && !is_good);
    while (bad != 0) {
      const int lane = lowest_bit(bad);
      bad &= bad - 1;
      const int64 row = blockIdx.y * static_cast<int64>(kBlockRows) + lane * 4 + r;
      const float* x = candidates.x + row * candidates.x_stride +
                       output / candidates.outputs * candidates.inputs;
      const float exact = exact_distance(x, warp.w, inputs, a.plan[kPlanP]);
      if (lane_index() == lane) distance = exact;
    }
    if (is_row) a.distance[(warp.row + r) * candidates.out_stride + output] = distance;
  }
}

}  // namespace supnorm
