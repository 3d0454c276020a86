// Gradients of lp_distance where few inputs matter: with c = grad_o sign(t) (|t| / d_o)^(p-1),
// t = x_i - w_oi, grad_x_i is the sum of c over outputs and grad_w_oi minus the sum over samples.
// One pass gives both.
//
// A task owns some inputs: no two tasks add to the same number, so nothing is atomic, the order of
// every sum is fixed, and results do not depend on how many inputs a task has. Samples lie along
// the lanes; per output only the inputs that have a slope in some lane are looked at
// (candidates.h).
//
// No sum is one long chain, whose rounding grows with its length: grad_x is added up by kOutputs
// outputs, grad_w by kBlocks blocks.
#include "pack.h"
#include "power.h"
#include "sparse.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// What a task keeps of one block of samples for its inputs: [input][lane].
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : floats_(new float[count * (3 * kSlopeLanes + 2)]), list_(count), count_(count) {}
  ~Scratch() { delete[] floats_; }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* x() const { return floats_; }
  float* grad_x() const { return floats_ + count_ * kSlopeLanes; }
  float* sums() const { return floats_ + 2 * count_ * kSlopeLanes; }  // of grad_x
  float* low() const { return floats_ + 3 * count_ * kSlopeLanes; }
  float* high() const { return low() + count_; }
  int32_t* list() const { return list_.data(); }

 private:
  float* floats_;
  List list_;
  int64_t count_;
};

constexpr int64_t kOutputs = 128, kBlocks = 16;

// A block of samples in vectors, and the inputs of which as many vectors are raised together.
constexpr int kBlockVectors = kSlopeLanes / kWidth;
constexpr int kInputs = kVectors / kBlockVectors;

// The factors of one output, repeated for every input that is raised together.
struct Factors {
  V grad[kVectors], distance[kVectors], inverse[kVectors];

  explicit Factors(const float* data) {
    for (int k = 0; k < kVectors; ++k) {
      const float* from = data + k % kBlockVectors * kWidth;
      grad[k] = load(from);
      distance[k] = load(from + kSlopeLanes);
      inverse[k] = load(from + 2 * kSlopeLanes);
    }
  }
};

// Adds one output's gradients at a few inputs: to grad_x, and to its row of grad_w unless null.
template <class Power, int kCount>
inline void add_inputs(const Power& power, const Factors& factors, const float* x, const float* w,
                       const int32_t* inputs, float* grad_x, float* grad_w) {
  constexpr int kAll = kCount * kBlockVectors;
  V t[kAll], slope[kAll], total[kCount];
  for (int k = 0; k < kAll; ++k) {
    const int64_t i = inputs[k / kBlockVectors];
    t[k] = load(x + i * kSlopeLanes + k % kBlockVectors * kWidth) - all(w[i]);
  }
  power.template raise<kAll>(t, factors.distance, factors.inverse, slope);
  for (int k = 0; k < kAll; ++k) {
    const V flow = factors.grad[k] * with_sign(slope[k], t[k]);
    float* target =
        grad_x + inputs[k / kBlockVectors] * int64_t{kSlopeLanes} + k % kBlockVectors * kWidth;
    store(target, load(target) + flow);
    total[k / kBlockVectors] = k % kBlockVectors == 0 ? flow : total[k / kBlockVectors] + flow;
  }
  if (grad_w == nullptr) return;
  float sums[kCount];
  sum_lanes_of(total, sums);
  for (int k = 0; k < kCount; ++k) grad_w[inputs[k]] -= sums[k];
}

// The same at all inputs listed.
template <class Power>
__attribute__((noinline)) void add_listed(const Power power, const float* factor_data,
                                          const float* x, const float* w, const int32_t* list,
                                          int64_t count, float* grad_x, float* grad_w) {
  const Factors factors(factor_data);
  int64_t k = 0;
  for (; k + kInputs <= count; k += kInputs) {
    add_inputs<Power, kInputs>(power, factors, x, w, list + k, grad_x, grad_w);
  }
  for (; k < count; ++k) add_inputs<Power, 1>(power, factors, x, w, list + k, grad_x, grad_w);
}

void unpack_block(const BackwardArgs& a, const float* grad_x, int64_t block, int64_t first,
                  int64_t count) {
  const int64_t rows_left = a.problem.num_rows - block * kSlopeLanes;
  const int64_t rows = rows_left < kSlopeLanes ? rows_left : kSlopeLanes;
  constexpr int64_t kStrip = 16;
  for (int64_t strip = 0; strip < count; strip += kStrip) {
    const int64_t end = strip + kStrip < count ? strip + kStrip : count;
    for (int64_t lane = 0; lane < rows; ++lane) {
      float* to =
          a.grad_x + row_at(a.order, block * kSlopeLanes + lane) * a.problem.x_stride + first;
      for (int64_t i = strip; i < end; ++i) to[i] = grad_x[i * kSlopeLanes + lane];
    }
  }
}

// Adds `count` numbers to others, and clears them.
void move_sums(float* sums, int64_t count, float* total) {
  for (int64_t i = 0; i < count; ++i) {
    total[i] += sums[i];
    sums[i] = 0.0f;
  }
}

