// One vector of floats, in the instruction set that this translation unit is compiled for.
//
// Every kernel source is compiled once an instruction set, with -DSUPNORM_ISA=<name>. Everything
// here has internal linkage and nothing of the standard library is included, so that no inline
// function compiled for AVX-512 can be picked by the linker to serve an older processor.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(SUPNORM_AVX512VL)
#define SUPNORM_VEC "isa/vec_avx512vl.h"
#define SUPNORM_WIDE_VEC "isa/vec_avx512.h"
#else
#if defined(__AVX512F__)
#define SUPNORM_VEC "isa/vec_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#define SUPNORM_VEC "isa/vec_avx2.h"
#else
#define SUPNORM_VEC "isa/vec_portable.h"
#endif
#define SUPNORM_WIDE_VEC SUPNORM_VEC
#endif

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

#include SUPNORM_VEC

// The widest vectors, where they differ from those that the arithmetic uses.
namespace wide {
#include SUPNORM_WIDE_VEC
}

// A value of which the compiler knows nothing: it neither moves nor joins operations across it.
inline V opaque(V v) {
#if defined(__AVX512F__)
  asm volatile("" : "+v"(v));
#elif defined(__x86_64__)
  asm volatile("" : "+x"(v));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(v));
#endif
  return v;
}

// sums[k] <- the sum of v[k]'s lanes.
template <int kCount>
inline void sum_lanes_of(const V (&v)[kCount], float (&sums)[kCount]) {
#if defined(__AVX512F__) && !defined(SUPNORM_AVX512VL)
  if constexpr (kCount == 4 && kWidth == 16) return sum_lanes_of_four(v, sums);
#endif
  for (int k = 0; k < kCount; ++k) sums[k] = sum_lanes(v[k]);
}

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
