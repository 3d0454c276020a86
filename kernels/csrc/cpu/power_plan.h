// How to raise u = |x - w| / largest, in [0, 1], to a real power: chosen once a call, in double
// precision.
#pragma once

namespace supnorm {

// u^q = (h(u))^(2^squarings), where h(u) = u^(q / 2^squarings) has an exponent in [1, 2) and is
// nearly straight, so that a short polynomial gives it:
//   kNarrow  u in [threshold, 1]: h is a polynomial in u - 1 there;
//   kTable   the polynomial, in m - 1, serves the mantissa m in [1, 2), a table 2^(q * exponent);
//   kWide    likewise with m in [sqrt(1/2), sqrt(2)), and 2^(q * exponent) computed.
// Below the threshold, where u^q < 2^-kept_bits, the power is 0.
enum class PowerKind { kNarrow, kTable, kWide };

struct PowerPlan {
  static constexpr int kMaxDegree = 12;
  static constexpr int kMaxTable = 16;
  static constexpr int kMantissaDegree = 7;  // of every polynomial of a mantissa

  PowerKind kind;
  int degree;
  int squarings;
  float threshold;
  float q;
  float coefficients[kMaxDegree + 1];  // of (u - 1)^0, (u - 1)^1, ...; the first is 1
  float table[kMaxTable];              // of 2^(q * e), at the low bits of 127 + e
};

// Bits that a sum keeps: all terms left out are together below 2^-kSumBits of it.
constexpr double kSumBits = 26;

// What the power is for.
enum class PowerUse {
  kSum,    // terms of a sum whose largest is 1, 2^(kept_bits - kSumBits) of them: errors count
           // against the sum
  kSlope,  // each for itself: relative errors count, up to 1e-4 for the smallest
};

// table_size: exponents 0, -1, ... that a table can have; a power of two, or 0 for no table.
PowerPlan plan_power(double q, double kept_bits, PowerUse use, int table_size);

}  // namespace supnorm
