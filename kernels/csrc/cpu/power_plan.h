// How to raise u = |x - w| / largest, in [0, 1], to a real power: chosen once a call, in double precision.
#pragma once

namespace supnorm {

// u^q = (h(u))^(2^squarings), where h(u) = u^(q / 2^squarings) has an exponent in [1, 2) and is nearly
// straight, so that a short polynomial gives it:
//   narrow  u in [threshold, 1]: h is a polynomial in u - 1 there;
//   wide    any u: the polynomial serves the mantissa in [sqrt(1/2), sqrt(2)) and 2^(q * exponent) the rest.
// Below the threshold, where u^q < 2^-kept_bits, the power is 0.
struct PowerPlan {
  static constexpr int kMaxDegree = 12;

  bool is_wide;
  int degree;
  int squarings;
  float threshold;
  float q;
  float coefficients[kMaxDegree + 1];  // of (u - 1)^0, (u - 1)^1, ...; the first is 1
};

// What the power is for.
enum class PowerUse {
  kSum,    // terms of a sum whose largest is 1: errors count against 1
  kSlope,  // each for itself: relative errors count, up to 1e-4 for the smallest
};

PowerPlan plan_power(double q, double kept_bits, PowerUse use);

}  // namespace supnorm
