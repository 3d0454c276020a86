// Gradients of lp_distance, any p: with c = grad_o sign(t) (|t| / d_o)^(p-1), t = x_i - w_oi,
// grad_x_i is the sum of c over outputs and grad_w_oi minus the sum over samples. One pass gives
// both.
//
// A task owns some inputs: no two tasks add to the same number, so nothing is atomic, the order of
// every sum is fixed, and results do not depend on how many inputs a task has. Samples lie along
// the lanes; per output only the inputs that have a slope in some lane are looked at
// (candidates.h).
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
      : floats_(new float[count * (2 * kLanes + 2)]), list_(count), count_(count) {}
  ~Scratch() { delete[] floats_; }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* x() const { return floats_; }
  float* grad_x() const { return floats_ + count_ * kLanes; }
  float* low() const { return floats_ + 2 * count_ * kLanes; }
  float* high() const { return low() + count_; }
  int32_t* list() const { return list_.data(); }

 private:
  float* floats_;
  List list_;
  int64_t count_;
};

// The factors of a pass of lanes for one output.
struct Factors {
  V grad[kVectors], distance[kVectors], inverse[kVectors];

  explicit Factors(const float* data) {
    for (int v = 0; v < kVectors; ++v) {
      grad[v] = load(data + v * kWidth);
      distance[v] = load(data + kLanes + v * kWidth);
      inverse[v] = load(data + 2 * kLanes + v * kWidth);
    }
  }
};

// Adds one output's gradients from a pass of lanes: to grad_x, and to its row of grad_w unless
// null.
template <class Power>
__attribute__((noinline)) void add_pass(const PowerPlan& plan, const float* x, const float* w,
                                        const float* factor_data, const int32_t* list,
                                        int64_t count, float* grad_x, float* grad_w) {
  const Factors factors(factor_data);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = list[k];
    const V r = all(w[i]);
    V t[kVectors], size[kVectors], slope[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      t[v] = load(x + i * kLanes + v * kWidth) - r;
      size[v] = abs(t[v]);
    }
    Power::template raise<kVectors>(plan, size, factors.distance, factors.inverse, slope);
    V total = all(0.0f);
    for (int v = 0; v < kVectors; ++v) {
      const V flow = factors.grad[v] * with_sign(slope[v], t[v]);
      float* target = grad_x + i * kLanes + v * kWidth;
      store(target, load(target) + flow);
      total = total + flow;
    }
    if (grad_w != nullptr) grad_w[i] -= sum_lanes(total);
  }
}

void unpack_block(const BackwardArgs& a, const float* grad_x, int64_t block, int64_t first,
                  int64_t count) {
  const int64_t rows_left = a.problem.num_rows - block * kLanes;
  const int64_t rows = rows_left < kLanes ? rows_left : kLanes;
  constexpr int64_t kStrip = 16;
  for (int64_t strip = 0; strip < count; strip += kStrip) {
    const int64_t end = strip + kStrip < count ? strip + kStrip : count;
    for (int64_t lane = 0; lane < rows; ++lane) {
      float* to = a.grad_x + (block * kLanes + lane) * a.problem.x_stride + first;
      for (int64_t i = strip; i < end; ++i) to[i] = grad_x[i * kLanes + lane];
    }
  }
}

void add_block(const BackwardArgs& a, const Scratch& scratch, int64_t block, int64_t first,
               int64_t count) {
  const Problem& problem = a.problem;
  pack_block(problem.x + first, problem.num_rows, count, problem.x_stride, a.scale, block,
             scratch.x(), scratch.low(), scratch.high());
  for (int64_t i = 0; i < count * kLanes; ++i) scratch.grad_x()[i] = 0.0f;
  const Span span = {scratch.low(), scratch.high()};
  for (int64_t o = 0; o < problem.num_outputs; ++o) {
    const int64_t at = block * problem.num_outputs + o, row = o * problem.num_inputs + first;
    const float* w = a.scaled_w + row;
    const float limit = a.skips ? a.limits[at] : 0.0f;
    const int64_t listed = list_candidates(span, w, count, limit, scratch.list());
    if (listed == 0) continue;
    const float* factors = a.factors + at * 3 * kLanes;
    float* grad_w = a.grad_w == nullptr ? nullptr : a.grad_w + row;
    with_power(a.plan, [&](auto power) {
      for (int lane = 0; lane < kLanes; lane += kPassLanes) {
        add_pass<decltype(power)>(a.plan, scratch.x() + lane, w, factors + lane, scratch.list(),
                                  listed, scratch.grad_x() + lane, grad_w);
      }
    });
  }
  if (a.grad_x != nullptr) unpack_block(a, scratch.grad_x(), block, first, count);
}

}  // namespace

// Smaller distances than the smallest are left to double precision afterwards: their gradient is 0
// here, as is that of padding.
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end) {
  const Problem& problem = a.problem;
  for (int64_t block = begin; block < end; ++block) {
    float* limits = a.limits + block * problem.num_outputs;
    for (int64_t o = 0; o < problem.num_outputs; ++o) limits[o] = __builtin_inff();
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t row = block * kLanes + lane;
      float* out = a.factors + block * problem.num_outputs * 3 * kLanes + lane;
      for (int64_t o = 0; o < problem.num_outputs; ++o, out += 3 * kLanes) {
        const bool is_real = row < problem.num_rows;
        const int64_t at = row * problem.out_stride + o;
        const float distance = is_real ? a.distance[at] * a.scale : 0.0f;
        const bool counts = distance >= kSmallestDistance;
        out[0] = counts ? a.grad[at] : 0.0f;
        out[kLanes] = counts ? distance : 1.0f;
        out[2 * kLanes] = counts ? 1.0f / distance : 0.0f;
        const float limit = distance * a.plan.threshold;
        if (counts && limit < limits[o]) limits[o] = limit;
      }
    }
  }
}

void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Scratch scratch(a.inputs_a_task);
  const int64_t blocks = (a.problem.num_rows + kLanes - 1) / kLanes;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task * a.inputs_a_task;
    const int64_t left = a.problem.num_inputs - first;
    const int64_t count = left < a.inputs_a_task ? left : a.inputs_a_task;
    for (int64_t block = 0; block < blocks; ++block) add_block(a, scratch, block, first, count);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
