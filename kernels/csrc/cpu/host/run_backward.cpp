#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "host/operands.h"
#include "host/similar_rows.h"

namespace supnorm {
namespace {

// Gradients that kernels add to begin with zeros.
template <class P, class T>
void clear_gradients(const P& a, T* grad_x, T* grad_w) {
  if (grad_w != nullptr) std::fill_n(grad_w, a.num_outputs * a.num_inputs, T{0});
  for (int64_t row = 0; grad_x != nullptr && row < a.num_rows; ++row) {
    std::fill_n(grad_x + row * a.x_stride, a.num_inputs, T{0});
  }
}

template <class T>
void run_plain_lp_backward(const PlainProblem<T>& a, double p, const T* grad, const T* distance,
                           T* grad_x, T* grad_w) {
  clear_gradients(a, grad_x, grad_w);
  parallel(a.num_inputs, work_of(a), [&](int64_t begin, int64_t end) {
    plain_lp_distance_backward(a, p, grad, distance, grad_x, grad_w, begin, end);
  });
}

// Chooses a scale for gradients by squaring alone; false where slopes or factors could leave the
// range.
bool plan_squares(BackwardArgs& args, float largest, const Sizes& distances) {
  args.p_squarings = squarings_of(args.p);
  if (args.p_squarings == 0) return false;
  // Distances^(p-1) within 2^-60 .. 2^60 leave room for gradients and for slopes down to 2^-60.
  const int top = static_cast<int>(60 / (args.p - 1));
  args.scale = choose_scale(largest, -4, top);
  return distances.smallest * args.scale >= std::ldexp(1.0f, -top) &&
         distances.largest * args.scale <= std::ldexp(1.0f, top);
}

// Which share of all inputs lists would have, from some outputs of every block of samples.
double share_of_listed(const BackwardArgs& args) {
  constexpr int64_t kOutputsABlock = 16;
  const Problem& a = args.problem;
  const int64_t apart = blocks(a.num_outputs, kOutputsABlock);
  std::vector<int64_t> counts(static_cast<size_t>(blocks(a.num_rows, kSlopeLanes)));
  const auto num_blocks = static_cast<int64_t>(counts.size());
  parallel(num_blocks, work_of(a) / static_cast<double>(apart), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      counts[static_cast<size_t>(block)] = kernels().lp_distance_count(args, block, apart);
    }
  });
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  return static_cast<double>(total) / static_cast<double>(num_blocks * a.num_inputs) /
         static_cast<double>(blocks(a.num_outputs, apart));
}

// By lists where that is faster, which it is not where they have most inputs.
void run_backward(BackwardArgs& args) {
  constexpr double kWorthLists = 0.7;
  constexpr int64_t kInputsATask = 256;  // their block of samples and its gradient fit the L2 cache
  const Kernels& k = kernels();
  const Problem& a = args.problem;
  const bool is_by_squares = args.p_squarings != 0;
  const bool may_list = skips() && !is_by_squares;
  std::vector<int32_t> order;
  if (may_list) order = similar_rows({a.x, a.num_rows, a.num_inputs, a.x_stride}, args.scale);
  args.order = may_list ? order.data() : nullptr;
  const int64_t num_blocks = blocks(a.num_rows, kSlopeLanes);
  const int64_t limits_size = num_blocks * a.num_outputs;
  const int64_t factors_size = limits_size * kSlopeLanes * (is_by_squares ? 1 : 3);
  const int64_t w_size = a.num_outputs * a.num_inputs;
  const bool copies_w = may_list && args.scale != 1.0f;
  const int64_t num_tasks = blocks(a.num_inputs, kInputsATask);
  args.inputs_a_task = padded(blocks(a.num_inputs, num_tasks));
  const int64_t sums_size = may_list ? num_tasks * a.num_outputs * args.inputs_a_task : 0;
  Workspace& space = workspace();
  space.reset(padded(limits_size) + padded(factors_size) + (copies_w ? padded(w_size) : 0) +
              padded(sums_size));
  args.limits = space.take(limits_size);
  args.factors = space.take(factors_size);
  args.scaled_w =
      copies_w ? scaled_copy(a.w, a.num_outputs, a.num_inputs, a.num_inputs, args.scale) : a.w;
  const auto factors = is_by_squares ? k.squares_factors : k.lp_distance_factors;
  parallel(num_blocks, static_cast<double>(factors_size) * 4,
           [&](int64_t begin, int64_t end) { factors(args, begin, end); });
  if (!may_list || share_of_listed(args) > kWorthLists) {
    return parallel(blocks(a.num_inputs, kDenseInputs), work_of(a),
                    [&](int64_t begin, int64_t end) { k.dense_backward(args, begin, end); });
  }
  args.sums_w = space.take(sums_size);
  parallel(blocks(a.num_inputs, args.inputs_a_task), work_of(a),
           [&](int64_t begin, int64_t end) { k.lp_distance_backward(args, begin, end); });
}

}  // namespace

void run_lp_distance_backward(const Problem& a, double p, const float* grad, const float* distance,
                              float* grad_x, float* grad_w) {
  constexpr double kKeptBits = 40;  // slopes below 2^-40 are left out, Adam's epsilon being 1e-10
  const Sizes distances = sizes_of(distance, a.num_rows, a.num_outputs, a.out_stride);
  // No difference is larger than a distance. Where they have to be scaled, operands must stay in
  // range, too.
  const bool is_moderate = distances.largest >= 0x1p-4f && distances.largest <= 0x1p4f;
  const float largest = is_moderate ? distances.largest : largest_difference_bound(a.x, a);
  if (is_empty(a) || !std::isfinite(largest) || !std::isfinite(distances.largest)) {
    return run_plain_lp_backward(plain(a), p, grad, distance, grad_x, grad_w);
  }
  BackwardArgs args = {};
  args.problem = a;
  args.p = p;
  args.grad = grad;
  args.distance = distance;
  args.grad_x = grad_x;
  args.grad_w = grad_w;
  if (plan_squares(args, largest, distances)) return run_backward(args);
  args.p_squarings = 0;
  args.scale = choose_scale(largest, -30, 100);
  args.plan = plan_power(p - 1, kKeptBits, PowerUse::kSlope, kernels().table_size);
  run_backward(args);
  const float limit = kSmallestDistance / args.scale;
  if (distances.smallest < limit) {
    plain_lp_distance_backward_below(plain(a), p, limit, grad, distance, grad_x, grad_w);
  }
}

void run_lp_distance_backward(const PlainProblem<double>& a, double p, const double* grad,
                              const double* distance, double* grad_x, double* grad_w) {
  run_plain_lp_backward(a, p, grad, distance, grad_x, grad_w);
}

}  // namespace supnorm