// Outputs [begin, end) and one block of samples: adds to the sums of grad_x, and to grad_w.
void add_outputs(const BackwardArgs& a, const Scratch& scratch, int64_t block, int64_t begin,
                 int64_t end, int64_t first, int64_t count) {
  const Problem& problem = a.problem;
  const Span span = {scratch.low(), scratch.high()};
  for (int64_t o = begin; o < end; ++o) {
    const int64_t at = block * problem.num_outputs + o, row = o * problem.num_inputs + first;
    const float* w = a.scaled_w + row;
    const int64_t listed = list_candidates(span, w, count, a.limits[at], scratch.list());
    if (listed == 0) continue;
    const float* factors = a.factors + at * 3 * kSlopeLanes;
    float* grad_w = a.grad_w == nullptr ? nullptr : a.sums_w + row;
    with_power(a.plan, [&](const auto& power) {
      add_listed(power, factors, scratch.x(), w, scratch.list(), listed, scratch.sums(), grad_w);
    });
  }
}

void add_block(const BackwardArgs& a, const Scratch& scratch, int64_t block, int64_t first,
               int64_t count) {
  const Problem& problem = a.problem;
  const int64_t size = count * kSlopeLanes;
  pack_block<kSlopeLanes>(problem.x + first, problem.num_rows, count, problem.x_stride, a.order,
                          a.scale, block, scratch.x(), scratch.low(), scratch.high());
  for (int64_t i = 0; i < size; ++i) scratch.grad_x()[i] = scratch.sums()[i] = 0.0f;
  for (int64_t o = 0; o < problem.num_outputs; o += kOutputs) {
    const int64_t end = o + kOutputs < problem.num_outputs ? o + kOutputs : problem.num_outputs;
    add_outputs(a, scratch, block, o, end, first, count);
    move_sums(scratch.sums(), size, scratch.grad_x());
  }
  if (a.grad_x != nullptr) unpack_block(a, scratch.grad_x(), block, first, count);
}

void move_columns(const BackwardArgs& a, int64_t first, int64_t count) {
  for (int64_t o = 0; o < a.problem.num_outputs; ++o) {
    const int64_t at = o * a.problem.num_inputs + first;
    move_sums(a.sums_w + at, count, a.grad_w + at);
  }
}

// From gradients and distances of one output; returns the limit of its slopes.
float finish_factors(const BackwardArgs& a, float* out) {
  const V smallest = all(kSmallestDistance), infinity = all(__builtin_inff()), one = all(1.0f);
  V limit = infinity;
  for (int v = 0; v < kBlockVectors; ++v, out += kWidth) {
    const V distance = load(out + kSlopeLanes) * all(a.scale);
    const V is_small = select_gt(smallest, distance, one, all(0.0f));
    store(out, where_ge(distance, smallest, load(out)));
    store(out + kSlopeLanes, max(distance, is_small));
    store(out + 2 * kSlopeLanes, where_ge(distance, smallest, all(a.plan.unit) / distance));
    limit = min(limit, select_gt(smallest, distance, infinity, distance));
  }
  return smallest_lane(limit) * a.plan.threshold;
}

}  // namespace

// Smaller distances than the smallest are left to double precision afterwards: their gradient is 0
// here, as is that of padding.
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  for (int64_t block = begin; block < end; ++block) {
    float* limits = a.limits + block * problem.num_outputs;
    float* out = a.factors + block * problem.num_outputs * 3 * kSlopeLanes;
    for (int64_t o = 0; o < problem.num_outputs; ++o, out += 3 * kSlopeLanes) {
      for (int lane = 0; lane < kSlopeLanes; ++lane) {
        const int64_t k = block * kSlopeLanes + lane;
        const bool is_real = k < problem.num_rows;
        const int64_t at = is_real ? row_at(a.order, k) * problem.out_stride + o : 0;
        out[lane] = is_real ? a.grad[at] : 0.0f;
        out[kSlopeLanes + lane] = is_real ? a.distance[at] : 0.0f;
      }
      limits[o] = finish_factors(a, out);
    }
  }
}

int64_t lp_distance_count(const BackwardArgs& a, int64_t block, int64_t outputs_apart) {
  const Problem& problem = a.problem;
  const Scratch scratch(problem.num_inputs);
  const int64_t begin = block * kSlopeLanes, left = problem.num_rows - begin;
  float *low = scratch.low(), *high = scratch.high();
  for (int64_t k = 0; k < (left < kSlopeLanes ? left : kSlopeLanes); ++k) {
    const float* x = problem.x + row_at(a.order, begin + k) * problem.x_stride;
    for (int64_t i = 0; i < problem.num_inputs; ++i) {
      const float value = x[i] * a.scale;
      low[i] = k == 0 || value < low[i] ? value : low[i];
      high[i] = k == 0 || value > high[i] ? value : high[i];
    }
  }
  int64_t count = 0;
  for (int64_t o = 0; o < problem.num_outputs; o += outputs_apart) {
    count += list_candidates({low, high}, a.scaled_w + o * problem.num_inputs, problem.num_inputs,
                             a.limits[block * problem.num_outputs + o], scratch.list());
  }
  return count;
}

void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Scratch scratch(a.inputs_a_task);
  const int64_t blocks = (a.problem.num_rows + kSlopeLanes - 1) / kSlopeLanes;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * a.inputs_a_task;
    const int64_t left = a.problem.num_inputs - first;
    const int64_t count = left < a.inputs_a_task ? left : a.inputs_a_task;
    for (int64_t block = 0; block < blocks; ++block) {
      add_block(a, scratch, block, first, count);
      if (a.sums_w == a.grad_w || (block + 1) % kBlocks != 0) continue;
      move_columns(a, first, count);
    }
    if (a.sums_w != a.grad_w) move_columns(a, first, count);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
