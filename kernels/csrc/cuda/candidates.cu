// Finds candidates (candidates.h) and decides on the device whether they are few enough.
#include "candidates.h"
#include "power.h"

namespace supnorm {

// Turns x and takes the ends of its blocks. A block of threads has 32 inputs x 128 samples.
__global__ void __launch_bounds__(kThreads) turn_samples(const CandidateArgs a) {
  float* tile = shared_memory();  // [input][sample, 129]
  const int64 first_row = static_cast<int64>(blockIdx.y) * kBlockRows;
  const int64 first_input = static_cast<int64>(blockIdx.x) * 32;
  const int lane = lane_index(), warp = threadIdx.x / kWarp;
  for (int r = warp; r < kBlockRows; r += kThreads / kWarp) {
    // Behind the last sample it comes again: the ends stay its own.
    const int64 row = min(first_row + r, a.rows - 1), input = first_input + lane;
    tile[lane * 129 + r] = input < a.x_stride ? a.x[row * a.x_stride + input] : 0.0f;
  }
  sync_block();
  for (int i = warp; i < 32 && first_input + i < a.x_stride; i += kThreads / kWarp) {
    float low = tile[i * 129 + lane], high = low;
    float* turned = a.turned + (first_input + i) * a.padded_rows + first_row;
    for (int r = lane; r < kBlockRows; r += kWarp) {
      const float v = tile[i * 129 + r];
      turned[r] = v;
      low = v < low || v != v ? v : low;
      high = v > high || v != v ? v : high;
    }
    for (int mask = 16; mask > 0; mask /= 2) {
      const float other_low = shuffle_xor(low, mask), other_high = shuffle_xor(high, mask);
      low = other_low < low || other_low != other_low ? other_low : low;
      high = other_high > high || other_high != other_high ? other_high : high;
    }
    if (lane == 0) {
      a.low[blockIdx.y * a.x_stride + first_input + i] = low;
      a.high[blockIdx.y * a.x_stride + first_input + i] = high;
    }
  }
}

// One output and one block of samples, for a warp.
struct Look {
  int64 output, input;  // of all outputs; of all groups' inputs
  int64 sample_block;
  const float *w, *low, *high;

  SUPNORM_DEVICE Look(const CandidateArgs& a, int64 at) : output(at), sample_block(blockIdx.y) {
    input = output / a.outputs * a.inputs;
    w = a.w + output * a.inputs;
    low = a.low + sample_block * a.x_stride + input;
    high = a.high + sample_block * a.x_stride + input;
  }
  SUPNORM_DEVICE float bound(int k) const {
    const float above = high[k] - w[k], below = w[k] - low[k];
    return above > below || above != above ? above : below;
  }
};

SUPNORM_DEVICE float smallest_of_warp(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v = min(v, shuffle_xor(v, mask));
  return v;
}

// A number that no sample's largest difference is below, from 32 exact differences: of the inputs
// with the best bounds among every 32nd.
SUPNORM_DEVICE float largest_at_least(const CandidateArgs& a, const Look& look) {
  const int lane = lane_index(), inputs = static_cast<int>(a.inputs);
  float best = -1.0f;
  int best_input = 0;
  for (int k = lane; k < inputs; k += kWarp) {
    const float bound = look.bound(k);
    if (bound > best) best = bound, best_input = k;
  }
  const float best_weight = look.w[best_input];
  float largest[4] = {};
  for (int seed = 0; seed < kWarp; ++seed) {
    const int k = shuffle_from(best_input, seed);
    const float w = shuffle_from(best_weight, seed);
    float x[4];
    load_four(
        a.turned + (look.input + k) * a.padded_rows + look.sample_block * kBlockRows + lane * 4, x);
#pragma unroll
    for (int r = 0; r < 4; ++r) largest[r] = max(largest[r], fabsf(x[r] - w));
  }
  return smallest_of_warp(min(min(largest[0], largest[1]), min(largest[2], largest[3])));
}

// The smallest distance of the block's samples, but for those of 0, which have no gradient; NaN,
// which keeps every input, where one is not finite.
SUPNORM_DEVICE float smallest_distance(const CandidateArgs& a, const Look& look) {
  float smallest = 0x1.fffffep127f;
  bool is_finite = true;
  for (int r = lane_index(); r < kBlockRows; r += kWarp) {
    const int64 row = look.sample_block * kBlockRows + r;
    if (row >= a.rows) break;
    const float distance = a.distance[row * a.out_stride + look.output];
    is_finite = is_finite && distance <= 0x1.fffffep127f;
    if (distance > 0.0f) smallest = min(smallest, distance);
  }
  smallest = smallest_of_warp(smallest);
  return vote(!is_finite) == 0 ? smallest : from_bits(0x7fffffff);
}

// Marks the candidates of every output_step-th output: a warp each, all blocks of samples. For the
// backward pass words of 32 inputs lie together for all outputs. Without `bits` it only counts.
template <bool kIsBackward>
__global__ void __launch_bounds__(kThreads) mark_candidates(const CandidateArgs a) {
  const bool is_sample = a.output_step > 1;
  if (!is_sample && *a.gate == 0) return;
  const int64 number = static_cast<int64>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int64 output = number * a.output_step;
  if (output >= a.out_stride) return;
  const Look look(a, output);
  const float deciding = kIsBackward ? smallest_distance(a, look) : largest_at_least(a, look);
  const float limit = a.plan == nullptr ? deciding : deciding * a.plan[kPlanKept];
  const int lane = lane_index(), inputs = static_cast<int>(a.inputs);
  int count = 0;
  for (int word = 0; word < static_cast<int>(a.words); ++word) {
    const int k = word * 32 + lane;
    const unsigned bits = vote(k < inputs && !(look.bound(min(k, inputs - 1)) < limit));
    count += count_bits(bits);
    if (is_sample || lane != 0) continue;
    const int64 place = kIsBackward ? word * a.out_stride + output : output * a.words + word;
    a.bits[look.sample_block * a.out_stride * a.words + place] = bits;
  }
  if (is_sample && lane == 0) atomicAdd(a.count, static_cast<uint64>(count));
}

// One thread.
__global__ void decide_on_candidates(const CandidateArgs a) {
  const int64 sampled = (a.out_stride + a.output_step - 1) / a.output_step;
  const float pairs = static_cast<float>(sampled) * static_cast<float>(a.inputs) *
                      static_cast<float>(a.padded_rows / kBlockRows);
  *a.gate = static_cast<float>(*a.count) <= a.most * pairs;
}

}  // namespace supnorm
