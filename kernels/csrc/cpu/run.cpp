#include "run.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <numeric>
#include <vector>

#include "similar_rows.h"

namespace supnorm {
namespace {

// Scratch memory that a thread keeps between calls: fresh pages would cost more than some kernels
// do.
class Workspace {
 public:
  // Room for `count` floats from now until the next call to reset().
  float* take(int64_t count) {
    const int64_t rounded = (count + 15) / 16 * 16;
    if (used_ + rounded <= capacity_) {
      used_ += rounded;
      return data_.get() + used_ - rounded;
    }
    return nullptr;
  }

  void reset(int64_t capacity) {
    used_ = 0;
    if (capacity <= capacity_ && capacity_ <= kKept) return;
    data_.reset(
        static_cast<float*>(::operator new(sizeof(float) * capacity, std::align_val_t(64))));
    capacity_ = capacity;
  }

 private:
  static constexpr int64_t kKept = int64_t{1}
                                   << 26;  // floats; a larger one goes with the next call

  struct Free {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  std::unique_ptr<float[], Free> data_;
  int64_t capacity_ = 0, used_ = 0;
};

Workspace& workspace() {
  static thread_local Workspace own;
  return own;
}

int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }
int64_t padded(int64_t count) { return blocks(count, 16) * 16; }

// Of all numbers of a matrix.
Sizes sizes_of(const float* source, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int64_t kRowsATask = 16;
  std::vector<Sizes> sizes(static_cast<size_t>(rows));
  const double work = static_cast<double>(rows) * static_cast<double>(columns);
  parallel(blocks(rows, kRowsATask), work, [&](int64_t begin, int64_t end) {
    kernels().measure(source, columns, stride, sizes.data(), begin * kRowsATask,
                      std::min(end * kRowsATask, rows));
  });
  Sizes all = {INFINITY, 0.0f};
  for (const Sizes& one : sizes) {
    all.smallest = std::min(all.smallest, one.smallest);
    all.largest = one.largest > all.largest || std::isnan(one.largest) ? one.largest : all.largest;
    if (std::isnan(all.largest)) break;
  }
  return all;
}

// max |x| + max |w|: no difference is larger. Not finite where an operand is not, or it overflows.
float largest_difference_bound(const float* x, const Problem& a) {
  return sizes_of(x, a.num_rows, a.num_inputs, a.x_stride).largest +
         sizes_of(a.w, a.num_outputs, a.num_inputs, a.num_inputs).largest;
}

// A power of two that brings `largest` to about 2^exponent; 1 where it is within [2^lowest,
// 2^exponent].
float choose_scale(float largest, int lowest, int exponent) {
  if (largest == 0) return 1.0f;
  if (largest <= std::ldexp(1.0f, exponent) && largest >= std::ldexp(1.0f, lowest)) return 1.0f;
  const int shift = exponent - 1 - std::ilogb(largest);
  return std::ldexp(1.0f, std::min(std::max(shift, -120), 120));
}

// log2(p) for the powers that are taken by squaring alone, else 0.
int squarings_of(double p) {
  for (int k = 1; k <= 4; ++k) {
    if (p == static_cast<double>(1 << k)) return k;
  }
  return 0;
}

// A dense copy in the workspace.
const float* scaled_copy(const float* source, int64_t rows, int64_t columns, int64_t stride,
                         float scale) {
  float* copy = workspace().take(rows * columns);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < columns; ++c) {
      copy[row * columns + c] = source[row * stride + c] * scale;
    }
  }
  return copy;
}

