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
#include "isa/pack.h"
#include "isa/power.h"
#include "isa/sparse.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int64_t kOutputs = 128, kBlocks = 16;
// Blocks of samples that go through kOutputs outputs together, which then stay in the L2 cache.
constexpr int64_t kGroup = 4;
static_assert(kBlocks % kGroup == 0, "sums of grad_w are of whole groups");

// The inputs of a task, and its own memory for their sums of grad_w, [output][inputs_a_task]:
// processors fetch ahead, and would fetch what another is writing to.
struct Inputs {
  int64_t first, count;
  float* sums_w;
};

// One block of samples at the inputs of a task: [input][lane].
struct Block {
  float *x, *grad_x, *low, *high;
};

// What a task keeps of a group of blocks.
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : count_(count),
        floats_((2 * kGroup + 1) * count * kSlopeLanes),
        ends_(2 * kGroup * count),
        list_(list_room(count)) {}

  Block block(int64_t k) const {
    const int64_t size = count_ * kSlopeLanes;
    float *x = floats_.data() + 2 * k * size, *low = ends_.data() + 2 * k * count_;
    return {x, x + size, low, low + count_};
  }
  // Of the gradient at one block and some outputs.
  float* sums() const { return floats_.data() + 2 * kGroup * count_ * kSlopeLanes; }
  int32_t* list() const { return list_.data(); }

 private:
  int64_t count_;
  Memory<float> floats_, ends_;
  Memory<int32_t> list_;
};

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
void add_outputs(const BackwardArgs& a, const Inputs& inputs, const Scratch& scratch,
                 const Block& here, int64_t block, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  const Span span = {here.low, here.high};
  for (int64_t o = begin; o < end; ++o) {
    const int64_t at = block * problem.num_outputs + o;
    const float* w = a.scaled_w + o * problem.num_inputs + inputs.first;
    const int64_t listed = list_candidates(span, w, inputs.count, a.limits[at], scratch.list());
    if (listed == 0) continue;
    const float* factors = a.factors + at * 3 * kSlopeLanes;
    float* grad_w = a.grad_w == nullptr ? nullptr : inputs.sums_w + o * a.inputs_a_task;
    with_power(a.plan, [&](const auto& power) {
      add_listed(power, factors, here.x, w, scratch.list(), listed, scratch.sums(), grad_w);
    });
  }
}

// Blocks [begin, end) of samples.
void add_group(const BackwardArgs& a, const Inputs& inputs, const Scratch& scratch, int64_t begin,
               int64_t end) {
  const Problem& problem = a.problem;
  const int64_t size = inputs.count * kSlopeLanes;
  clear(scratch.sums(), size);
  for (int64_t block = begin; block < end; ++block) {
    const Block here = scratch.block(block - begin);
    pack_block<kSlopeLanes>(problem.x + inputs.first, problem.num_rows, inputs.count,
                            problem.x_stride, a.order, a.scale, block, here.x, here.low, here.high);
    clear(here.grad_x, size);
  }
  for (int64_t o = 0; o < problem.num_outputs; o += kOutputs) {
    const int64_t last = o + kOutputs < problem.num_outputs ? o + kOutputs : problem.num_outputs;
    for (int64_t block = begin; block < end; ++block) {
      const Block here = scratch.block(block - begin);
      add_outputs(a, inputs, scratch, here, block, o, last);
      move_sums(scratch.sums(), size, here.grad_x);
    }
  }
  for (int64_t block = begin; block < end && a.grad_x != nullptr; ++block) {
    unpack_block(a, scratch.block(block - begin).grad_x, block, inputs.first, inputs.count);
  }
}

// Of grad_w, with the sums.
void clear_columns(const BackwardArgs& a, const Inputs& inputs) {
  clear(inputs.sums_w, a.problem.num_outputs * a.inputs_a_task);
  for (int64_t o = 0; o < a.problem.num_outputs; ++o) {
    clear(a.grad_w + o * a.problem.num_inputs + inputs.first, inputs.count);
  }
}

void move_columns(const BackwardArgs& a, const Inputs& inputs) {
  for (int64_t o = 0; o < a.problem.num_outputs; ++o) {
    move_sums(inputs.sums_w + o * a.inputs_a_task, inputs.count,
              a.grad_w + o * a.problem.num_inputs + inputs.first);
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
  const Memory<float> ends(2 * problem.num_inputs);
  const Memory<int32_t> list(list_room(problem.num_inputs));
  const int64_t begin = block * kSlopeLanes, left = problem.num_rows - begin;
  float *low = ends.data(), *high = low + problem.num_inputs;
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
                             a.limits[block * problem.num_outputs + o], list.data());
  }
  return count;
}

void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Scratch scratch(a.inputs_a_task);
  const int64_t blocks = (a.problem.num_rows + kSlopeLanes - 1) / kSlopeLanes;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * a.inputs_a_task, left = a.problem.num_inputs - first;
    const Inputs inputs = {first, left < a.inputs_a_task ? left : a.inputs_a_task,
                           a.sums_w + first * a.problem.num_outputs};
    if (a.grad_w != nullptr) clear_columns(a, inputs);
    for (int64_t block = 0; block < blocks; block += kGroup) {
      const int64_t group_end = block + kGroup < blocks ? block + kGroup : blocks;
      add_group(a, inputs, scratch, block, group_end);
      const bool is_part = group_end % kBlocks == 0 || group_end == blocks;
      if (is_part && a.grad_w != nullptr) move_columns(a, inputs);
    }
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
