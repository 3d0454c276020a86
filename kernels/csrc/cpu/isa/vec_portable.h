// Vectors of 4 floats, which GCC and Clang turn into what the processor has: SSE2, NEON.
// Included by vec.h inside its namespaces: no guard, no include.

constexpr int kWidth = 4;
constexpr bool kHasManyRegisters = false;  // 32, not 16
typedef float V __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
typedef uint32_t U __attribute__((vector_size(16)));  // sums that may wrap around
using Mask = I;

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
inline V choose(I mask, V yes, V no) { return from_bits((mask & bits(yes)) | (~mask & bits(no))); }
inline V difference(V a, V b) { return a - b; }
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
inline I add_int(I a, I b) { return (I)((U)a + (U)b); }
inline I sub_int(I a, I b) { return (I)((U)a - (U)b); }
inline I and_int(I a, I b) { return a & b; }
inline I shift_left_23(I a) { return (I)((U)a << 23); }
inline I shift_right(I a, int count) { return a >> count; }
inline I lane_numbers() { return I{0, 1, 2, 3}; }
constexpr int kTableSize = 0;  // too slow to be used: no instruction looks up a whole vector
inline V look_up(V table, I index) {
  V result;
  for (int i = 0; i < kWidth; ++i) result[i] = table[index[i] & (kWidth - 1)];
  return result;
}
inline V to_float(I a) { return __builtin_convertvector(a, V); }
inline Mask either_ge(V a, V b, V limit) { return (Mask)(a >= limit) | (Mask)(b >= limit); }
inline int32_t* append_where(Mask mask, I values, int32_t* end) {
  for (int i = 0; i < kWidth; ++i) {
    *end = values[i];
    end -= mask[i];
  }
  return end;
}
inline float sum_lanes(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float smallest_lane(V v) {
  const float a = v[0] < v[1] ? v[0] : v[1], b = v[2] < v[3] ? v[2] : v[3];
  return a < b ? a : b;
}