// Lays the operands out, those along the lanes with similar rows side by side where asked, and
// calls `kernel` on all tasks.
template <class Kernel>
void run_forward(ForwardArgs& args, bool batch_lanes, bool is_ordered, Kernel kernel) {
  const Kernels& k = kernels();
  const Problem& a = args.problem;
  const float *lane_source = a.w, *row_source = a.x;
  int64_t lane_rows = a.num_outputs, lane_stride = a.num_inputs;
  int64_t rows = a.num_rows, row_stride = a.x_stride;
  if (batch_lanes) {
    std::swap(lane_source, row_source);
    std::swap(lane_rows, rows);
    std::swap(lane_stride, row_stride);
  }
  std::vector<int32_t> order;
  if (is_ordered)
    order = similar_rows({lane_source, lane_rows, a.num_inputs, lane_stride}, args.scale);
  args.order = is_ordered ? order.data() : nullptr;
  const int64_t num_blocks = blocks(lane_rows, k.lanes);
  const bool copies_rows = args.scale != 1.0f;
  const int64_t packed_size = num_blocks * k.lanes * a.num_inputs;
  const int64_t spans_size = num_blocks * 2 * a.num_inputs;
  workspace().reset(padded(packed_size) + padded(spans_size) +
                    (copies_rows ? padded(rows * a.num_inputs) : 0));
  float* packed = workspace().take(packed_size);
  float* spans = workspace().take(spans_size);
  parallel(num_blocks, static_cast<double>(packed_size), [&](int64_t begin, int64_t end) {
    k.pack(lane_source, lane_rows, a.num_inputs, lane_stride, args.order, args.scale, packed, spans,
           begin, end);
  });
  args.batch_lanes = batch_lanes;
  args.skips = skips();
  args.packed = packed;
  args.spans = spans;
  args.broadcast = row_source;
  args.broadcast_stride = row_stride;
  if (copies_rows) {
    args.broadcast = scaled_copy(row_source, rows, a.num_inputs, row_stride, args.scale);
    args.broadcast_stride = a.num_inputs;
  }
  parallel(num_blocks * blocks(rows, kTaskRows), work_of(a),
           [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

// Lanes run along samples, which are alike where outputs are not, so that more inputs are left out:
// 509 samples, 512 -> 512 of a trained network at p = 100, take 3.6 ms, along outputs 34 ms (one
// core, 2026-11-21). Along outputs where padding would waste half as much again.
bool prefers_batch_lanes(const Problem& a) {
  constexpr double kPadding = 1.5;
  const int64_t lanes = kernels().lanes;
  const auto waste = [&](int64_t rows) {
    return static_cast<double>(blocks(rows, lanes) * lanes) / static_cast<double>(rows);
  };
  return waste(a.num_rows) <= kPadding * waste(a.num_outputs);
}

template <class P>
bool is_empty(const P& a) {
  return a.num_rows == 0 || a.num_outputs == 0;
}

template <class T>
void run_plain_linf(const PlainProblem<T>& a, T* out, int32_t* argmax) {
  parallel(a.num_rows, work_of(a),
           [&](int64_t begin, int64_t end) { plain_linf_distance(a, out, argmax, begin, end); });
}

template <class T>
void run_plain_lp(const PlainProblem<T>& a, double p, T* out) {
  parallel(a.num_rows, work_of(a),
           [&](int64_t begin, int64_t end) { plain_lp_distance(a, p, out, begin, end); });
}

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

template <class T>
void run_plain_bounds(const PlainProblem<T>& a, const T* upper, T* smallest, T* largest) {
  parallel(a.num_rows, work_of(a), [&](int64_t begin, int64_t end) {
    plain_bounds<T>(a, upper, smallest, largest, nullptr, nullptr, begin, end);
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
  const bool has_sums = may_list && args.grad_w != nullptr && a.num_rows > kFewSamples;
  Workspace& space = workspace();
  space.reset(padded(limits_size) + padded(factors_size) + (copies_w ? padded(w_size) : 0) +
              (has_sums ? padded(w_size) : 0));
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
  clear_gradients(a, static_cast<float*>(nullptr), args.grad_w);
  args.sums_w = has_sums ? space.take(w_size) : args.grad_w;
  if (has_sums) std::fill_n(args.sums_w, w_size, 0.0f);
  args.inputs_a_task = padded(blocks(a.num_inputs, blocks(a.num_inputs, kInputsATask)));
  parallel(blocks(a.num_inputs, args.inputs_a_task), work_of(a),
           [&](int64_t begin, int64_t end) { k.lp_distance_backward(args, begin, end); });
}

}  // namespace

void run_linf_distance(const Problem& a, float* out, int32_t* argmax) {
  if (is_empty(a)) return;
  if (!std::isfinite(largest_difference_bound(a.x, a)))
    return run_plain_linf(plain(a), out, argmax);
  ForwardArgs args = {};
  args.problem = a;
  args.scale = 1.0f;
  args.out = out;
  args.argmax = argmax;
  run_forward(args, prefers_batch_lanes(a), false, kernels().linf_distance);
}

void run_linf_distance(const PlainProblem<double>& a, double* out, int32_t* argmax) {
  run_plain_linf(a, out, argmax);
}

void run_lp_distance(const Problem& a, double p, float* out) {
  if (is_empty(a)) return;
  const float largest = largest_difference_bound(a.x, a);
  if (!std::isfinite(largest)) return run_plain_lp(plain(a), p, out);
  const double fan_in_bits = std::log2(static_cast<double>(a.num_inputs));
  ForwardArgs args = {};
  args.problem = a;
  args.p = p;
  args.p_squarings = squarings_of(p);
  args.scale = args.p_squarings != 0
                   ? choose_scale(largest, -6, static_cast<int>((120 - fan_in_bits) / p))
                   : choose_scale(largest, -30, 100);
  args.plan = plan_power(p, kSumBits + fan_in_bits, PowerUse::kSum, kernels().table_size);
  args.out = out;
  run_forward(args, prefers_batch_lanes(a), skips() && args.p_squarings == 0,
              kernels().lp_distance);
}

void run_lp_distance(const PlainProblem<double>& a, double p, double* out) {
  run_plain_lp(a, p, out);
}

void run_lp_distance_backward(const Problem& a, double p, const float* grad, const float* distance,
                              float* grad_x, float* grad_w) {
  constexpr double kKeptBits = 60;  // slopes below 2^-60 of grad are dropped
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

void run_bounds(const Problem& a, const float* upper, float* smallest, float* largest) {
  if (is_empty(a)) return;
  if (!std::isfinite(largest_difference_bound(a.x, a) + largest_difference_bound(upper, a))) {
    return run_plain_bounds(plain(a), upper, smallest, largest);
  }
  ForwardArgs args = {};
  args.problem = a;
  args.scale = 1.0f;
  args.upper = upper;
  args.out = smallest;
  args.out_largest = largest;
  run_forward(args, false, false, kernels().linf_distance_bounds);
}

void run_bounds(const PlainProblem<double>& a, const double* upper, double* smallest,
                double* largest) {
  run_plain_bounds(a, upper, smallest, largest);
}

}  // namespace supnorm
