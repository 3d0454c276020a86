// u^q for a few vectors at once; see power_plan.h.
#pragma once

#include "power_plan.h"
#include "vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// 2^z for z in [-126, 126]. Polynomial of degree 6 on [-1/2, 1/2]: relative error 2^-25.
inline V exp2_of(V z) {
  const V magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V rounded = z + magic;
  const V f = z - (rounded - magic);
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

// log2 of u > 0: relative error about 2^-23, also near 1.
inline V log2_of(V u) {
  V exponent;
  const V r = split(u, &exponent) - all(1.0f);
  V q = all(0.123109683f);
  q = fma(q, r, all(-0.205861881f));
  q = fma(q, r, all(0.216078222f));
  q = fma(q, r, all(-0.239169881f));
  q = fma(q, r, all(0.287903249f));
  q = fma(q, r, all(-0.360693276f));
  q = fma(q, r, all(0.480910748f));
  q = fma(q, r, all(-0.721347451f));
  q = fma(q, r, all(1.44269502f));
  return fma(exponent, all(1.0f / 8388608), q * r);
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

// The powers: each has operator()(plan, size, largest, inverse, power), which sets
// power[k] <- (size[k] / largest[k])^q for kCount vectors, inverse being 1 / largest.
template <int kDegree>
struct NarrowPower {
  template <int kCount>
  static void raise(const PowerPlan& plan, const V* size, const V* largest, const V* inverse,
                    V* power) {
    V s[kCount];
    // u - 1 through the exact difference: u itself would be rounded, and the power takes that
    // q-fold.
    for (int k = 0; k < kCount; ++k) s[k] = (size[k] - largest[k]) * inverse[k];
    polynomial<kDegree, kCount>(plan, s, power);
    square<kCount>(plan.squarings, power);
    const V limit = all(plan.threshold - 1.0f);
    for (int k = 0; k < kCount; ++k) power[k] = where_ge(s[k], limit, power[k]);
  }
};

struct TablePower {
  template <int kCount>
  static void raise(const PowerPlan& plan, const V* size, const V*, const V* inverse, V* power) {
    V u[kCount], s[kCount];
    const V one = all(1.0f);
    for (int k = 0; k < kCount; ++k) {
      u[k] = size[k] * inverse[k];
      s[k] = mantissa(u[k]) - one;
    }
    polynomial<PowerPlan::kMantissaDegree, kCount>(plan, s, power);
    square<kCount>(plan.squarings, power);
    const V limit = all(plan.threshold);
    for (int k = 0; k < kCount; ++k) {
      power[k] = where_ge(u[k], limit, power[k] * look_up_exponent(plan.table, u[k]));
    }
  }
};

struct WidePower {
  template <int kCount>
  static void raise(const PowerPlan& plan, const V* size, const V*, const V* inverse, V* power) {
    V u[kCount], s[kCount], exponent[kCount];
    const V one = all(1.0f);
    for (int k = 0; k < kCount; ++k) {
      u[k] = size[k] * inverse[k];
      s[k] = split(u[k], &exponent[k]) - one;
    }
    polynomial<PowerPlan::kMantissaDegree, kCount>(plan, s, power);
    square<kCount>(plan.squarings, power);
    const V q = all(plan.q * (1.0f / 8388608)), limit = all(plan.threshold);
    for (int k = 0; k < kCount; ++k) {
      power[k] = where_ge(u[k], limit, power[k] * exp2_of(exponent[k] * q));
    }
  }
};

// Calls f(power) with the power that the plan asks for.
template <class F>
inline void with_power(const PowerPlan& plan, const F& f) {
  if (plan.kind == PowerKind::kTable) return f(TablePower());
  if (plan.kind == PowerKind::kWide) return f(WidePower());
  switch (plan.degree) {
    case 2:
      return f(NarrowPower<2>());
    case 3:
      return f(NarrowPower<3>());
    case 4:
      return f(NarrowPower<4>());
    case 5:
      return f(NarrowPower<5>());
    case 6:
      return f(NarrowPower<6>());
    case 7:
      return f(NarrowPower<7>());
    case 9:
      return f(NarrowPower<9>());
    default:
      return f(NarrowPower<12>());
  }
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
