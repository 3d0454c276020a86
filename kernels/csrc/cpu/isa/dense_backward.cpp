// Gradients of lp_distance where most inputs matter: all pairs, in one pass for both gradients.
//
// With t = w_oi - x_i and c = grad_o sign(t) (|t| / d_o)^(p-1), grad_w_oi is the sum of c over
// samples and grad_x_i minus that over outputs. A task owns some inputs: no two tasks add to the
// same number, so nothing is atomic, and the order of every sum is fixed whatever a task has.
// Inputs lie along the lanes; some samples stay in registers while outputs go by.
//
// No sum is one long chain, whose rounding grows with its length: grad_x is added up by kOutputs
// outputs, grad_w by kSamples samples.
#include "host/kernels.h"
#include "isa/memory.h"
#include "isa/power.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int64_t kOutputs = 64;  // their weights and gradients at a vector of inputs stay in L1
constexpr int64_t kSamples = 64;
constexpr int64_t kOutputsAtOnce = 256;  // at all inputs of a task they stay in L2

// Rows lie far apart in memory, where no processor fetches ahead by itself: 3 % of p = 8.
constexpr int64_t kRowsAhead = 16;

inline int64_t row_ahead(const int32_t* order, int64_t row, int64_t rows) {
  return row_at(order, row + kRowsAhead < rows ? row + kRowsAhead : row);
}

// Copies columns of a matrix, its rows in the given order, scaled and filled up with zeros, to
// packed[strip][row][lane], strips being packed_rows long.
void pack_columns(const float* source, const int32_t* order, int64_t rows, int64_t packed_rows,
                  int64_t stride, int64_t count, float scale, float* packed) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t strip = 0; strip * kWidth < count; ++strip) {
      const float* from = source + row_at(order, row) * stride + strip * kWidth;
      float* to = packed + (strip * packed_rows + row) * kWidth;
      __builtin_prefetch(source + row_ahead(order, row, rows) * stride + strip * kWidth);
      const int64_t left = count - strip * kWidth;
      if (left >= kWidth) {
        store(to, load(from) * all(scale));
        continue;
      }
      for (int lane = 0; lane < kWidth; ++lane) to[lane] = lane < left ? from[lane] * scale : 0.0f;
    }
  }
}

void unpack_columns(const float* packed, const int32_t* order, int64_t packed_rows, int64_t rows,
                    int64_t stride, int64_t count, float* target) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t strip = 0; strip * kWidth < count; ++strip) {
      const float* from = packed + (strip * packed_rows + row) * kWidth;
      float* to = target + row_at(order, row) * stride + strip * kWidth;
      __builtin_prefetch(target + row_ahead(order, row, rows) * stride + strip * kWidth, 1);
      const int64_t left = count - strip * kWidth;
      if (left >= kWidth) {
        store(to, load(from));
        continue;
      }
      for (int lane = 0; lane < left; ++lane) to[lane] = from[lane];
    }
  }
}

// t^(2^kSquarings - 1) times a factor.
template <int kSquarings>
struct SquaresSlope {
  static constexpr int kRows = kHasManyRegisters ? 8 : 4;  // samples in registers
  static constexpr int64_t kFactors = 1;                   // of a sample and an output

  void flows(const float* factors, const V* t, V* flow) const {
    for (int r = 0; r < kRows; ++r) {
      V square = t[r] * t[r];
      V slope = kSquarings == 1 ? t[r] : t[r] * square;
      for (int j = 2; j < kSquarings; ++j) {
        square = square * square;
        slope = slope * square;
      }
      flow[r] = all(factors[r]) * slope;
    }
  }
};

// grad sign(t) (|t| / distance)^(p - 1).
template <class Power>
struct PowerSlope {
  static constexpr int kRows = 2;
  static constexpr int64_t kFactors = 3;
  Power power;

  void flows(const float* factors, const V* t, V* flow) const {
    V distance[kRows], inverse[kRows];
    for (int r = 0; r < kRows; ++r) {
      distance[r] = all(factors[kSlopeLanes + r]);
      inverse[r] = all(factors[2 * kSlopeLanes + r]);
    }
    power.template raise<kRows>(t, distance, inverse, flow);
    for (int r = 0; r < kRows; ++r) flow[r] = all(factors[r]) * with_sign(flow[r], t[r]);
  }
};

// One vector of inputs: packed operands and gradients, [row][lane].
struct Strip {
  const float *x, *w;
  float *grad_x, *grad_w;
};

// Some samples by outputs [first, last): adds to grad_x, and to sums[output - first] of grad_w.
template <class Slope>
inline void add_rows(const Slope& slope, const Strip& strip, const float* factors, int64_t row,
                     int64_t first, int64_t last, float* sums) {
  constexpr int kRows = Slope::kRows;
  V x[kRows], total[kRows];
  for (int r = 0; r < kRows; ++r) {
    x[r] = load(strip.x + (row + r) * kWidth);
    total[r] = all(0.0f);
  }
  for (int64_t o = first; o < last; ++o, factors += Slope::kFactors * kSlopeLanes) {
    const V w = load(strip.w + o * kWidth);
    float* sum = sums + (o - first) * kWidth;
    V t[kRows], flow[kRows], grad_w = load(sum);
    for (int r = 0; r < kRows; ++r) t[r] = w - x[r];
    slope.flows(factors, t, flow);
    for (int r = 0; r < kRows; ++r) {
      // One product and two sums: two fused operations would keep the multipliers busy longer,
      // which are what this loop waits for where a processor has adders besides (AMD).
      const V c = opaque(flow[r]);
      total[r] = total[r] + c;
      grad_w = grad_w + c;
    }
    store(sum, grad_w);
  }
  for (int r = 0; r < kRows; ++r) {
    float* grad_x = strip.grad_x + (row + r) * kWidth;
    store(grad_x, load(grad_x) - total[r]);
  }
}

