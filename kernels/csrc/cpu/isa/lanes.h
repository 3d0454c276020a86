// One vector of any number type, by the compiler's vector extension, and magnitudes as integers.
//
// The magnitude of a float is its bits without the sign: they order as magnitudes do, and NaN lies
// above infinity, so an integer maximum keeps it.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

#if defined(__AVX512F__) && !defined(SUPNORM_AVX512VL)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct IntegerOf {
  using Type = T;
};
template <>
struct IntegerOf<float> {
  using Type = int32_t;
};
template <>
struct IntegerOf<double> {
  using Type = int64_t;
};

template <class T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
};

// |v|, which GCC does not find an instruction for by itself.
template <class V>
inline V absolute(V v) {
  [[maybe_unused]] constexpr bool kIsShort = sizeof(v[0]) == 2;
#if defined(__AVX512F__) && !defined(SUPNORM_AVX512VL)
  return kIsShort ? (V)_mm512_abs_epi16((__m512i)v) : (V)_mm512_abs_epi32((__m512i)v);
#elif defined(__AVX2__)
  return kIsShort ? (V)_mm256_abs_epi16((__m256i)v) : (V)_mm256_abs_epi32((__m256i)v);
#else
  return v > -v ? v : -v;
#endif
}

template <class T>
struct Lanes {
  using M = typename IntegerOf<T>::Type;
  using V = typename VectorOf<T>::Type;
  using VM = typename VectorOf<M>::Type;
  static constexpr bool kIsFloat = static_cast<T>(0.5) != 0;
  static constexpr int kWidth = kVectorBytes / sizeof(T);
  static constexpr M kSign = static_cast<M>(M{1} << (8 * sizeof(M) - 1));

  static V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, VM v) { __builtin_memcpy(p, &v, sizeof v); }
  static V all(T value) { return value - V{}; }
  static VM all_magnitude(M value) { return value - VM{}; }
  static VM max(VM a, VM b) { return a > b ? a : b; }

  // |v|
  static VM magnitude(V v) {
    if constexpr (kIsFloat) {
      return (VM)v & ~all_magnitude(kSign);
    } else {
      return absolute(v);
    }
  }
  // v where it is above 0, else something not above 0
  static VM positive(V v) { return (VM)v; }
  static M bits(T value) {
    M result;
    __builtin_memcpy(&result, &value, sizeof result);
    return result;
  }
  // `value` unless `reach` is NaN
  static VM nan_where_nan(VM value, VM reach) {
    if constexpr (kIsFloat) {
      return reach > all_magnitude(bits(static_cast<T>(__builtin_inf()))) ? reach : value;
    } else {
      return value;
    }
  }
};

}  // namespace
}  // namespace SUPNORM_ISA
}  // namespace supnorm
