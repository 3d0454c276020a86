// u^q for a few vectors at once; see power_plan.h.
#pragma once

#include "host/power_plan.h"
#include "isa/vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// 2^(rounded + f), rounded being an integer plus kRounding, f in [-1/2, 1/2]: relative error 2^-25.
constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
inline V exp2_of(V rounded, V f) {
  V value = all(0.000154531634f);
  value = fma(value, f, all(0.00133908633f));
  value = fma(value, f, all(0.00961808302f));
  value = fma(value, f, all(0.0555035695f));
  value = fma(value, f, all(0.240226507f));
  value = fma(value, f, all(0.693147182f));
  value = fma(value, f, all(1.0f));
  return from_bits(add_int(bits(value), shift_left_23(bits(rounded))));
}

// Splits u > 0 into a mantissa in [sqrt(1/2), sqrt(2)) and the exponent times 2^23, as a float.
inline V split(V u, V* exponent) {
  const I part = and_int(sub_int(bits(u), all_int(0x3f3504f3)), all_int(~0x7fffff));
  *exponent = to_float(part);
  return from_bits(sub_int(bits(u), part));
}

// sum^(1/p) for a normal sum > 0 (else something finite), p being 1 / (high + low): relative error
// about 2^-23, whatever the exponent.
inline V root(V sum, float high, float low) {
  V exponent;
  const V r = split(sum, &exponent) - all(1.0f);
  exponent = exponent * all(1.0f / 8388608);
  V q = all(0.123109683f);
  q = fma(q, r, all(-0.205861881f));
  q = fma(q, r, all(0.216078222f));
  q = fma(q, r, all(-0.239169881f));
  q = fma(q, r, all(0.287903249f));
  q = fma(q, r, all(-0.360693276f));
  q = fma(q, r, all(0.480910748f));
  q = fma(q, r, all(-0.721347451f));
  q = fma(q, r, all(1.44269502f));
  const V log = q * r;  // log2 of the mantissa, also near 1 to a relative error of 2^-23
  const V rounded = fma(exponent + log, all(high), all(kRounding));
  V f = fms(exponent, all(high), rounded - all(kRounding));
  f = fma(exponent, all(low), fma(log, all(high), f));
  return exp2_of(rounded, f);
}

// A polynomial with its constant term 1, for kCount vectors.
template <int kDegree, int kCount>
inline void polynomial(const PowerPlan& plan, const V* s, V* value) {
  const V first = all(plan.coefficients[kDegree]), second = all(plan.coefficients[kDegree - 1]);
  for (int k = 0; k < kCount; ++k) value[k] = fma(first, s[k], second);
  for (int j = kDegree - 2; j >= 0; --j) {
    const V c = all(plan.coefficients[j]);
    for (int k = 0; k < kCount; ++k) value[k] = fma(value[k], s[k], c);
  }
}

template <int kCount>
inline void square(int times, V* value) {
#pragma GCC unroll 1  // unrolled for every count there could be, it spills
  for (int j = 0; j < times; ++j) {
    for (int k = 0; k < kCount; ++k) value[k] = value[k] * value[k];
  }
}

// The powers: each has raise(size, largest, inverse, power), which sets
// power[k] <- (|size[k]| / largest[k])^q for kCount vectors, inverse being plan.unit / largest.
template <int kDegree>
class NarrowPower {
 public:
  explicit NarrowPower(const PowerPlan& plan) : plan_(plan) {}

  template <int kCount>
  void raise(const V* size, const V* largest, const V* inverse, V* power) const {
    V s[kCount];
    // u - 1 through the exact difference: u itself would be rounded, and the power takes that
    // q-fold.
    for (int k = 0; k < kCount; ++k) s[k] = (abs(size[k]) - largest[k]) * inverse[k];
    polynomial<kDegree, kCount>(plan_, s, power);
    square<kCount>(plan_.squarings, power);
    const V limit = all(plan_.threshold - 1.0f);
    for (int k = 0; k < kCount; ++k) power[k] = where_ge(s[k], limit, power[k]);
  }

 private:
  const PowerPlan& plan_;
};

class WidePower {
 public:
  explicit WidePower(const PowerPlan& plan) : plan_(plan) {}

  template <int kCount>
  void raise(const V* size, const V*, const V* inverse, V* power) const {
    V u[kCount], s[kCount], exponent[kCount];
    for (int k = 0; k < kCount; ++k) {
      u[k] = abs(size[k]) * inverse[k];
      s[k] = split(u[k], &exponent[k]) - all(1.0f);
    }
    polynomial<PowerPlan::kWideDegree, kCount>(plan_, s, power);
    square<kCount>(plan_.squarings, power);
    const V q = all(plan_.q * (1.0f / 8388608)), rounding = all(kRounding);
    const V limit = all(plan_.threshold);
    for (int k = 0; k < kCount; ++k) {
      const V z = exponent[k] * q, rounded = z + rounding;
      const V scale = exp2_of(rounded, z - (rounded - rounding));
      power[k] = where_ge(u[k], limit, power[k] * scale);
    }
  }

