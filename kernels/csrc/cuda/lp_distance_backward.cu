// Both gradients of lp_distance in one pass: with c = grad_o sign(t) (|t| / d_o)^(p-1), t = x_i -
// w_oi, grad_x_i is the sum of c over outputs and grad_w_oi minus the sum over samples.
//
// A block has 128 samples x 32 inputs and walks over the outputs. A thread keeps 8 x 4 entries of
// grad_x in registers; its 4 sums over samples are added across the warp by shuffles, across the
// block's two halves in shared memory, and go to memory once a block of samples. Nothing is atomic
// and every sum has a fixed order.
//
// The 8 lanes of a warp with the same inputs take four outputs each in an order of their own: lane
// l begins with output l % 4. So whatever a shuffle brings belongs to the output that the lane
// itself keeps, and no instruction is spent on choosing.
#include "power.h"

namespace supnorm {

constexpr int kThreads = 128;
constexpr int kBlockRows = 128, kBlockInputs = 32;  // samples and inputs of a block
constexpr int kRows = 8, kInputs = 4;               // and of a thread
constexpr int kOutputs = 16;                        // outputs a stage
constexpr int kWStride = kBlockInputs + 4;
constexpr int kColFloats = 2 * kOutputs * kWStride;  // sums over samples, of each half

struct BackwardArgs {
  const float* x;               // (B, x_stride)
  const float* w;               // (all outputs, I)
  const float* factors;         // [factor][group][output, padded][sample, padded]
  const float* plan;            // of the power; even p have none
  const int* largest;           // bits of the largest finite distance; even p only
  float* grad_x;                // [split][B][x_stride], or null
  float* grad_w;                // [block of samples][all outputs][I], or null
  int64 rows, outputs, inputs;  // outputs and inputs of a group
  int64 x_stride;
  int64 padded_rows, padded_outputs;
  int64 stages_a_split;
  const int* gate;  // null, or where the device says whether candidates alone are computed
};

// Even p: a power of two that brings the largest distance close to 2^(100 / (p - 1)), so that
// neither d^(p-1) nor t^(p-1) leaves float32's range unless distances differ by 2^(200 / (p - 1));
// and that leaves x in range.
SUPNORM_DEVICE float backward_scale(const int* largest, float p) {
  if (largest[0] == 0) return 1.0f;
  const int distance_exponent = (largest[0] >> 23) - 126, x_exponent = (largest[1] >> 23) - 126;
  const int wanted = static_cast<int>(100 / (p - 1)) - distance_exponent;
  return from_bits((max(-126, min(126, min(wanted, 127 - x_exponent))) + 127) << 23);
}

// Pairs that the fast kernels leave out, and lp_distance_backward_rare adds.
SUPNORM_DEVICE bool is_rare(float distance, float scale, float p, bool is_even) {
  if (!(distance > 0.0f)) return false;
  if (!is_even) return distance < 0x1p-99f || (distance > 0x1p99f && distance <= 0x1.fffffep127f);
  return distance * scale < exp2f(-100 / (p - 1));
}

// t^(kP - 1), signed.
template <int kP>
struct EvenSlope {
  static constexpr int kFactors = 1;
  static constexpr int kBlocks = kP <= 10 ? 3 : 2;  // that fit into a processor's registers
  float scale;

  SUPNORM_DEVICE explicit EvenSlope(const BackwardArgs& a) : scale(backward_scale(a.largest, kP)) {}
  SUPNORM_DEVICE float scaled(float x) const { return x * scale; }
  SUPNORM_DEVICE float operator()(float x, float w, float) const {
    const float t = fmaf(-scale, w, x);
    if constexpr (kP == 2) {
      return t;
    } else {
      return chain<kP / 2 - 1>(t * t) * t;
    }
  }
};

// sign(t) (|t| / d)^(p - 1).
template <int kDegree>
struct PowerSlope {
  static constexpr int kFactors = 2;
  static constexpr int kBlocks = kDegree == 0 ? 1 : 3;
  Power<kDegree> power;

