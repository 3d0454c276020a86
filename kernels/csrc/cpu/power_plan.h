// How to raise u = |x - w| / distance to a real power: chosen once a call, in double precision.
#pragma once

namespace supnorm {

// u^q = (h(u))^(2^squarings), where h(u) = u^(q / 2^squarings) has an exponent in [1, 2) and is nearly
// straight, so a short polynomial gives it:
//   narrow  u in [threshold, 1]: h is a polynomial in u - 1 there;
//   wide    any u: the polynomial serves the mantissa in [sqrt(1/2), sqrt(2)) and 2^(q * exponent) the rest.
// Below the threshold u^q is below 2^-kept_bits and the power is 0.
struct PowerPlan {
  static constexpr int kMaxDegree = 10;

  bool is_wide;
  int degree;
  int squarings;
  float threshold;
  float q;
  float coefficients[kMaxDegree + 1];  // of (u - 1)^0, (u - 1)^1, ...; the first is 1
};

PowerPlan plan_power(double q, double kept_bits);

}  // namespace supnorm
