// Vectors of 8 floats: what is the same with AVX2 and with AVX-512. Included by vec_avx2.h and
// vec_avx512vl.h inside the namespaces of vec.h: no guard, no include.

constexpr int kWidth = 8;
using V = __m256;
using I = __m256i;

inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V all(float v) { return _mm256_set1_ps(v); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
// a - b to the same bits as plain subtraction, but on the multiplier: next to a maximum, the adder
// is what AMD's processors run out of.
inline V difference(V a, V b) { return fms(a, all(1.0f), b); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }
inline V min(V a, V b) { return _mm256_min_ps(a, b); }
inline V abs(V a) { return _mm256_andnot_ps(all(-0.0f), a); }
inline V sqrt(V a) { return _mm256_sqrt_ps(a); }
inline I bits(V v) { return _mm256_castps_si256(v); }
inline V from_bits(I v) { return _mm256_castsi256_ps(v); }
inline I all_int(int32_t v) { return _mm256_set1_epi32(v); }
inline I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
inline I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
inline I and_int(I a, I b) { return _mm256_and_si256(a, b); }
inline I shift_left_23(I a) { return _mm256_slli_epi32(a, 23); }
inline I shift_right(I a, int count) { return _mm256_srl_epi32(a, _mm_cvtsi32_si128(count)); }
inline I lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
constexpr int kTableSize = 8;
// table[index modulo kTableSize]
inline V look_up(V table, I index) { return _mm256_permutevar8x32_ps(table, index); }
inline V to_float(I a) { return _mm256_cvtepi32_ps(a); }
inline float sum_lanes(V v) {
  __m128 part = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  part = _mm_add_ps(part, _mm_movehl_ps(part, part));
  return _mm_cvtss_f32(_mm_add_ss(part, _mm_movehdup_ps(part)));
}
inline float smallest_lane(V v) {
  __m128 part = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  part = _mm_min_ps(part, _mm_movehl_ps(part, part));
  return _mm_cvtss_f32(_mm_min_ss(part, _mm_movehdup_ps(part)));
}
