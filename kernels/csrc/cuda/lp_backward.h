// Where the gradients of lp_distance stay in float32's range, and which pairs do not.
#pragma once

#include "power.h"

namespace supnorm {

constexpr int kThreads = 128;

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

}  // namespace supnorm
