// One vector of floats, in the instruction set that this translation unit is compiled for.
//
// Every kernel source is compiled once an instruction set, with -DSUPNORM_ISA=<name>. Everything here has
// internal linkage and nothing of the standard library is included, so that no inline function compiled
// for AVX-512 can be picked by the linker to serve an older processor.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

#if defined(__AVX512F__)

constexpr int kWidth = 16;
using V = __m512;
using I = __m512i;

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V all(float v) { return _mm512_set1_ps(v); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
inline V max(V a, V b) { return _mm512_max_ps(a, b); }
inline V min(V a, V b) { return _mm512_min_ps(a, b); }
inline V abs(V a) { return _mm512_abs_ps(a); }
inline V max_abs(V a, V b) { return _mm512_range_ps(a, b, 0xB); }
inline V sqrt(V a) { return _mm512_sqrt_ps(a); }
// magnitude (>= 0) with the sign of `of`
inline V with_sign(V magnitude, V of) {
  return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(magnitude),
                                                       _mm512_castps_si512(of),
                                                       _mm512_set1_epi32(INT32_MIN), 0xF8));
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
constexpr int kTableSize = 16;
// table[exponent of v, biased, modulo kTableSize]
inline V look_up_exponent(V table, V v) {
  return _mm512_permutexvar_ps(_mm512_srli_epi32(bits(v), 23), table);
}
inline V mantissa(V v) {  // of v > 0, in [1, 2)
  return from_bits(_mm512_ternarylogic_epi32(bits(v), all_int(0x7fffff), all_int(0x3f800000), 0xEA));
}
inline V to_float(I a) { return _mm512_cvtepi32_ps(a); }
// Appends first + k, for every lane k with a >= b, to the list, ascending; may write kWidth entries.
inline int32_t* append_where_ge(V a, V b, int32_t first, int32_t* end) {
  const __mmask16 mask = _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
  const I lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const I index = add_int(lane, all_int(first));
  _mm512_storeu_si512(end, _mm512_maskz_compress_epi32(mask, index));
  return end + __builtin_popcount(mask);
}
inline float sum_lanes(V v) { return _mm512_reduce_add_ps(v); }
inline float smallest_lane(V v) { return _mm512_reduce_min_ps(v); }

#elif defined(__AVX2__) && defined(__FMA__)

constexpr int kWidth = 8;
using V = __m256;
using I = __m256i;

inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V all(float v) { return _mm256_set1_ps(v); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }
inline V min(V a, V b) { return _mm256_min_ps(a, b); }
inline V abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline V max_abs(V a, V b) { return max(a, abs(b)); }
inline V sqrt(V a) { return _mm256_sqrt_ps(a); }
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
inline I bits(V v) { return _mm256_castps_si256(v); }
inline V from_bits(I v) { return _mm256_castsi256_ps(v); }
inline I all_int(int32_t v) { return _mm256_set1_epi32(v); }
inline I add_int(I a, I b) { return _mm256_add_epi32(a, b); }
inline I sub_int(I a, I b) { return _mm256_sub_epi32(a, b); }
inline I and_int(I a, I b) { return _mm256_and_si256(a, b); }
inline I shift_left_23(I a) { return _mm256_slli_epi32(a, 23); }
constexpr int kTableSize = 8;
inline V look_up_exponent(V table, V v) {
  return _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(bits(v), 23));
}
inline V mantissa(V v) {
  return _mm256_or_ps(_mm256_and_ps(v, from_bits(all_int(0x7fffff))), all(1.0f));
}
inline V to_float(I a) { return _mm256_cvtepi32_ps(a); }
inline int32_t* append_where_ge(V a, V b, int32_t first, int32_t* end) {
  unsigned mask = static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  for (; mask != 0; mask &= mask - 1) *end++ = first + __builtin_ctz(mask);
  return end;
}
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

#else  // GCC and Clang turn these into what the processor has: SSE2, NEON, ...

constexpr int kWidth = 4;
typedef float V __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));

inline V load(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
inline V all(float v) { return V{v, v, v, v}; }
inline V fma(V a, V b, V c) { return a * b + c; }
inline V fms(V a, V b, V c) { return a * b - c; }
inline I bits(V v) { return (I)v; }
inline V from_bits(I v) { return (V)v; }
inline V choose(I mask, V yes, V no) {
  return from_bits((mask & bits(yes)) | (~mask & bits(no)));
}
inline V max(V a, V b) { return choose(a > b, a, b); }
inline V min(V a, V b) { return choose(a < b, a, b); }
inline I all_int(int32_t v) { return I{v, v, v, v}; }
inline V abs(V a) { return from_bits(bits(a) & all_int(INT32_MAX)); }
inline V max_abs(V a, V b) { return max(a, abs(b)); }
inline V sqrt(V a) {
  for (int i = 0; i < kWidth; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
inline V with_sign(V magnitude, V of) {
  return from_bits(bits(magnitude) | (bits(of) & all_int(INT32_MIN)));
}
inline V where_ge(V a, V b, V v) { return from_bits((a >= b) & bits(v)); }
inline V select_gt(V a, V b, V yes, V no) { return choose(a > b, yes, no); }
inline uint32_t equal_bits(V a, V b) {
  uint32_t result = 0;
  for (int i = 0; i < kWidth; ++i) result |= static_cast<uint32_t>(a[i] == b[i]) << i;
  return result;
}
inline I add_int(I a, I b) { return a + b; }
inline I sub_int(I a, I b) { return a - b; }
inline I and_int(I a, I b) { return a & b; }
inline I shift_left_23(I a) { return a << 23; }
constexpr int kTableSize = 0;  // no instruction to look up a whole vector
inline V look_up_exponent(V, V v) { return v; }
inline V mantissa(V v) { return from_bits((bits(v) & 0x7fffff) | 0x3f800000); }
inline V to_float(I a) { return __builtin_convertvector(a, V); }
inline int32_t* append_where_ge(V a, V b, int32_t first, int32_t* end) {
  for (int i = 0; i < kWidth; ++i) {
    *end = first + i;
    end += a[i] >= b[i];
  }
  return end;
}
inline float sum_lanes(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float smallest_lane(V v) {
  const float a = v[0] < v[1] ? v[0] : v[1], b = v[2] < v[3] ? v[2] : v[3];
  return a < b ? a : b;
}

#endif

inline float largest_lane(V v) { return -smallest_lane(all(0.0f) - v); }

// While one lives, results too small for a normal float become 0: gradual underflow costs a hundred
// cycles an operation and nothing below 2^-126 matters where these kernels set it.
class FlushToZero {
 public:
#if defined(__x86_64__)
  FlushToZero() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushToZero() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  FlushToZero() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (uint64_t{1} << 24)));
  }
  ~FlushToZero() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }

 private:
  uint64_t saved_;
#else
  FlushToZero() {}
#endif
};

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
