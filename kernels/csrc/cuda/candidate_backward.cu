// Gradients of lp_distance from candidates alone (candidates.h).
//
// A block of threads owns 16 inputs: entries of both gradients are its own, so nothing is atomic.
// It takes the blocks of samples one after the other; its warps share the outputs, each with sums
// of its own for grad_x, added up in one order at the end of a block of samples.
#include "candidates.h"
#include "power.h"

namespace supnorm {

constexpr int kInputs = 16;
constexpr int kWarps = kThreads / kWarp;

struct CandidateBackwardArgs {
  CandidateArgs candidates;
  const float* factors;  // of lp_distance_backward, samples in a row
  const float* plan;
  float* grad_x;  // or null
  float* grad_w;  // zeros, or null
  int64 padded_outputs;
};

// One block of samples of one group's 16 inputs.
struct Strip {
  int64 sample_block, group, first_input;
  int num_inputs;
};

// Adds one output's gradients; returns in lane k that of weight k.
template <int kDegree>
SUPNORM_DEVICE float add_output(const CandidateBackwardArgs& a, const Power<kDegree>& power,
                                const Strip& strip, int64 output, unsigned bits, const float* x,
                                float* grad_x) {
  const CandidateArgs& candidates = a.candidates;
  const int lane = lane_index();
  const int64 group_floats = a.padded_outputs * candidates.padded_rows;
  const float* factor = a.factors + strip.group * group_floats + output * candidates.padded_rows +
                        strip.sample_block * kBlockRows + lane * 4;
  float grad[4], inverse[4];
  load_four(factor, grad);
  load_four(factor + gridDim.z * group_floats, inverse);
  const float* row = candidates.w + (strip.group * candidates.outputs + output) * candidates.inputs;
  const float weights = lane < strip.num_inputs ? row[strip.first_input + lane] : 0.0f;
  float result = 0.0f;
  while (bits != 0) {
    const int k = lowest_bit(bits);
    bits &= bits - 1;
    const float w = shuffle_from(weights, k);
    float values[4], sums[4], total = 0.0f;
    load_four(x + k * kBlockRows + lane * 4, values);
    load_four(grad_x + k * kBlockRows + lane * 4, sums);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const float t = values[r] - w;
      const int sign = bits_of(t) & static_cast<int>(0x80000000u);
      const float flow = grad[r] * from_bits(bits_of(power(t, inverse[r])) | sign);
      sums[r] += flow;
      total += flow;
    }
    *reinterpret_cast<float4*>(grad_x + k * kBlockRows + lane * 4) =
        make_float4(sums[0], sums[1], sums[2], sums[3]);
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
    if (lane == k) result = total;
  }
  return result;
}

// All outputs that are this warp's, of one strip.
template <int kDegree>
SUPNORM_DEVICE void add_outputs(const CandidateBackwardArgs& a, const Power<kDegree>& power,
                                const Strip& strip, const float* x, float* grad_x) {
  const CandidateArgs& candidates = a.candidates;
  const int lane = lane_index(), warp = threadIdx.x / kWarp;
  const int64 word = strip.sample_block * candidates.words + strip.first_input / 32;
  const unsigned* bits =
      candidates.bits + word * candidates.out_stride + strip.group * candidates.outputs;
  const int shift = static_cast<int>(strip.first_input % 32);
  for (int64 first = warp * kWarp; first < candidates.outputs; first += kThreads) {
    const bool is_output = first + lane < candidates.outputs;
    const unsigned mine = is_output ? bits[first + lane] >> shift & 0xffffu : 0;
    unsigned left = vote(mine != 0);
    while (left != 0) {
      const int source = lowest_bit(left);
      left &= left - 1;
      const auto marked = static_cast<unsigned>(shuffle_from(static_cast<int>(mine), source));
      const int64 output = first + source;
      const float sum = add_output(a, power, strip, output, marked, x, grad_x);
      if (a.grad_w != nullptr && (marked >> lane & 1u) != 0) {
        float* row = a.grad_w + (strip.group * candidates.outputs + output) * candidates.inputs;
        row[strip.first_input + lane] -= sum;
      }
    }
  }
}

template <int kDegree>
__global__ void __launch_bounds__(kThreads, 4) candidate_backward(const CandidateBackwardArgs a) {
  const CandidateArgs& candidates = a.candidates;
  if (*candidates.gate == 0) return;
  const Power<kDegree> power(a.plan);
  float* x = shared_memory();              // [input][sample]
  float* sums = x + kInputs * kBlockRows;  // [warp][input][sample]
  const int64 first_input = static_cast<int64>(blockIdx.x) * kInputs;
  const int left =
      static_cast<int>(min(candidates.inputs - first_input, static_cast<int64>(kInputs)));
  Strip strip = {0, blockIdx.z, first_input, left};
  for (; strip.sample_block < candidates.padded_rows / kBlockRows; ++strip.sample_block) {
    const int64 first_row = strip.sample_block * kBlockRows;
    const float* turned = candidates.turned +
                          (strip.group * candidates.inputs + first_input) * candidates.padded_rows +
                          first_row;
    for (int k = 0; k < kInputs; ++k) {
      const bool is_input = k < strip.num_inputs;
      x[k * kBlockRows + threadIdx.x] =
          is_input ? turned[k * candidates.padded_rows + threadIdx.x] : 0.0f;
      for (int warp = 0; warp < kWarps; ++warp) {
        sums[(warp * kInputs + k) * kBlockRows + threadIdx.x] = 0.0f;
      }
    }
    sync_block();
    add_outputs(a, power, strip, x, sums + threadIdx.x / kWarp * kInputs * kBlockRows);
    sync_block();
    const int64 row = first_row + threadIdx.x;
    for (int k = 0; k < strip.num_inputs; ++k) {
      float sum = 0.0f;
      for (int warp = 0; warp < kWarps; ++warp) {
        sum += sums[(warp * kInputs + k) * kBlockRows + threadIdx.x];
      }
      if (a.grad_x != nullptr && row < candidates.rows) {
        a.grad_x[row * candidates.x_stride + strip.group * candidates.inputs + first_input + k] =
            sum;
      }
    }
  }
}

}  // namespace supnorm