  SUPNORM_DEVICE explicit PowerSlope(const BackwardArgs& a) : power(a.plan) {}
  SUPNORM_DEVICE float scaled(float x) const { return x; }
  SUPNORM_DEVICE float operator()(float x, float w, float inverse) const {
    const float t = x - w;
    const int sign = bits_of(t) & static_cast<int>(0x80000000u);
    return from_bits(bits_of(power(t, inverse)) | sign);
  }
};

// Where this thread's samples, inputs and lanes are.
struct Lanes {
  int row, input, order, half;

  SUPNORM_DEVICE Lanes() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    half = warp % 2;
    row = half * 64 + lane % 8 * 4;        // and the three after it, and these + 32
    input = warp / 2 * 16 + lane / 8 * 4;  // and the three after it
    order = lane % 4;
  }
  SUPNORM_DEVICE static int row_offset(int r) { return r < 4 ? r : r + 28; }
};

template <int kFactors>
constexpr int kBackwardStage = kOutputs * (kWStride + kFactors * kBlockRows);

template <int kFactors, int kVector>
SUPNORM_DEVICE void copy_outputs(const BackwardArgs& a, int first_row, int first_input, int stage,
                                 float* to) {
  constexpr int kPieces = kBlockInputs / kVector;
  const int input = threadIdx.x % kPieces * kVector;
  const bool is_inside = first_input + input < a.inputs;
#pragma unroll
  for (int o = threadIdx.x / kPieces; o < kOutputs; o += kThreads / kPieces) {
    // Behind the last output its weights come again, and no factor: t stays in range.
    const int64 output = min(static_cast<int64>(stage) * kOutputs + o, a.outputs - 1);
    const float* row = a.w + (blockIdx.z * a.outputs + output) * a.inputs;
    copy_async<4 * kVector>(to + o * kWStride + input, row + (is_inside ? first_input + input : 0),
                            is_inside);
  }
  const int64 group_floats = a.padded_outputs * a.padded_rows;
#pragma unroll
  for (int factor = 0; factor < kFactors; ++factor) {
    const float* from = a.factors +
                        (factor * static_cast<int64>(gridDim.z) + blockIdx.z) * group_floats +
                        static_cast<int64>(stage) * kOutputs * a.padded_rows + first_row;
    float* tile = to + kOutputs * (kWStride + factor * kBlockRows);
#pragma unroll
    for (int o = threadIdx.x / 32; o < kOutputs; o += kThreads / 32) {
      const int row = threadIdx.x % 32 * 4;
      copy_async<16>(tile + o * kBlockRows + row, from + o * a.padded_rows + row, true);
    }
  }
}

SUPNORM_DEVICE void load_four(const float* from, float* to) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

// What a thread has of its block.
struct Entries {
  float x[kRows][kInputs], grad[kRows][kInputs];
};

// Sums over the thread's samples of one output.
template <class Slope>
SUPNORM_DEVICE void add_output(const Slope& slope, const Lanes& lanes, const float* stage,
                               int output, Entries& entries, float (&sum)[kInputs]) {
  float factor[Slope::kFactors][kRows];
#pragma unroll
  for (int f = 0; f < Slope::kFactors; ++f) {
    const float* at =
        stage + kOutputs * (kWStride + f * kBlockRows) + output * kBlockRows + lanes.row;
    load_four(at, factor[f]);
    load_four(at + 32, factor[f] + 4);
  }
  float w[kInputs];
  load_four(stage + output * kWStride + lanes.input, w);
#pragma unroll
  for (int j = 0; j < kInputs; ++j) sum[j] = 0.0f;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int j = 0; j < kInputs; ++j) {
      const float e = slope(entries.x[r][j], w[j], factor[Slope::kFactors - 1][r]);
      entries.grad[r][j] = fmaf(factor[0][r], e, entries.grad[r][j]);
      sum[j] = fmaf(factor[0][r], e, sum[j]);
    }
    if constexpr (Slope::kBlocks == 1) sync_warp();
  }
}

