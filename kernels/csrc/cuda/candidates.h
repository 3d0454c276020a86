// Which inputs can matter to an output, for 128 samples at once.
//
// Per input k a block of samples spans [low_k, high_k]. For an output's weights w
//   |x_k - w_k| <= bound_k = max(high_k - w_k, w_k - low_k)      for every sample, rounding
//   included:
// rounding to nearest is monotone, so the rounded difference is at most the rounded bound. Inputs
// whose bound is below what every sample's result needs are left out; the rest are candidates, one
// bit each. NaN in an operand makes a bound NaN, and that is never left out.
#pragma once

#include "device.h"

namespace supnorm {

constexpr int kThreads = 128, kWarp = 32;
constexpr int kBlockRows = 128;  // samples of a block: 4 a lane

struct CandidateArgs {
  const float* x;               // (B, x_stride)
  const float* w;               // (all outputs, I)
  float* turned;                // [input of all groups][sample, padded]
  float *low, *high;            // [block of samples][input of all groups]
  unsigned* bits;               // [block of samples][output][word], or with the last two exchanged
  uint64* count;                // candidates among those that were sampled
  int* gate;                    // 1 where candidates alone are to be computed
  const float* distance;        // backward: (B, out_stride)
  int64 rows, outputs, inputs;  // outputs and inputs of a group
  int64 x_stride, out_stride, padded_rows;
  int64 words;        // of 32 inputs of a group
  int64 output_step;  // only every so manieth output is looked at, to decide
  const float* plan;  // of the power, with the share of the deciding difference that an input
                      // has to reach; null at infinity, where it has to reach all of it
  float most;         // share of candidates up to which they are computed alone
};

SUPNORM_DEVICE int lane_index() { return threadIdx.x % kWarp; }

SUPNORM_DEVICE void load_four(const float* from, float* to) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

// Calls use(input, its weight) for the set bits among `words` words, in ascending order, with all
// lanes of the warp.
template <class Use>
SUPNORM_DEVICE void for_each_candidate(const unsigned* bits, int words, const float* w, int inputs,
                                       const Use& use) {
  const int lane = lane_index();
  for (int first = 0; first < words; first += kWarp) {
    const unsigned mine = first + lane < words ? bits[first + lane] : 0;
    unsigned left = vote(mine != 0);
    while (left != 0) {
      const int source = lowest_bit(left);
      left &= left - 1;
      auto word = static_cast<unsigned>(shuffle_from(static_cast<int>(mine), source));
      const int start = (first + source) * 32;
      const float weights = start + lane < inputs ? w[start + lane] : 0.0f;
      while (word != 0) {
        const int bit = lowest_bit(word);
        word &= word - 1;
        use(start + bit, shuffle_from(weights, bit));
      }
    }
  }
}

}  // namespace supnorm
