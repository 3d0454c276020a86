// How fast this processor runs the arithmetic of a kernel with operands in registers: nothing that
// computes the same by the same instructions can be faster.
#include "host/kernels.h"
#include "isa/vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kLanesOperands = 3, kRowOperands = kHasManyRegisters ? 4 : 2;
constexpr int kAccumulators = kLanesOperands * kRowOperands;

// step(accumulator, lanes, row) on every accumulator of a tile, again and again.
template <class Step>
__attribute__((noinline)) float run(int64_t count, const Step& step) {
  V lanes[kLanesOperands], rows[kRowOperands], sums[kAccumulators];
  for (int v = 0; v < kLanesOperands; ++v) lanes[v] = opaque(all(0.5f));
  for (int r = 0; r < kRowOperands; ++r) rows[r] = opaque(all(0.25f));
  for (int k = 0; k < kAccumulators; ++k) sums[k] = all(0.0f);
  for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 4
    for (int r = 0; r < kRowOperands; ++r) rows[r] = opaque(rows[r]);
#pragma GCC unroll 4
    for (int v = 0; v < kLanesOperands; ++v) lanes[v] = opaque(lanes[v]);
#pragma GCC unroll 16
    for (int k = 0; k < kAccumulators; ++k) {
      sums[k] = step(sums[k], lanes[k % kLanesOperands], rows[k / kLanesOperands]);
    }
  }
  V total = sums[0];
  for (int k = 1; k < kAccumulators; ++k) total = total + sums[k];
  return sum_lanes(total);
}

}  // namespace

int64_t run_arithmetic(Arithmetic kind, int64_t count) {
  const FlushToZero guard;
  volatile float result;
  if (kind == Arithmetic::kMaximum) {
    result = run(count, [](V sum, V lanes, V row) { return max_abs(sum, difference(lanes, row)); });
  } else {
    result = run(count, [](V sum, V lanes, V row) {
      V power = lanes - row;
      power = power * power;
      power = power * power;
      return fma(power, power, sum);
    });
  }
  (void)result;
  return count * kAccumulators * kWidth;
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
