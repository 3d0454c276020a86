#include <cmath>
#include <utility>
#include <vector>

#include "host/operands.h"
#include "host/similar_rows.h"

namespace supnorm {
namespace {

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
  const int64_t num_packs = num_blocks * blocks(a.num_inputs, kPackColumns);
  parallel(num_packs, static_cast<double>(packed_size), [&](int64_t begin, int64_t end) {
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

template <class T>
void run_plain_bounds(const PlainProblem<T>& a, const T* upper, T* smallest, T* largest) {
  parallel(a.num_rows, work_of(a), [&](int64_t begin, int64_t end) {
    plain_bounds<T>(a, upper, smallest, largest, begin, end);
  });
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
