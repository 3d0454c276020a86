// What the kernels ask of the hardware beyond plain C++, one function an instruction.
//
// Compiled by NVRTC or nvcc for a GPU, and by a host compiler with the tests' shim.h in place of
// the hardware. No torch, standard library or CUDA header is needed, so a kernel compiles in about
// a second.
#pragma once

#ifdef SUPNORM_HOST_SHIM
#include "shim.h"
#else

namespace supnorm {

using int64 = long long;
using uint64 = unsigned long long;

#define SUPNORM_DEVICE __device__ __forceinline__

// The block's dynamic shared memory, aligned to 16 bytes.
SUPNORM_DEVICE float* shared_memory() {
  extern __shared__ float4 supnorm_shared[];
  return reinterpret_cast<float*>(supnorm_shared);
}

SUPNORM_DEVICE int bits_of(float v) { return __float_as_int(v); }
SUPNORM_DEVICE float from_bits(int v) { return __int_as_float(v); }

// One instruction from sm_90 on. Non-negative floats compare like their bits, NaN above infinity.
SUPNORM_DEVICE int max3(int a, int b, int c) { return __vimax3_s32(a, b, c); }
SUPNORM_DEVICE unsigned max3(unsigned a, unsigned b, unsigned c) { return __vimax3_u32(a, b, c); }

// max(|a|, |b|), NaN where either is: one instruction, absolute values included.
SUPNORM_DEVICE float max_abs(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(fabsf(a)), "f"(fabsf(b)));
  return result;
}

// 2^v and log2 v by the special-function unit: errors of about 2^-22, 16 results a cycle.
SUPNORM_DEVICE float fast_exp2(float v) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}
SUPNORM_DEVICE float fast_log2(float v) {
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}

// Copies kBytes (4 or 16) to shared memory, or zeros; they are there after the wait_copies that
// covers their commit_copies, and a barrier.
template <int kBytes>
SUPNORM_DEVICE void copy_async(float* to, const float* from, bool is_wanted) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int ignored = !is_wanted;
  if constexpr (kBytes == 16) {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %2, 0;\n"
        "cp.async.cg.shared.global [%0], [%1], 16, p; }" ::"r"(address),
        "l"(from), "r"(ignored)
        : "memory");
  } else {
    asm volatile(
        "{ .reg .pred p; setp.ne.b32 p, %2, 0;\n"
        "cp.async.ca.shared.global [%0], [%1], 4, p; }" ::"r"(address),
        "l"(from), "r"(ignored)
        : "memory");
  }
}
SUPNORM_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of the groups committed last are under way.
template <int kPending>
SUPNORM_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

SUPNORM_DEVICE void sync_block() { __syncthreads(); }
SUPNORM_DEVICE void sync_warp() { __syncwarp(); }

// Every lane of the warp takes part in these.
SUPNORM_DEVICE float shuffle_xor(float v, int mask) {
  return __shfl_xor_sync(0xffffffffu, v, mask);
}
SUPNORM_DEVICE int shuffle_xor(int v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }
SUPNORM_DEVICE float shuffle_from(float v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
SUPNORM_DEVICE int shuffle_from(int v, int lane) { return __shfl_sync(0xffffffffu, v, lane); }
SUPNORM_DEVICE unsigned vote(bool condition) { return __ballot_sync(0xffffffffu, condition); }

// The lanes whose v equals this lane's.
SUPNORM_DEVICE unsigned lanes_with(int v) { return __match_any_sync(0xffffffffu, v); }

SUPNORM_DEVICE int lowest_bit(unsigned v) { return __ffs(static_cast<int>(v)) - 1; }
SUPNORM_DEVICE int count_bits(unsigned v) { return __popc(v); }

}  // namespace supnorm

#endif
