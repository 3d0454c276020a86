// Vectors of 16 floats: AVX-512.
// Included by vec.h inside its namespaces: no guard, no include.

constexpr int kWidth = 16;
constexpr bool kHasManyRegisters = true;  // 32, not 16
using V = __m512;
using I = __m512i;
using Mask = __mmask16;

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V all(float v) { return _mm512_set1_ps(v); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
// a - b to the same bits as plain subtraction, but on the multiplier: next to a maximum, the adder
// is what AMD's processors run out of.
inline V difference(V a, V b) { return fms(a, all(1.0f), b); }
inline V max(V a, V b) { return _mm512_max_ps(a, b); }
inline V min(V a, V b) { return _mm512_min_ps(a, b); }
inline V abs(V a) { return _mm512_abs_ps(a); }
inline V max_abs(V a, V b) { return _mm512_range_ps(a, b, 0xB); }
inline V sqrt(V a) { return _mm512_sqrt_ps(a); }
// magnitude (>= 0) with the sign of `of`
inline V with_sign(V magnitude, V of) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
      _mm512_castps_si512(magnitude), _mm512_castps_si512(of), _mm512_set1_epi32(INT32_MIN), 0xF8));
}
// v where a >= b, else 0
inline V where_ge(V a, V b, V v) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), v);
}
inline V select_gt(V a, V b, V yes, V no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), no, yes);
}
inline uint32_t equal_bits(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline I bits(V v) { return _mm512_castps_si512(v); }
inline V from_bits(I v) { return _mm512_castsi512_ps(v); }
inline I all_int(int32_t v) { return _mm512_set1_epi32(v); }
inline I add_int(I a, I b) { return _mm512_add_epi32(a, b); }
inline I sub_int(I a, I b) { return _mm512_sub_epi32(a, b); }
inline I and_int(I a, I b) { return _mm512_and_si512(a, b); }
inline I shift_left_23(I a) { return _mm512_slli_epi32(a, 23); }
inline I shift_right(I a, int count) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(count)); }
inline I lane_numbers() {
  return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
constexpr int kTableSize = 16;
// table[index modulo kTableSize]
inline V look_up(V table, I index) { return _mm512_permutexvar_ps(index, table); }
inline V to_float(I a) { return _mm512_cvtepi32_ps(a); }
// Where a or b is at least the limit.
inline Mask either_ge(V a, V b, V limit) {
  return _mm512_cmp_ps_mask(a, limit, _CMP_GE_OQ) | _mm512_cmp_ps_mask(b, limit, _CMP_GE_OQ);
}
// Appends the lanes of the mask to the list; may write kWidth entries.
inline int32_t* append_where(Mask mask, I values, int32_t* end) {
  _mm512_storeu_si512(end, _mm512_maskz_compress_epi32(mask, values));
  return end + __builtin_popcount(mask);
}
inline float sum_lanes(V v) { return _mm512_reduce_add_ps(v); }
inline float smallest_lane(V v) { return _mm512_reduce_min_ps(v); }
inline void sum_lanes_of_four(const V* v, float* sums) {
  const V ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const V cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const V four = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_extractf32x8_ps(four, 1));
  _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
