// The only file that sees torch: registers the operators' CPU kernels, unpacks tensors, loops over
// groups.
//
// It uses torch's stable ABI, which compiles in two seconds and whose parallel loop runs inside
// libtorch, on the thread pool that torch itself uses.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <atomic>
#include <tuple>
#include <vector>

#include "host/run.h"

namespace supnorm {

void run_tasks(int64_t num_tasks, void (*body)(void*, int64_t, int64_t), void* context) {
  std::atomic<int64_t> next{0};
  const int64_t num_threads = torch::stable::get_num_threads();
  // Tasks are handed out one by one: they differ in length, and so does the threads' share of the
  // cores.
  torch::stable::parallel_for(0, num_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) {
      for (int64_t task = next++; task < num_tasks; task = next++) body(context, task, task + 1);
    }
  });
}

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
struct ProblemOf {
  using Type = PlainProblem<T>;
};
template <>
struct ProblemOf<float> {
  using Type = Problem;
};

// Calls f with a null pointer of the tensor's element type.
template <class F>
void for_dtype(const Tensor& x, const F& f) {
  if (x.scalar_type() == ScalarType::Float) return f(static_cast<float*>(nullptr));
  STD_TORCH_CHECK(x.scalar_type() == ScalarType::Double, "supnorm: expected float32 or float64");
  f(static_cast<double*>(nullptr));
}

// The same for the integers of exact networks.
bool is_integer(const Tensor& x) {
  return x.scalar_type() == ScalarType::Short || x.scalar_type() == ScalarType::Int;
}
template <class F>
void for_integer_dtype(const Tensor& x, const F& f) {
  if (x.scalar_type() == ScalarType::Short) return f(static_cast<int16_t*>(nullptr));
  f(static_cast<int32_t*>(nullptr));
}

// Dense operands and their sizes, checked: a wrong one would read outside its memory.
struct Operands {
  Operands(const Tensor& x_in, const Tensor& w_in, int64_t groups_in)
      : x(torch::stable::contiguous(x_in)), w(torch::stable::contiguous(w_in)), groups(groups_in) {
    STD_TORCH_CHECK(x.dim() == 2 && w.dim() == 2 && groups > 0 && w.size(0) % groups == 0 &&
                        x.size(1) == groups * w.size(1) && w.size(1) > 0 &&
                        x.scalar_type() == w.scalar_type(),
                    "supnorm: operands do not fit each other; call through kernels.ops");
  }

  int64_t rows() const { return x.size(0); }
  int64_t outputs() const { return w.size(0); }
  Tensor new_result() const { return torch::stable::new_empty(x, {rows(), outputs()}); }

  Tensor dense_result(const Tensor& result) const {
    STD_TORCH_CHECK(result.dim() == 2 && result.size(0) == rows() && result.size(1) == outputs(),
                    "supnorm: a tensor of the outputs' shape was expected");
    return torch::stable::contiguous(result);
  }

  // f(problem, offset in (O, I), offset in (B, G*I), offset in (B, O)) for every group.
  template <class T, class F>
  void for_each_group(const F& f) const {
    const int64_t inputs = w.size(1), group_outputs = outputs() / groups;
    const T* x_data = static_cast<const T*>(x.data_ptr());
    const T* w_data = static_cast<const T*>(w.data_ptr());
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t w_at = g * group_outputs * inputs, x_at = g * inputs,
                    out_at = g * group_outputs;
      const typename ProblemOf<T>::Type problem = {
          x_data + x_at, w_data + w_at, rows(), group_outputs, inputs, groups * inputs, outputs()};
      f(problem, w_at, x_at, out_at);
    }
  }

  Tensor x, w;
  int64_t groups;
};

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// A gradient that is wanted (like `x`, to be written whole), or an empty tensor; and its data, or
// null.
Tensor new_room(const Tensor& x, bool wanted) {
  if (!wanted) return torch::stable::new_empty(x, {0});
  return torch::stable::new_empty(x, x.sizes());
}
template <class T>
T* gradient_at(const Tensor& gradient, bool wanted, int64_t offset) {
  return wanted ? data<T>(gradient) + offset : nullptr;
}

Tensor lp_distance(const Tensor& x, const Tensor& w, double p, int64_t groups) {
  const Operands operands(x, w, groups);
  const Tensor out = operands.new_result();
  for_dtype(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& problem, int64_t, int64_t, int64_t out_at) {
      run_lp_distance(problem, p, data<T>(out) + out_at);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor> lp_distance_backward(const Tensor& grad, const Tensor& x,
                                                const Tensor& w, const Tensor& distance, double p,
                                                int64_t groups, std::vector<bool> mask) {
  const Operands operands(x, w, groups);
  const Tensor grads = operands.dense_result(grad), distances = operands.dense_result(distance);
  const Tensor grad_x = new_room(operands.x, mask[0]), grad_w = new_room(operands.w, mask[1]);
  for_dtype(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>(
        [&](const auto& problem, int64_t w_at, int64_t x_at, int64_t out_at) {
          run_lp_distance_backward(problem, p, data<T>(grads) + out_at, data<T>(distances) + out_at,
                                   gradient_at<T>(grad_x, mask[0], x_at),
                                   gradient_at<T>(grad_w, mask[1], w_at));
        });
  });
  return {grad_x, grad_w};
}

void integer_linf_distance_into(const Operands& operands, const Tensor& out) {
  for_integer_dtype(operands.x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& problem, int64_t, int64_t, int64_t out_at) {
      run_integer_linf_distance<T>(problem, data<T>(out) + out_at);
    });
  });
}

