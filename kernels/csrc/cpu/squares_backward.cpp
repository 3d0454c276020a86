// Gradients of lp_distance for p = 2, 4, 8, 16, by multiplication alone.
//
// With t = x_i - w_oi, grad_x_i is the sum of f_bo t^(p-1) over outputs and grad_w_oi minus that
// over samples, f = grad / distance^(p-1). One pass gives both. The caller has made sure that the
// powers stay in range. A task owns kWidth inputs: no two tasks add to the same number, so nothing
// is atomic and the order of every sum is fixed. Inputs lie along the lanes; kRows samples stay in
// registers while outputs go by.
#include "kernels.h"
#include "vec.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = kHasManyRegisters ? 8 : 4;
static_assert(kRowTile % kRows == 0, "rows in registers share a tile of factors");
constexpr int64_t kOutputs = 64;  // outputs by which the inner loops go: their block stays in L1

// Copies columns [first, first + kWidth) of a matrix, scaled and zero-padded, to packed[row][lane].
void pack_columns(const float* source, int64_t rows, int64_t columns, int64_t stride, int64_t first,
                  float scale, float* packed) {
  const int64_t count = columns - first < kWidth ? columns - first : kWidth;
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = source + row * stride + first;
    float* to = packed + row * kWidth;
    if (count == kWidth) {
      store(to, load(from) * all(scale));
      continue;
    }
    for (int lane = 0; lane < kWidth; ++lane) to[lane] = lane < count ? from[lane] * scale : 0.0f;
  }
}

void unpack_columns(const float* packed, int64_t rows, int64_t columns, int64_t stride,
                    int64_t first, float* target) {
  if (target == nullptr) return;
  const int64_t count = columns - first < kWidth ? columns - first : kWidth;
  for (int64_t row = 0; row < rows; ++row) {
    float* to = target + row * stride + first;
    for (int lane = 0; lane < count; ++lane) to[lane] = packed[row * kWidth + lane];
  }
}

void clear(float* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = 0.0f;
}

// The block of one task: packed operands and gradients, [row][lane].
struct Block {
  const float *x, *w;
  float *grad_x, *grad_w;
};

// t^(2^kSquarings - 1)
template <int kSquarings>
inline V odd_power(V t) {
  V square = t * t;
  V result = kSquarings == 1 ? t : t * square;
  for (int j = 2; j < kSquarings; ++j) {
    square = square * square;
    result = result * square;
  }
  return result;
}

template <int kSquarings>
__attribute__((noinline)) void accumulate(const BackwardArgs& a, const Block& block) {
  const int64_t num_rows = a.problem.num_rows, num_outputs = a.problem.num_outputs;
  for (int64_t first = 0; first < num_outputs; first += kOutputs) {
    const int64_t last = first + kOutputs < num_outputs ? first + kOutputs : num_outputs;
    for (int64_t row = 0; row < num_rows; row += kRows) {
      V x[kRows], grad_x[kRows];
      for (int r = 0; r < kRows; ++r) {
        x[r] = load(block.x + (row + r) * kWidth);
        grad_x[r] = load(block.grad_x + (row + r) * kWidth);
      }
      const float* factors =
          a.factors + (row / kRowTile * num_outputs + first) * kRowTile + row % kRowTile;
      for (int64_t o = first; o < last; ++o, factors += kRowTile) {
        const V w = load(block.w + o * kWidth);
        V grad_w = load(block.grad_w + o * kWidth);
        for (int r = 0; r < kRows; ++r) {
          // One product and two sums: two fused operations would keep the multipliers busy longer,
          // which are what this loop waits for where a processor has adders besides (AMD).
          const V flow = opaque(all(factors[r]) * odd_power<kSquarings>(x[r] - w));
          grad_x[r] = grad_x[r] + flow;
          grad_w = grad_w + flow;
        }
        store(block.grad_w + o * kWidth, grad_w);
      }
      for (int r = 0; r < kRows; ++r) store(block.grad_x + (row + r) * kWidth, grad_x[r]);
    }
  }
}

void accumulate_any(const BackwardArgs& a, const Block& block) {
  switch (a.p_squarings) {
    case 1:
      return accumulate<1>(a, block);
    case 2:
      return accumulate<2>(a, block);
    case 3:
      return accumulate<3>(a, block);
    default:
      return accumulate<4>(a, block);
  }
}

int64_t padded_rows(const Problem& problem) {
  return (problem.num_rows + kRowTile - 1) / kRowTile * kRowTile;
}

// grad / (scale * distance)^(p-1), 0 where the distance is 0.
float factor_of(const BackwardArgs& a, float grad, float distance) {
  if (distance == 0) return 0.0f;
  double factor = static_cast<double>(grad);
  double power = 1 / (static_cast<double>(distance) * static_cast<double>(a.scale));
  for (int j = 0; j < a.p_squarings; ++j) {
    factor *= power;
    power *= power;
  }
  return static_cast<float>(factor);
}

}  // namespace

void squares_backward_factors(const BackwardArgs& a, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  for (int64_t row = begin * kRowTile; row < end * kRowTile; ++row) {
    float* out = a.factors + row / kRowTile * problem.num_outputs * kRowTile + row % kRowTile;
    const bool is_padding = row >= problem.num_rows;
    for (int64_t o = 0; o < problem.num_outputs; ++o, out += kRowTile) {
      const int64_t at = row * problem.out_stride + o;
      *out = is_padding ? 0.0f : factor_of(a, a.grad[at], a.distance[at]);
    }
  }
}

void squares_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Problem& problem = a.problem;
  const int64_t rows = padded_rows(problem);
  for (int64_t task = begin; task < end; ++task) {
    float* x = a.packed_x + task * rows * kWidth;
    float* grad_x = a.packed_grad_x + task * rows * kWidth;
    float* w = a.packed_w + task * problem.num_outputs * kWidth;
    float* grad_w = a.packed_grad_w + task * problem.num_outputs * kWidth;
    const int64_t first = task * kWidth;
    pack_columns(problem.x, problem.num_rows, problem.num_inputs, problem.x_stride, first, a.scale,
                 x);
    clear(x + problem.num_rows * kWidth, (rows - problem.num_rows) * kWidth);
    pack_columns(problem.w, problem.num_outputs, problem.num_inputs, problem.num_inputs, first,
                 a.scale, w);
    clear(grad_x, rows * kWidth);
    clear(grad_w, problem.num_outputs * kWidth);
    accumulate_any(a, {x, w, grad_x, grad_w});
    unpack_columns(grad_x, problem.num_rows, problem.num_inputs, problem.x_stride, first, a.grad_x);
    for (int64_t i = 0; i < problem.num_outputs * kWidth; ++i) grad_w[i] = -grad_w[i];
    unpack_columns(grad_w, problem.num_outputs, problem.num_inputs, problem.num_inputs, first,
                   a.grad_w);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