// Sums over the samples of a quarter warp of outputs first ... first + kCount - 1, each lane of its
// own.
template <int kCount, class Slope>
SUPNORM_DEVICE void add_outputs(const Slope& slope, const Lanes& lanes, const float* stage,
                                int first, int step, Entries& entries, float (&sum)[kInputs]) {
  if constexpr (kCount == 1) {
    // The loads and powers of all outputs at once would not fit into the registers.
    if constexpr (Slope::kBlocks == 1) sync_warp();
    add_output(slope, lanes, stage, first + (step ^ lanes.order), entries, sum);
  } else {
    float other[kInputs];
    add_outputs<kCount / 2>(slope, lanes, stage, first, step, entries, sum);
    add_outputs<kCount / 2>(slope, lanes, stage, first, step + kCount / 2, entries, other);
#pragma unroll
    for (int j = 0; j < kInputs; ++j) sum[j] += shuffle_xor(other[j], kCount / 2);
  }
}

// Brings the sums of both halves of a stage to memory.
template <int kVector>
SUPNORM_DEVICE void store_sums(const BackwardArgs& a, const float* sums, int first_input,
                               int row_block, int stage) {
  const int o = threadIdx.x / 8, first = threadIdx.x % 8 * 4;
  const int64 output = static_cast<int64>(stage) * kOutputs + o;
  if (output >= a.outputs) return;
  float* to =
      a.grad_w +
      ((static_cast<int64>(row_block) * gridDim.z + blockIdx.z) * a.outputs + output) * a.inputs +
      first_input;
  const float* mine = sums + o * kWStride;
#pragma unroll
  for (int j = first; j < first + 4; ++j) {
    if (first_input + j < a.inputs) to[j] = -(mine[j] + mine[kOutputs * kWStride + j]);
  }
}

template <class Slope, int kVector>
__global__ void __launch_bounds__(kThreads, Slope::kBlocks)
    lp_distance_backward(const BackwardArgs a) {
  if (a.gate != nullptr && *a.gate != 0) return;
  constexpr int kStage = kBackwardStage<Slope::kFactors>;
  const Slope slope(a);
  const Lanes lanes;
  const int row_blocks = static_cast<int>(a.padded_rows) / kBlockRows;
  const int row_block = static_cast<int>(blockIdx.x) % row_blocks;
  const int first_row = row_block * kBlockRows;
  const int first_input = static_cast<int>(blockIdx.x) / row_blocks * kBlockInputs;
  Entries entries;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    // Behind the last sample it comes again; its factors are 0.
    const int row = min(first_row + lanes.row + Lanes::row_offset(r), static_cast<int>(a.rows) - 1);
    const float* x = a.x + row * a.x_stride + blockIdx.z * a.inputs + first_input + lanes.input;
#pragma unroll
    for (int j = 0; j < kInputs; ++j) {
      const bool is_inside = first_input + lanes.input + j < a.inputs;
      entries.x[r][j] = is_inside ? slope.scaled(x[j]) : 0.0f;
      entries.grad[r][j] = 0.0f;
    }
  }
  float* shared = shared_memory();
  float* sums = shared + 2 * kStage;
  const int first = static_cast<int>(blockIdx.y * a.stages_a_split);
  const int all = static_cast<int>((a.outputs + kOutputs - 1) / kOutputs);
  const int last = min(all, first + static_cast<int>(a.stages_a_split));
  copy_outputs<Slope::kFactors, kVector>(a, first_row, first_input, first, shared);
  commit_copies();
