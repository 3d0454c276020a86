// Vectors of 8 floats with the 32 registers and the masks of AVX-512, for processors that split 512
// bits in two: there they keep multipliers and adders busy at the same time (Zen 4, measured: 57
// against 40 G/s of a difference and a maximum a core). Included by vec.h inside its namespaces: no
// guard, no include.

#include "isa/vec_256.h"

constexpr bool kHasManyRegisters = true;  // 32, not 16

inline V max_abs(V a, V b) { return _mm256_range_ps(a, b, 0xB); }
// magnitude (>= 0) with the sign of `of`
inline V with_sign(V magnitude, V of) {
  return _mm256_castsi256_ps(_mm256_ternarylogic_epi32(
      _mm256_castps_si256(magnitude), _mm256_castps_si256(of), _mm256_set1_epi32(INT32_MIN), 0xF8));
}
// v where a >= b, else 0
inline V where_ge(V a, V b, V v) {
  return _mm256_maskz_mov_ps(_mm256_cmp_ps_mask(a, b, _CMP_GE_OQ), v);
}
inline V select_gt(V a, V b, V yes, V no) {
  return _mm256_mask_blend_ps(_mm256_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
}
inline uint32_t equal_bits(V a, V b) { return _mm256_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
