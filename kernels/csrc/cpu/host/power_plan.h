// How to raise u = |x - w| / largest, in [0, 1], to a real power: chosen once a call, in double
// precision.
#pragma once

namespace supnorm {

// With g = q / 2^squarings, u^q = (u^g)^(2^squarings), where a polynomial gives u^g:
//   kNarrow  u in [threshold, 1] at once, a polynomial in u - 1; below the threshold the power is
//            0;
//   kPieces  each octave in 1, 2, 4, ... pieces: a table that a vector register holds has what
//            brings a piece's numbers near 1 and its share of the power, one polynomial serves all;
//   kWide    g in [1, 2), u = m 2^e with m in [sqrt(1/2), sqrt(2)): a polynomial in m - 1, and
//            2^(q e) computed.
enum class PowerKind { kNarrow, kPieces, kWide };

// What the power is for.
enum class PowerUse {
  kSum,    // terms of a sum whose largest is 1, 2^(kept_bits - kSumBits) of them: errors count
           // against the sum
  kSlope,  // each for itself: relative errors count, up to 1e-4 for the smallest
};

struct PowerPlan {
  static constexpr int kMaxDegree = 12;
  static constexpr int kMaxPieces = 16;
  static constexpr int kWideDegree = 7;
  // What pieces take for u = 1, a little below the next octave: u is rounded.
  static constexpr float kUnit = 0x1.ffff8p0f;

  PowerKind kind;
  int degree;
  int squarings;
  float threshold;  // u^q < 2^-kept_bits below
  float q;
  float unit;                          // what u = 1 is to be brought to
  float coefficients[kMaxDegree + 1];  // ascending; narrow and wide: the first is 1; pieces: the
                                       // last is 1

  // kPieces: of the numbers of a piece, (bits >> piece_shift) is equal. Entries are of pieces that
  // lie side by side and end below 2; the polynomial's variable is number * inverse - centre.
  int piece_shift;
  float smallest;  // the least number whose power leaves room for smaller ones in float32
  float centre;
  float inverse[2 * kMaxPieces];
  float power[2 * kMaxPieces];  // times the polynomial: (number / kUnit)^q
};

// Bits that a sum keeps: all terms left out are together below 2^-kSumBits of it.
constexpr double kSumBits = 26;

// table_size: pieces that a table can have; a power of two, or 0 for no table.
PowerPlan plan_power(double q, double kept_bits, PowerUse use, int table_size);

}  // namespace supnorm