#pragma unroll 1
  for (int stage = first; stage < last; ++stage) {
    const int slot = (stage - first) % 2;
    wait_copies<0>();
    sync_block();
    if (stage + 1 < last) {
      copy_outputs<Slope::kFactors, kVector>(a, first_row, first_input, stage + 1,
                                             shared + (1 - slot) * kStage);
    }
    commit_copies();
    if (stage > first && a.grad_w != nullptr) {
      store_sums<kVector>(a, sums + (1 - slot) * kColFloats, first_input, row_block, stage - 1);
    }
#pragma unroll 1
    for (int o = 0; o < kOutputs; o += 4) {
      float sum[kInputs];
      add_outputs<4>(slope, lanes, shared + slot * kStage, o, 0, entries, sum);
#pragma unroll
      for (int j = 0; j < kInputs; ++j) sum[j] += shuffle_xor(sum[j], 4);
      if (threadIdx.x % 8 < 4) {
        float* to = sums + slot * kColFloats +
                    (lanes.half * kOutputs + o + lanes.order) * kWStride + lanes.input;
        *reinterpret_cast<float4*>(to) = make_float4(sum[0], sum[1], sum[2], sum[3]);
      }
    }
  }
  sync_block();
  if (first < last && a.grad_w != nullptr) {
    store_sums<kVector>(a, sums + (last - 1 - first) % 2 * kColFloats, first_input, row_block,
                        last - 1);
  }
  if (a.grad_x == nullptr) return;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int row = first_row + lanes.row + Lanes::row_offset(r);
    float* to = a.grad_x + (blockIdx.y * a.rows + row) * a.x_stride + blockIdx.z * a.inputs +
                first_input + lanes.input;
#pragma unroll
    for (int j = 0; j < kInputs; ++j) {
      if (row < a.rows && first_input + lanes.input + j < a.inputs) to[j] = entries.grad[r][j];
    }
  }
}

struct FactorArgs {
  const float* grad;      // (B, out_stride)
  const float* distance;  // likewise
  const float* x;         // (B, x_stride)
  int* largest;           // of distances and of x; null unless p is even
  float* factors;
  int* num_rare;
  int64 rows, outputs, x_stride, out_stride;
  int64 padded_rows, padded_outputs;
  float p;
};

// The largest finite |v| of the numbers that the grid's threads share, as bits.
SUPNORM_DEVICE void add_largest(const float* v, int64 count, int* largest) {
  int mine = 0;
  const int64 step = static_cast<int64>(gridDim.x) * kThreads;
  const int64 start = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  for (int64 at = start; at < count; at += step) {
    const int bits = bits_of(fabsf(v[at]));
    if (bits < 0x7f800000) mine = max(mine, bits);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) mine = max(mine, shuffle_xor(mine, mask));
  if (threadIdx.x % 32 == 0) atomicMax(largest, mine);
}

__global__ void __launch_bounds__(kThreads) lp_distance_backward_largest(const FactorArgs a) {
  add_largest(a.distance, a.rows * a.out_stride, a.largest);
  add_largest(a.x, a.rows * a.x_stride, a.largest + 1);
}

// v^n.
SUPNORM_DEVICE float integer_power(float v, int n) {
  float result = 1.0f;
  for (; n > 0; n /= 2, v *= v) {
    if (n % 2 == 1) result *= v;
  }
  return result;
}

