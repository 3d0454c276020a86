// What is done before lp_distance_backward, to make its factors, and after it: parts of gradients
// are added up, and pairs out of float32's range are added.
#include "lp_backward.h"

namespace supnorm {

struct FactorArgs {
  const float* grad;      // (B, out_stride)
  const float* distance;  // likewise
  const float* x;         // (B, x_stride)
  const float* plan;      // of the power; null where p is even
  int* largest;           // of distances and of x; null where it is not
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

// Factors with samples in a row, padded with zeros: grad / d^(p-1) for even p, else grad and what
// turns differences into the argument of the power. A block has 32 samples x 16 outputs.
__global__ void __launch_bounds__(kThreads) lp_distance_backward_factors(const FactorArgs a) {
  const bool is_even = a.largest != nullptr;
  const float scale = is_even ? backward_scale(a.largest, a.p) : 1.0f;
  const float top = is_even ? 1.0f : a.plan[kPlanTop];
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
        inverse = top / (distance * scale);
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
