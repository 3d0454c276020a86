// The table of one instruction set's kernels, and what looks at operands before the others do.
#include "isa/pack.h"

namespace supnorm {
namespace SUPNORM_ISA {

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void linf_distance_bounds(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end);
int64_t lp_distance_count(const BackwardArgs& a, int64_t block, int64_t outputs_apart);
void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end);
void squares_factors(const BackwardArgs& a, int64_t begin, int64_t end);
void dense_backward(const BackwardArgs& a, int64_t begin, int64_t end);
const IntegerKernels& integer_kernels();
const AllSparseKernels& sparse_kernels();
const SparseStackKernels& sparse_stack_kernels();
int64_t run_arithmetic(Arithmetic kind, int64_t count);

namespace {

void pack(const float* source, int64_t rows, int64_t columns, int64_t stride, const int32_t* order,
          float scale, float* packed, float* spans, int64_t begin, int64_t end) {
  const int64_t tasks_a_block = (columns + kPackColumns - 1) / kPackColumns;
  for (int64_t index = begin; index < end; ++index) {
    const int64_t block = index / tasks_a_block, first = index % tasks_a_block * kPackColumns;
    const int64_t count = columns - first < kPackColumns ? columns - first : kPackColumns;
    float* low = spans + block * 2 * columns + first;
    pack_block<kLanes>(source + first, rows, count, stride, order, scale, block,
                       packed + (block * columns + first) * kLanes, low, low + columns);
  }
}

Sizes sizes_of(const float* row, int64_t count) {
  const V zero = all(0.0f), infinity = all(__builtin_inff());
  V smallest = infinity, largest = zero, invalid = zero;
  const auto take = [&](V value) {
    const V size = abs(value);
    smallest = min(smallest, select_gt(size, zero, size, infinity));
    largest = max(largest, size);
    invalid = fma(value, zero, invalid);  // NaN once a value is NaN or infinite
  };
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) take(load(row + i));
  float rest[kWidth] = {};
  for (int lane = 0; i + lane < count; ++lane) rest[lane] = row[i + lane];
  take(load(rest));
  return {smallest_lane(smallest), largest_lane(largest) + sum_lanes(invalid)};
}

void measure(const float* source, int64_t columns, int64_t stride, Sizes* sizes, int64_t begin,
             int64_t end) {
  for (int64_t row = begin; row < end; ++row) sizes[row] = sizes_of(source + row * stride, columns);
}

float distance_of(const float* a, const float* b, int64_t count, float scale) {
  V sum = all(0.0f);
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth)
    sum = fma(abs(load(a + i) - load(b + i)), all(scale), sum);
  float total = sum_lanes(sum);
  for (; i < count; ++i) total += __builtin_fabsf(a[i] - b[i]) * scale;
  return total;
}

void distances(const float* source, int64_t columns, int64_t stride, float scale, int64_t from,
               const int32_t* rows, float* result, int64_t begin, int64_t end) {
  for (int64_t k = begin; k < end; ++k) {
    result[k] = distance_of(source + rows[k] * stride, source + from * stride, columns, scale);
  }
}

constexpr Kernels kTable = {SUPNORM_ISA_NAME,
                            kLanes,
                            kTableSize,
                            measure,
                            distances,
                            pack,
                            linf_distance,
                            linf_distance_bounds,
                            lp_distance,
                            lp_distance_factors,
                            lp_distance_count,
                            lp_distance_backward,
                            squares_factors,
                            dense_backward,
                            integer_kernels,
                            sparse_kernels,
                            sparse_stack_kernels,
                            run_arithmetic};

}  // namespace
}  // namespace SUPNORM_ISA

#define SUPNORM_JOIN_(a, b) a##b
#define SUPNORM_JOIN(a, b) SUPNORM_JOIN_(a, b)
const Kernels& SUPNORM_JOIN(kernels_, SUPNORM_ISA)() { return SUPNORM_ISA::kTable; }

}  // namespace supnorm