 private:
  const PowerPlan& plan_;
};

inline int32_t bits_of(float v) { return __builtin_bit_cast(int32_t, v); }
inline float float_of(int32_t bits) { return __builtin_bit_cast(float, bits); }

inline float power_of_two_below(float v) { return float_of(bits_of(v) >> 23 << 23); }

// Where the pieces that reach up to `largest` begin: smaller sizes count as this one.
inline float lowest_piece(const PowerPlan& plan, float largest) {
  return float_of(((bits_of(largest) >> plan.piece_shift) + 1 - kTableSize) << plan.piece_shift);
}

// Pieces of [0, largest]: with largest = 2^e m, m in [1, 2), the powers are of size / (2^e kUnit).
template <int kDegree>
class PiecesPower {
 public:
  PiecesPower(const PowerPlan& plan, float largest)
      : squarings_(plan.squarings),
        piece_shift_(plan.piece_shift),
        centre_(all(plan.centre)),
        lowest_(all(lowest_piece(plan, largest))) {
    for (int j = 0; j < kDegree; ++j) coefficients_[j] = all(plan.coefficients[j]);
    const int32_t top = bits_of(largest), exponent = bits_of(power_of_two_below(largest));
    const int32_t piece = top >> plan.piece_shift;
    // The piece of `largest` is the last of the table's; of each, the lower bits of its number say
    // in which lane it is looked for.
    const int32_t first = piece - (exponent >> plan.piece_shift) + 1;
    const I lane = sub_int(lane_numbers(), all_int(piece + 1));
    const V scale = all(float_of(0x7f000000 - exponent));
    inverse_ = look_up(load(plan.inverse + first) * scale, lane);
    power_ = look_up(load(plan.power + first), lane);
  }

  // The powers are value[k] * factor[k].
  template <int kCount>
  void raise(const V* size, V* value, V* factor) const {
    V s[kCount];
    for (int k = 0; k < kCount; ++k) {
      const V u = max_abs(lowest_, size[k]);
      const I piece = shift_right(bits(u), piece_shift_);
      s[k] = fms(u, look_up(inverse_, piece), centre_);
      factor[k] = look_up(power_, piece);
    }
    for (int k = 0; k < kCount; ++k) value[k] = s[k] + coefficients_[kDegree - 1];
    for (int j = kDegree - 2; j >= 0; --j) {
      for (int k = 0; k < kCount; ++k) value[k] = fma(value[k], s[k], coefficients_[j]);
    }
    square<kCount>(squarings_, value);
  }

  template <int kCount>
  void raise(const V* size, const V*, const V* inverse, V* power) const {
    V u[kCount], factor[kCount];
    for (int k = 0; k < kCount; ++k) u[k] = size[k] * inverse[k];
    raise<kCount>(u, power, factor);
    for (int k = 0; k < kCount; ++k) power[k] = power[k] * factor[k];
  }

 private:
  int squarings_, piece_shift_;
  V centre_, lowest_, inverse_, power_;
  V coefficients_[kDegree];
};

// Calls f(power) with the power that the plan asks for.
template <class F>
inline void with_pieces(const PowerPlan& plan, float largest, const F& f) {
  switch (plan.degree) {
    case 2:
      return f(PiecesPower<2>(plan, largest));
    case 3:
      return f(PiecesPower<3>(plan, largest));
    case 4:
      return f(PiecesPower<4>(plan, largest));
    case 5:
      return f(PiecesPower<5>(plan, largest));
    default:
      return f(PiecesPower<6>(plan, largest));
  }
}

template <class F>
inline void with_power(const PowerPlan& plan, const F& f) {
  if constexpr (kTableSize > 0) {
    if (plan.kind == PowerKind::kPieces) return with_pieces(plan, PowerPlan::kUnit, f);
  }
  if (plan.kind == PowerKind::kWide) return f(WidePower(plan));
  switch (plan.degree) {
    case 2:
      return f(NarrowPower<2>(plan));
    case 3:
      return f(NarrowPower<3>(plan));
    case 4:
      return f(NarrowPower<4>(plan));
    case 5:
      return f(NarrowPower<5>(plan));
    case 6:
      return f(NarrowPower<6>(plan));
    case 7:
      return f(NarrowPower<7>(plan));
    case 9:
      return f(NarrowPower<9>(plan));
    default:
      return f(NarrowPower<12>(plan));
  }
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