// All samples by outputs [first, first + count) of a strip, whose factors begin with output
// `first`.
template <class Slope>
__attribute__((noinline)) void add_strip(const BackwardArgs& a, const Slope slope,
                                         const Strip& strip, int64_t first_output, int64_t count) {
  const int64_t rows = a.problem.num_rows;
  const int64_t block_size = a.problem.num_outputs * Slope::kFactors * kSlopeLanes;
  const float* factors = a.factors + first_output * Slope::kFactors * kSlopeLanes;
  for (int64_t first = 0; first < count; first += kOutputs) {
    const int64_t last = first + kOutputs < count ? first + kOutputs : count;
    for (int64_t group = 0; group < rows; group += kSamples) {
      const int64_t group_end = group + kSamples < rows ? group + kSamples : rows;
      alignas(64) float sums[kOutputs * kWidth];
      clear(sums, (last - first) * kWidth);
      for (int64_t row = group; row < group_end; row += Slope::kRows) {
        add_rows(slope, strip,
                 factors + row / kSlopeLanes * block_size + first * Slope::kFactors * kSlopeLanes +
                     row % kSlopeLanes,
                 row, first, last, sums);
      }
      for (int64_t o = first; o < last; ++o) {
        float* grad_w = strip.grad_w + o * kWidth;
        store(grad_w, load(grad_w) + load(sums + (o - first) * kWidth));
      }
    }
  }
}

// Calls f(slope) with what the slopes are computed by.
template <class F>
void with_slope(const BackwardArgs& a, const F& f) {
  switch (a.p_squarings) {
    case 1:
      return f(SquaresSlope<1>());
    case 2:
      return f(SquaresSlope<2>());
    case 3:
      return f(SquaresSlope<3>());
    case 4:
      return f(SquaresSlope<4>());
    default:
      return with_power(a.plan, [&](const auto& power) { f(PowerSlope{power}); });
  }
}

int64_t padded_rows(const Problem& problem) {
  return (problem.num_rows + kSlopeLanes - 1) / kSlopeLanes * kSlopeLanes;
}

// What a task keeps of its inputs, [strip][row][lane]: samples, some outputs, their gradients.
class Scratch {
 public:
  explicit Scratch(const Problem& problem)
      : x_size_(padded_rows(problem) * kDenseInputs),
        floats_(2 * x_size_ + 2 * kOutputsAtOnce * kDenseInputs) {}

  float* x() const { return floats_.data(); }
  float* grad_x() const { return x() + x_size_; }
  float* w() const { return x() + 2 * x_size_; }
  float* grad_w() const { return w() + kOutputsAtOnce * kDenseInputs; }

 private:
  int64_t x_size_;
  Memory<float> floats_;
};

// Adds outputs [first, first + count) at the inputs from `input`, num_inputs of them.
void add_outputs(const BackwardArgs& a, const Scratch& scratch, int64_t first, int64_t count,
                 int64_t input, int64_t num_inputs) {
  const int64_t rows = padded_rows(a.problem), columns = a.problem.num_inputs;
  const int64_t at = first * columns + input;
  pack_columns(a.problem.w + at, nullptr, count, count, columns, num_inputs, a.scale, scratch.w());
  clear(scratch.grad_w(), count * kDenseInputs);
  with_slope(a, [&](const auto& slope) {
    for (int64_t strip = 0; strip * kWidth < num_inputs; ++strip) {
      const int64_t x_at = strip * rows * kWidth, w_at = strip * count * kWidth;
      add_strip(a, slope,
                {scratch.x() + x_at, scratch.w() + w_at, scratch.grad_x() + x_at,
                 scratch.grad_w() + w_at},
                first, count);
    }
  });
  if (a.grad_w == nullptr) return;
  unpack_columns(scratch.grad_w(), nullptr, count, count, columns, num_inputs, a.grad_w + at);
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

void squares_factors(const BackwardArgs& a, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  for (int64_t row = begin * kSlopeLanes; row < end * kSlopeLanes; ++row) {
    float* out =
        a.factors + row / kSlopeLanes * problem.num_outputs * kSlopeLanes + row % kSlopeLanes;
    const bool is_padding = row >= problem.num_rows;
    for (int64_t o = 0; o < problem.num_outputs; ++o, out += kSlopeLanes) {
      const int64_t at = row * problem.out_stride + o;
      *out = is_padding ? 0.0f : factor_of(a, a.grad[at], a.distance[at]);
    }
  }
}

void dense_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Problem& problem = a.problem;
  const Scratch scratch(problem);
  const int64_t rows = padded_rows(problem), columns = problem.num_inputs;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t input = task * kDenseInputs;
    const int64_t num_inputs = columns - input < kDenseInputs ? columns - input : kDenseInputs;
    clear(scratch.x(), rows * kDenseInputs);
    clear(scratch.grad_x(), rows * kDenseInputs);
    pack_columns(problem.x + input, a.order, problem.num_rows, rows, problem.x_stride, num_inputs,
                 a.scale, scratch.x());
    for (int64_t first = 0; first < problem.num_outputs; first += kOutputsAtOnce) {
      const int64_t left = problem.num_outputs - first;
      add_outputs(a, scratch, first, left < kOutputsAtOnce ? left : kOutputsAtOnce, input,
                  num_inputs);
    }
    if (a.grad_x == nullptr) continue;
    unpack_columns(scratch.grad_x(), a.order, rows, problem.num_rows, problem.x_stride, num_inputs,
                   a.grad_x + input);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
