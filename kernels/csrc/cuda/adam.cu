// One step of Adam with decoupled l_p weight decay, in place: the weights are read twice (the
// second time from a cache) and all else once, which is what memory allows.
//
// decay, for each row of w: w_i <- w_i - amount (|w_i| / ||w||_p)^(p-2) w_i, by the weights before.
#include "device.h"

namespace supnorm {

constexpr int kThreads = 256, kWarp = 32, kWarps = kThreads / kWarp;

struct AdamArgs {
  float *w, *mean, *square;  // (rows, row_length), as the gradient
  const float* grad;
  const float* control;  // numbers of the step, in the order below
  int64 row_length;
};

enum Control { kRate, kAmount, kP, kBetaMean, kBetaSquare, kEps, kMeanLeft, kSquareLeft };

// The largest |w| of the row and, by the lower half, the first place that has it.
SUPNORM_DEVICE uint64 largest_of_row(const float* w, int64 length, uint64* shared) {
  uint64 mine = 0;
  for (int64 i = threadIdx.x; i < length; i += kThreads) {
    const auto size = static_cast<unsigned>(bits_of(fabsf(w[i])));
    mine = max(mine, static_cast<uint64>(size) << 32 | ~static_cast<unsigned>(i));
  }
  for (int mask = 16; mask > 0; mask /= 2) {
    const auto high = static_cast<unsigned>(shuffle_xor(static_cast<int>(mine >> 32), mask));
    const auto low = static_cast<unsigned>(shuffle_xor(static_cast<int>(mine), mask));
    mine = max(mine, static_cast<uint64>(high) << 32 | low);
  }
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = mine;
  sync_block();
  for (int warp = 0; warp < kWarps; ++warp) mine = max(mine, shared[warp]);
  return mine;
}

SUPNORM_DEVICE float sum_of_block(float v, float* shared) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = v;
  sync_block();
  float sum = 0.0f;
  for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp];
  return sum;
}

// What a row's decay is made of: the factor of w_i is amount * u^(p-2) / norm, u = |w_i| / largest.
struct Decay {
  float amount, p, inverse, inverse_norm;
  int64 first;  // the only one that decays at p = infinity

  SUPNORM_DEVICE Decay(const AdamArgs& a, const float* w, float* shared)
      : amount(a.control[kAmount]), p(a.control[kP]), inverse(0), inverse_norm(1), first(-1) {
    if (amount == 0.0f || p == 2.0f) return;
    const uint64 key = largest_of_row(w, a.row_length, reinterpret_cast<uint64*>(shared));
    first = ~static_cast<unsigned>(key);
    const float largest = from_bits(static_cast<int>(key >> 32));
    inverse = largest > 0x1p-120f ? 1.0f / largest : 0.0f;
    if (p > 0x1p100f) return;
    float sum = 0.0f;
    for (int64 i = threadIdx.x; i < a.row_length; i += kThreads) {
      const float u = fabsf(w[i]) * inverse;
      sum += power(u) * u * u;
    }
    sum = sum_of_block(sum, shared + 2 * kWarps);
    inverse_norm = sum > 0.0f ? fast_exp2(-(p - 2) / p * fast_log2(sum)) : 0.0f;
  }
  SUPNORM_DEVICE float power(float u) const { return fast_exp2((p - 2) * fast_log2(u)); }
  SUPNORM_DEVICE float factor(float w, int64 i) const {
    if (amount == 0.0f || p == 2.0f) return amount;
    if (p > 0x1p100f) return i == first ? amount : 0.0f;
    return amount * power(fabsf(w) * inverse) * inverse_norm;
  }
};

// A block a row.
__global__ void __launch_bounds__(kThreads) decayed_adam(const AdamArgs a) {
  const int64 start = blockIdx.x * a.row_length;
  const Decay decay(a, a.w + start, shared_memory());
  sync_block();  // all have read the row before any writes to it
  const float* c = a.control;
  const float step = c[kRate] / c[kMeanLeft], root_left = sqrtf(c[kSquareLeft]);
  for (int64 i = threadIdx.x; i < a.row_length; i += kThreads) {
    const int64 at = start + i;
    const float grad = a.grad[at], old = a.w[at];
    const float mean = a.mean[at] + (1 - c[kBetaMean]) * (grad - a.mean[at]);
    const float square = c[kBetaSquare] * a.square[at] + (1 - c[kBetaSquare]) * grad * grad;
    const float w = old - decay.factor(old, i) * old;
    a.mean[at] = mean;
    a.square[at] = square;
    a.w[at] = w - step * (mean / (sqrtf(square) / root_left + c[kEps]));
  }
}

}  // namespace supnorm
