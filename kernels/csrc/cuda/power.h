// Powers of differences: even ones by multiplications, any by a polynomial exponent and one 2^z.
#pragma once

#include "device.h"

namespace supnorm {

// v^kN by squarings and multiplications; no shorter chain exists for what is used here.
template <int kN>
SUPNORM_DEVICE float chain(float v) {
  if constexpr (kN == 1) {
    return v;
  } else if constexpr (kN == 15) {
    const float v3 = chain<3>(v), v6 = v3 * v3;
    return v6 * v6 * v3;
  } else if constexpr (kN % 2 == 0) {
    const float half = chain<kN / 2>(v);
    return half * half;
  } else {
    return chain<kN - 1>(v) * v;
  }
}

// sum + t^kP for even kP; the last multiplication is part of the addition.
template <int kP>
SUPNORM_DEVICE float add_power(float sum, float t) {
  constexpr int kHalf = kP / 2;
  if constexpr (kHalf == 1) {
    return fmaf(t, t, sum);
  } else if constexpr (kHalf == 15) {
    const float v3 = chain<3>(t * t), v6 = v3 * v3;
    return fmaf(v6 * v6, v3, sum);
  } else if constexpr (kHalf % 2 == 0) {
    const float half = chain<kHalf / 2>(t * t);
    return fmaf(half, half, sum);
  } else {
    return fmaf(chain<kHalf - 1>(t * t), t * t, sum);
  }
}

// What a kernel reads of a power, numbers in device memory, so that a captured graph can be
// replayed at another p: q, the factor of u, up to 10 constants, then these.
constexpr int kPlanTop = 1, kPlanP = 12, kPlanKept = 13;

// u^q for u in [0, 1], as 2^z with a polynomial z of degree kDegree in u, begun as a product of two
// quadratics, which takes an instruction less than Horner's rule (kernels/cuda/exponent.py).
// kDegree 0 asks the special-function unit for the logarithm too, for small q, whose degree would
// be high.
template <int kDegree>
struct Power {
  static constexpr int kConstants = kDegree == 0 ? 1 : kDegree;
  float c[kConstants];

  SUPNORM_DEVICE explicit Power(const float* plan) {
#pragma unroll
    for (int j = 0; j < kConstants; ++j) c[j] = plan[kDegree == 0 ? 0 : kPlanTop + 1 + j];
  }

  // (|t| * inverse / plan[kPlanTop])^q.
  SUPNORM_DEVICE float operator()(float t, float inverse) const {
    if constexpr (kDegree == 0) {
      return fast_exp2(c[0] * fast_log2(fabsf(t) * inverse));
    } else {
      const float s = fmaf(fabsf(t), inverse, c[0]), y = fmaf(s, s, c[1]);
      float z;
      if constexpr (kDegree == 3) {
        z = fmaf(y, s, c[2]);
      } else {
        z = fmaf(fmaf(c[2], s, y), y, c[3]);
#pragma unroll
        for (int j = 4; j < kDegree; ++j) z = fmaf(z, s, c[j]);
      }
      return fast_exp2(kDegree % 2 == 0 ? -z : z);
    }
  }
};

// What differences of an output are multiplied by, m being their maximum: top / m, or 0 where
// float32 could not hold the quotients. Then the pair is computed again by exact_distance.
constexpr float kSmallestMaximum = 0x1p-100f, kLargestMaximum = 0x1p100f;

SUPNORM_DEVICE float inverse_of(float m, float top) {
  return m >= kSmallestMaximum && m <= kLargestMaximum ? top / m : 0.0f;
}

// sum^(1/p) for a normal sum > 0: the exponent divided in integers, so that little is rounded.
SUPNORM_DEVICE float root(float sum, float p) {
  const int exponent = (bits_of(sum) >> 23) - 127;
  const float mantissa = from_bits((bits_of(sum) & 0x7fffff) | 0x3f800000);
  const float whole = rintf(static_cast<float>(exponent) / p);
  const float rest = fmaf(-whole, p, static_cast<float>(exponent)) + log2f(mantissa);
  return exp2f(rest / p) * from_bits((static_cast<int>(whole) + 127) << 23);
}

// Sums outside these may have lost terms to underflow or overflow.
constexpr float kSmallestSum = 0x1p-90f, kLargestSum = 0x1p126f;

// The distance of one pair by the lanes of a warp, whatever its size.
SUPNORM_DEVICE float exact_distance(const float* x, const float* w, int inputs, float p) {
  const int lane = threadIdx.x % 32;
  int largest = 0;
  for (int i = lane; i < inputs; i += 32) largest = max(largest, bits_of(fabsf(x[i] - w[i])));
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) largest = max(largest, shuffle_xor(largest, mask));
  const float m = from_bits(largest);
  if (largest == 0 || largest >= 0x7f800000) return m;  // 0, infinity, NaN
  float sum = 0.0f;
  for (int i = lane; i < inputs; i += 32) sum += exp2f(p * log2f(fabsf(x[i] - w[i]) / m));
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  return m * root(sum, p);
}

}  // namespace supnorm