void linf_distance_into(const Operands& operands, const Tensor& out, int32_t* argmax) {
  for_dtype(operands.x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& problem, int64_t, int64_t, int64_t out_at) {
      run_linf_distance(problem, data<T>(out) + out_at,
                        argmax == nullptr ? nullptr : argmax + out_at);
    });
  });
}

Tensor linf_distance(const Tensor& x, const Tensor& w, int64_t groups) {
  const Operands operands(x, w, groups);
  const Tensor out = operands.new_result();
  if (is_integer(x)) {
    integer_linf_distance_into(operands, out);
  } else {
    linf_distance_into(operands, out, nullptr);
  }
  return out;
}

std::tuple<Tensor, Tensor> linf_distance_argmax(const Tensor& x, const Tensor& w, int64_t groups) {
  const Operands operands(x, w, groups);
  const Tensor out = operands.new_result();
  const Tensor argmax =
      torch::stable::new_empty(x, {operands.rows(), operands.outputs()}, ScalarType::Int);
  linf_distance_into(operands, out, data<int32_t>(argmax));
  return {out, argmax};
}

std::tuple<Tensor, Tensor> linf_distance_backward(const Tensor& grad, const Tensor& x,
                                                  const Tensor& w, const Tensor& argmax,
                                                  int64_t groups, std::vector<bool> mask) {
  const Operands operands(x, w, groups);
  const Tensor grads = operands.dense_result(grad), index = operands.dense_result(argmax);
  const Tensor flow = operands.new_result();
  const Tensor grad_x = new_room(operands.x, mask[0]), grad_w = new_room(operands.w, mask[1]);
  for_dtype(x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& any, int64_t w_at, int64_t x_at, int64_t out_at) {
      const auto problem = plain(any);
      const int32_t* at = data<int32_t>(index) + out_at;
      T* flow_at =
          data<T>(flow) + x_at / problem.num_inputs * problem.num_outputs * problem.num_rows;
      const double work = 16.0 * problem.num_rows * problem.num_outputs;
      // Neighbouring outputs share cache lines of flow and arg-max: sixteen make a task.
      parallel((problem.num_outputs + 15) / 16, work, [&](int64_t begin, int64_t end) {
        linf_backward_outputs(problem, data<T>(grads) + out_at, at, flow_at,
                              gradient_at<T>(grad_w, mask[1], w_at), begin * 16,
                              std::min(end * 16, problem.num_outputs));
      });
      if (!mask[0]) return;
      parallel(problem.num_rows, work, [&](int64_t begin, int64_t end) {
        linf_backward_rows(problem, flow_at, at, data<T>(grad_x) + x_at, begin, end);
      });
    });
  });
  return {grad_x, grad_w};
}

void integer_bounds_into(const Operands& operands, const Tensor& upper, const Tensor& smallest,
                         const Tensor& largest) {
  for_integer_dtype(operands.x, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& problem, int64_t, int64_t x_at, int64_t out_at) {
      run_integer_bounds<T>(problem, data<T>(upper) + x_at, data<T>(smallest) + out_at,
                            data<T>(largest) + out_at);
    });
  });
}

std::tuple<Tensor, Tensor> linf_distance_bounds(const Tensor& lower, const Tensor& upper,
                                                const Tensor& w, int64_t groups) {
  const Operands operands(lower, w, groups);
  const Operands upper_operands(upper, w, groups);
  STD_TORCH_CHECK(upper.size(0) == lower.size(0), "supnorm: lower and upper differ in shape");
  const Tensor smallest = operands.new_result(), largest = operands.new_result();
  if (is_integer(lower)) {
    integer_bounds_into(operands, upper_operands.x, smallest, largest);
    return {smallest, largest};
  }
  for_dtype(lower, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    operands.for_each_group<T>([&](const auto& problem, int64_t, int64_t x_at, int64_t out_at) {
      run_bounds(problem, data<T>(upper_operands.x) + x_at, data<T>(smallest) + out_at,
                 data<T>(largest) + out_at);
    });
  });
  return {smallest, largest};
}

}  // namespace
}  // namespace supnorm

STABLE_TORCH_LIBRARY_IMPL(supnorm, CPU, library) {
  library.impl("lp_distance", TORCH_BOX(&supnorm::lp_distance));
  library.impl("lp_distance_backward", TORCH_BOX(&supnorm::lp_distance_backward));
  library.impl("linf_distance", TORCH_BOX(&supnorm::linf_distance));
  library.impl("linf_distance_argmax", TORCH_BOX(&supnorm::linf_distance_argmax));
  library.impl("linf_distance_backward", TORCH_BOX(&supnorm::linf_distance_backward));
  library.impl("linf_distance_bounds", TORCH_BOX(&supnorm::linf_distance_bounds));
}
