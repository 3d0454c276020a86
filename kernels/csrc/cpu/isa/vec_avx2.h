// Vectors of 8 floats: AVX2 and FMA.
// Included by vec.h inside its namespaces: no guard, no include.

#include "isa/vec_256.h"

constexpr bool kHasManyRegisters = false;  // 32, not 16
using Mask = I;
inline V max_abs(V a, V b) { return max(a, abs(b)); }
inline V with_sign(V magnitude, V of) {
  return _mm256_or_ps(magnitude, _mm256_and_ps(_mm256_set1_ps(-0.0f), of));
}
inline V where_ge(V a, V b, V v) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), v); }
inline V select_gt(V a, V b, V yes, V no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
inline uint32_t equal_bits(V a, V b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
}
// The set bits of every mask of 8, ascending.
struct SetBits {
  uint8_t of[256][8] = {};
  constexpr SetBits() {
    for (int mask = 0; mask < 256; ++mask) {
      for (int bit = 0, count = 0; bit < 8; ++bit) {
        if (mask >> bit & 1) of[mask][count++] = static_cast<uint8_t>(bit);
      }
    }
  }
};
constexpr SetBits kSetBits;
inline Mask either_ge(V a, V b, V limit) {
  return _mm256_castps_si256(_mm256_cmp_ps(max(a, b), limit, _CMP_GE_OQ));
}
inline int32_t* append_where(Mask mask, I values, int32_t* end) {
  const int lanes = _mm256_movemask_ps(_mm256_castsi256_ps(mask));
  const __m128i set = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(kSetBits.of[lanes]));
  _mm256_storeu_si256(reinterpret_cast<I*>(end),
                      _mm256_permutevar8x32_epi32(values, _mm256_cvtepu8_epi32(set)));
  return end + __builtin_popcount(lanes);
}
