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
#include "lp_backward.h"

namespace supnorm {

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

// t^(kP - 1), signed.
template <int kP>
struct EvenSlope {
  static constexpr int kFactors = 1;
  static constexpr int kBlocks = kP <= 10 ? 3 : 2;  // that fit into a processor's registers
  static constexpr bool kIsCrowded = false;
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
  static constexpr bool kIsCrowded = kDegree == 0 || kDegree == 3;
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
    if constexpr (Slope::kIsCrowded) sync_warp();
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

}  // namespace supnorm
