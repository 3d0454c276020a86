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

// power[k] <- (size[k] / largest[k])^q for kCount vectors together: the loops over coefficients and
// squarings run to numbers known only at run time, and are paid once for all of them.
template <int kCount>
inline void narrow_power(const PowerPlan& plan, const V* size, const V* largest, const V* inverse,
                         V* power) {
  V s[kCount];
  // u - 1 through the exact difference: u itself would be rounded, and the power multiplies that by q.
  for (int k = 0; k < kCount; ++k) s[k] = (size[k] - largest[k]) * inverse[k];
  const V first = all(plan.coefficients[plan.degree]);
  const V second = all(plan.coefficients[plan.degree - 1]);
  for (int k = 0; k < kCount; ++k) power[k] = fma(first, s[k], second);
  for (int j = plan.degree - 2; j >= 0; --j) {
    const V c = all(plan.coefficients[j]);
    for (int k = 0; k < kCount; ++k) power[k] = fma(power[k], s[k], c);
  }
  for (int j = 0; j < plan.squarings; ++j) {
    for (int k = 0; k < kCount; ++k) power[k] = power[k] * power[k];
  }
  const V limit = all(plan.threshold - 1.0f);
  for (int k = 0; k < kCount; ++k) power[k] = where_ge(s[k], limit, power[k]);
}

template <int kCount>
inline void wide_power(const PowerPlan& plan, const V* size, const V* inverse, V* power) {
  V u[kCount], s[kCount], exponent[kCount];
  const V one = all(1.0f);
  for (int k = 0; k < kCount; ++k) {
    u[k] = size[k] * inverse[k];
    s[k] = split(u[k], &exponent[k]) - one;
  }
  const V first = all(plan.coefficients[plan.degree]);
  for (int k = 0; k < kCount; ++k) power[k] = first;
  for (int j = plan.degree - 1; j >= 0; --j) {
    const V c = all(plan.coefficients[j]);
    for (int k = 0; k < kCount; ++k) power[k] = fma(power[k], s[k], c);
  }
  for (int j = 0; j < plan.squarings; ++j) {
    for (int k = 0; k < kCount; ++k) power[k] = power[k] * power[k];
  }
  const V q = all(plan.q * (1.0f / 8388608));
  const V limit = all(plan.threshold);
  for (int k = 0; k < kCount; ++k) {
    power[k] = where_ge(u[k], limit, power[k] * exp2_of(exponent[k] * q));
  }
}

template <bool kIsWide, int kCount>
inline void raise(const PowerPlan& plan, const V* size, const V* largest, const V* inverse,
                  V* power) {
  if (kIsWide) {
    wide_power<kCount>(plan, size, inverse, power);
  } else {
    narrow_power<kCount>(plan, size, largest, inverse, power);
  }
}

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
