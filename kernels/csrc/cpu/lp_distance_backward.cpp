// Gradients of lp_distance: with c = grad_o sign(t) (|t| / d_o)^(p-1), t = x_i - w_oi,
// grad_x_i is the sum of c over outputs and grad_w_oi minus the sum over samples. One pass gives both.
//
// A task owns kWidth inputs: no two tasks add to the same number, so nothing is atomic and the order of
// every sum is fixed. Inputs lie along the lanes; kRows samples stay in registers while outputs go by.
#include "power.h"
#include "vec.h"

#include "kernels.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRowTile = 8;       // samples whose factors lie together
constexpr int kPowerRows = 4;     // samples in registers, general p
constexpr int kSquaresRows = kWidth == 16 ? 8 : 4;
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

// Slope functions: t^(p-1) without its factor, or sign(t) (|t| / d)^(p-1), for kCount samples.
template <int kSquarings>
struct SquaresSlope {
  static constexpr int kCount = kSquaresRows;
  const PowerPlan& plan;

  void operator()(const V* t, const float*, V* slope) const {
    for (int r = 0; r < kCount; ++r) {
      V square = t[r] * t[r];
      slope[r] = kSquarings == 1 ? t[r] : t[r] * square;
      for (int j = 2; j < kSquarings; ++j) {
        square = square * square;
        slope[r] = slope[r] * square;
      }
    }
  }
};

template <bool kIsWide>
struct PowerSlope {
  static constexpr int kCount = kPowerRows;
  const PowerPlan& plan;

  void operator()(const V* t, const float* inverse_distance, V* slope) const {
    V size[kCount], inverse[kCount];
    for (int r = 0; r < kCount; ++r) {
      size[r] = abs(t[r]);
      inverse[r] = all(inverse_distance[r]);
    }
    if (kIsWide) {
      wide_power<kCount>(plan, size, inverse, slope);
    } else {
      narrow_power<kCount>(plan, size, inverse, slope);
    }
    for (int r = 0; r < kCount; ++r) slope[r] = with_sign(slope[r], t[r]);
  }
};

template <class Slope>
__attribute__((noinline)) void accumulate(const BackwardArgs& a, const Block& block,
                                          const Slope& slope_of) {
  constexpr int kCount = Slope::kCount;
  const int64_t num_rows = a.problem.num_rows, num_outputs = a.problem.num_outputs;
  for (int64_t first = 0; first < num_outputs; first += kOutputs) {
    const int64_t last = first + kOutputs < num_outputs ? first + kOutputs : num_outputs;
    for (int64_t row = 0; row < num_rows; row += kCount) {
      V x[kCount], grad_x[kCount];
      for (int r = 0; r < kCount; ++r) {
        x[r] = load(block.x + (row + r) * kWidth);
        grad_x[r] = load(block.grad_x + (row + r) * kWidth);
      }
      const float* factors =
          a.factors + (row / kRowTile * num_outputs + first) * 2 * kRowTile + row % kRowTile;
      for (int64_t o = first; o < last; ++o, factors += 2 * kRowTile) {
        const V w = load(block.w + o * kWidth);
        V grad_w = load(block.grad_w + o * kWidth);
        V t[kCount], slope[kCount];
        for (int r = 0; r < kCount; ++r) t[r] = x[r] - w;
        slope_of(t, factors + kRowTile, slope);
        for (int r = 0; r < kCount; ++r) {
          const V factor = all(factors[r]);
          grad_x[r] = fma(factor, slope[r], grad_x[r]);
          grad_w = fma(factor, slope[r], grad_w);
        }
        store(block.grad_w + o * kWidth, grad_w);
      }
      for (int r = 0; r < kCount; ++r) store(block.grad_x + (row + r) * kWidth, grad_x[r]);
    }
  }
}

void accumulate_any(const BackwardArgs& a, const Block& block) {
  switch (a.p_squarings) {
    case 1:
      return accumulate(a, block, SquaresSlope<1>{a.plan});
    case 2:
      return accumulate(a, block, SquaresSlope<2>{a.plan});
    case 3:
      return accumulate(a, block, SquaresSlope<3>{a.plan});
    case 4:
      return accumulate(a, block, SquaresSlope<4>{a.plan});
    default:
      if (a.plan.is_wide) return accumulate(a, block, PowerSlope<true>{a.plan});
      return accumulate(a, block, PowerSlope<false>{a.plan});
  }
}

int64_t padded_rows(const Problem& problem) {
  return (problem.num_rows + kRowTile - 1) / kRowTile * kRowTile;
}

}  // namespace

// Factors of a row tile, per output: kRowTile times what multiplies the slope, then kRowTile times 1/d.
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  for (int64_t row = begin * kRowTile; row < end * kRowTile; ++row) {
    float* out = a.factors + row / kRowTile * problem.num_outputs * 2 * kRowTile + row % kRowTile;
    if (row >= problem.num_rows) {
      for (int64_t o = 0; o < problem.num_outputs; ++o) {
        out[o * 2 * kRowTile] = out[o * 2 * kRowTile + kRowTile] = 0.0f;
      }
      continue;
    }
    const float* grad = a.grad + row * problem.out_stride;
    const float* distance = a.distance + row * problem.out_stride;
    for (int64_t o = 0; o < problem.num_outputs; ++o, out += 2 * kRowTile) {
      const double size = static_cast<double>(distance[o]) * static_cast<double>(a.scale);
      // Smaller ones are added in double precision afterwards; an output of 0 has no gradient.
      const bool counts = size >= static_cast<double>(kSmallestDistance);
      const double inverse = counts ? 1.0 / size : 0.0;
      double factor = -0.0;
      if (counts) {
        // p - 1 = 2^k - 1 for the squares; the general slope is normalised already.
        factor = static_cast<double>(grad[o]);
        double power = inverse;
        for (int j = 0; j < a.p_squarings; ++j) {
          factor *= power;
          power *= power;
        }
      }
      out[0] = static_cast<float>(factor);
      out[kRowTile] = static_cast<float>(inverse);
    }
  }
}

void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Problem& problem = a.problem;
  const int64_t rows = padded_rows(problem);
  for (int64_t task = begin; task < end; ++task) {
    float* x = a.packed_x + task * rows * kWidth;
    float* grad_x = a.packed_grad_x + task * rows * kWidth;
    float* w = a.packed_w + task * problem.num_outputs * kWidth;
    float* grad_w = a.packed_grad_w + task * problem.num_outputs * kWidth;
    const int64_t first = task * kWidth;
    pack_columns(problem.x, problem.num_rows, problem.num_inputs, problem.x_stride, first, a.scale, x);
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