// Factors with samples in a row, padded with zeros: grad / d^(p-1) for even p, else grad and 1 / d.
// A block has 32 samples x 16 outputs.
__global__ void __launch_bounds__(kThreads) lp_distance_backward_factors(const FactorArgs a) {
  const bool is_even = a.largest != nullptr;
  const float scale = is_even ? backward_scale(a.largest, a.p) : 1.0f;
  float* tile = shared_memory();  // [factor][output][sample, 33]
  const int64 row_blocks = a.padded_rows / 32;
  const int64 first_row = blockIdx.x % row_blocks * 32, first = blockIdx.x / row_blocks * 16;
  for (int r = threadIdx.x / 16; r < 32; r += kThreads / 16) {
    const int o = threadIdx.x % 16;
    float grad = 0.0f, inverse = 0.0f;
    if (first_row + r < a.rows && first + o < a.outputs) {
      const int64 at = (first_row + r) * a.out_stride + blockIdx.z * a.outputs + first + o;
      const float distance = a.distance[at];
      const bool is_left_out = is_rare(distance, scale, a.p, is_even);
      if (is_left_out) atomicAdd(a.num_rare, 1);
      if (distance != 0.0f && !is_left_out) {
        grad = a.grad[at];
        inverse = 1.0f / (distance * scale);
      }
    }
    if (is_even) grad *= integer_power(inverse, static_cast<int>(a.p) - 1);
    tile[o * 33 + r] = grad;
    tile[(16 + o) * 33 + r] = inverse;
  }
  sync_block();
  const int r = threadIdx.x % 32;
  const int num_factors = is_even ? 1 : 2;
  for (int factor = 0; factor < num_factors; ++factor) {
    for (int o = threadIdx.x / 32; o < 16; o += kThreads / 32) {
      const int64 line =
          (factor * static_cast<int64>(gridDim.z) + blockIdx.z) * a.padded_outputs + first + o;
      a.factors[line * a.padded_rows + first_row + r] = tile[(factor * 16 + o) * 33 + r];
    }
  }
}

struct SumArgs {
  const float* parts;  // [part][entry]
  float* sum;
  const int* gate;  // as above
  int64 entries;
  int num_parts;
};

// Adds up what blocks have left, always in the same order.
__global__ void __launch_bounds__(kThreads) sum_parts(const SumArgs a) {
  if (a.gate != nullptr && *a.gate != 0) return;
  const int64 at = static_cast<int64>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= a.entries) return;
  float sum = a.parts[at];
  for (int part = 1; part < a.num_parts; ++part) sum += a.parts[part * a.entries + at];
  a.sum[at] = sum;
}

struct RareArgs {
  const float *x, *w, *grad, *distance;
  const int* largest;
  const int* num_rare;
  float *grad_x, *grad_w;  // one of them
  const float* plan;       // null for even p
  int64 rows, outputs, inputs, x_stride, out_stride;
  float p;  // then
};

// Adds the pairs that were left out: block y's sample to grad_x, or output to grad_w. A thread has
// inputs of its own, and takes the pairs in ascending order.
__global__ void __launch_bounds__(kThreads) lp_distance_backward_rare(const RareArgs a) {
  if (*a.num_rare == 0) return;
  const bool is_even = a.largest != nullptr;
  const float scale = is_even ? backward_scale(a.largest, a.p) : 1.0f;
  const float q = is_even ? a.p - 1 : a.plan[0];
  const int64 mine = blockIdx.x, others = a.grad_x != nullptr ? a.out_stride : a.rows;
  for (int64 other = 0; other < others; ++other) {
    const int64 row = a.grad_x != nullptr ? mine : other;
    const int64 output = a.grad_x != nullptr ? other : mine;
    const int64 at = row * a.out_stride + output;
    const float distance = a.distance[at];
    if (!is_rare(distance, scale, a.p, is_even)) continue;
    const int64 x_at = row * a.x_stride + output / a.outputs * a.inputs;
    const int64 w_at = output * a.inputs;
    for (int64 i = threadIdx.x; i < a.inputs; i += kThreads) {
      const float t = a.x[x_at + i] - a.w[w_at + i];
      const float slope = exp2f(q * log2f(fabsf(t) / distance));
      const float flow = t < 0 ? -a.grad[at] * slope : a.grad[at] * slope;
      if (a.grad_x != nullptr) {
        a.grad_x[x_at + i] += flow;
      } else {
        a.grad_w[w_at + i] -= flow;
      }
    }
  }
}

}  // namespace supnorm
