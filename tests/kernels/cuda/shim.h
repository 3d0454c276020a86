// The hardware of device.h on a CPU, so that the kernels' own source is tested where no GPU is.
//
// Threads are those of shim_threads.h. Shared memory starts as NaN; so does the target of an
// asynchronous copy, until the wait that makes it land.
#pragma once

#include "shim_threads.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define SUPNORM_DEVICE inline

struct alignas(16) float4 {
  float x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace supnorm {
namespace shim {

inline void land(std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    for (int k = 0; k < copy.words; ++k) copy.to[k] = copy.is_wanted ? copy.from[k] : 0.0f;
  }
}

}  // namespace shim

inline float* shared_memory() {
  const auto address = reinterpret_cast<uintptr_t>(shim::block->shared.data());
  return reinterpret_cast<float*>((address + 15) / 16 * 16);
}

inline int bits_of(float v) {
  int result;
  memcpy(&result, &v, 4);
  return result;
}
inline float from_bits(int v) {
  float result;
  memcpy(&result, &v, 4);
  return result;
}

template <class T>
inline T max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
inline T min(T a, T b) {
  return a < b ? a : b;
}
inline int max3(int a, int b, int c) { return max(max(a, b), c); }
inline unsigned max3(unsigned a, unsigned b, unsigned c) { return max(max(a, b), c); }

inline float max_abs(float a, float b) {
  if (a != a || b != b) return from_bits(0x7fffffff);
  return max(fabsf(a), fabsf(b));
}

// With the errors that the special-function unit may make.
inline float fast_exp2(float v) { return exp2f(v) * (1 + 0x1p-23f); }
inline float fast_log2(float v) { return log2f(v) + 0x1p-23f; }

template <int kBytes>
inline void copy_async(float* to, const float* from, bool is_wanted) {
  for (int k = 0; k < kBytes / 4; ++k) to[k] = from_bits(-1);
  if (reinterpret_cast<uintptr_t>(to) % kBytes != 0 ||
      reinterpret_cast<uintptr_t>(from) % kBytes != 0) {
    fprintf(stderr, "shim: an asynchronous copy is not aligned\n");
    abort();
  }
  shim::block->fibres[static_cast<size_t>(shim::block->current)].open.push_back(
      {to, from, kBytes / 4, is_wanted});
}
inline void commit_copies() {
  shim::Fibre& fibre = shim::block->fibres[static_cast<size_t>(shim::block->current)];
  fibre.groups.push_back(std::move(fibre.open));
  fibre.open.clear();
}
template <int kPending>
inline void wait_copies() {
  auto& groups = shim::block->fibres[static_cast<size_t>(shim::block->current)].groups;
  while (static_cast<int>(groups.size()) > kPending) {
    shim::land(groups.front());
    groups.erase(groups.begin());
  }
}

inline void sync_block() { shim::meet(shim::block->all); }
inline void sync_warp() { shim::meet(shim::warp()); }

inline int shuffle_from(int v, int lane) {
  return static_cast<int>(shim::exchange(static_cast<uint32_t>(v))[lane]);
}
inline float shuffle_from(float v, int lane) { return from_bits(shuffle_from(bits_of(v), lane)); }
inline int shuffle_xor(int v, int mask) { return shuffle_from(v, shim::lane() ^ mask); }
inline float shuffle_xor(float v, int mask) { return shuffle_from(v, shim::lane() ^ mask); }
inline unsigned vote(bool condition) {
  const uint32_t* words = shim::exchange(condition);
  unsigned result = 0;
  for (int k = 0; k < shim::kWarp; ++k) result |= (words[k] & 1u) << k;
  return result;
}
inline unsigned lanes_with(int v) {
  const uint32_t* words = shim::exchange(static_cast<uint32_t>(v));
  unsigned result = 0;
  for (int k = 0; k < shim::kWarp; ++k) {
    if (words[k] == static_cast<uint32_t>(v)) result |= 1u << k;
  }
  return result;
}
inline int lowest_bit(unsigned v) { return __builtin_ffs(static_cast<int>(v)) - 1; }
inline int count_bits(unsigned v) { return __builtin_popcount(v); }

template <class T>
inline T atomicMax(T* at, T v) {
  const T before = *at;
  *at = max(before, v);
  return before;
}
template <class T>
inline T atomicAdd(T* at, T v) {
  const T before = *at;
  *at = before + v;
  return before;
}

}  // namespace supnorm

#define threadIdx supnorm::shim::thread_index
#define blockIdx supnorm::shim::block_index
#define blockDim supnorm::shim::block_size
#define gridDim supnorm::shim::grid_size
