// Registers the CPU kernels of the operators on weights in compressed rows: the second of the two
// files that see torch (see bind.cpp).
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>

#include "host/run.h"
#include "host/sparse_kernels.h"

namespace supnorm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.data_ptr());
}

// Calls f with a number of the tensor's element type.
template <class F>
void for_dtype(const Tensor& x, const F& f) {
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return f(float{});
    case ScalarType::Double:
      return f(double{});
    case ScalarType::Short:
      return f(int16_t{});
    case ScalarType::Int:
      return f(int32_t{});
    default:
      STD_TORCH_CHECK(false, "supnorm: expected float32, float64, int16 or int32");
  }
}

// Dense tensors, checked entry by entry: a wrong column or start would read outside its memory.
struct Rows {
  Rows(const Tensor& values_in, const Tensor& columns_in, const Tensor& starts_in,
       const Tensor& floor_in)
      : values(torch::stable::contiguous(values_in)),
        columns(torch::stable::contiguous(columns_in)),
        starts(torch::stable::contiguous(starts_in)),
        floor(torch::stable::contiguous(floor_in)) {
    STD_TORCH_CHECK(
        values.dim() == 1 && columns.dim() == 1 && starts.dim() == 1 && floor.dim() == 1 &&
            columns.size(0) == values.size(0) && starts.size(0) == floor.size(0) + 1 &&
            columns.scalar_type() == ScalarType::Short && starts.scalar_type() == ScalarType::Int &&
            floor.scalar_type() == values.scalar_type(),
        "supnorm: these are no compressed rows; make them with kernels.SparseRows");
    const int32_t* at = data<int32_t>(starts);
    bool is_sound = at[0] == 0 && at[floor.size(0)] == values.size(0);
    for (int64_t o = 0; o < floor.size(0); ++o) is_sound &= at[o] <= at[o + 1];
    STD_TORCH_CHECK(is_sound,
                    "supnorm: the starts of compressed rows must rise from 0 to the "
                    "number of edges");
  }

  void check_columns(int64_t num_inputs) const {
    const int16_t* column = data<int16_t>(columns);
    int16_t smallest = 0, largest = 0;
    for (int64_t k = 0; k < columns.size(0); ++k) {
      smallest = column[k] < smallest ? column[k] : smallest;
      largest = column[k] > largest ? column[k] : largest;
    }
    STD_TORCH_CHECK(smallest >= 0 && largest < num_inputs,
                    "supnorm: a column of the compressed rows lies outside the inputs");
  }

  template <class T>
  SparseRows<T> of_type(int64_t num_inputs) const {
    return {data<T>(values), data<int16_t>(columns), data<int32_t>(starts),
            data<T>(floor),  floor.size(0),          num_inputs};
  }

  Tensor values, columns, starts, floor;
};

Tensor dense_input(const Tensor& x, const Rows& rows) {
  STD_TORCH_CHECK(x.dim() == 2 && x.size(1) > 0 && x.scalar_type() == rows.values.scalar_type(),
                  "supnorm: x does not fit the compressed rows; call through kernels.sparse");
  rows.check_columns(x.size(1));
  return torch::stable::contiguous(x);
}

template <class T, class Kernel>
void run_sparse(const SparseProblem<T>& a, Kernel kernel) {
  constexpr int64_t kSamples = sparse_task_samples<T>();
  const double edges = a.rows.starts[a.rows.num_outputs];
  const double work = static_cast<double>(a.num_samples) *
                      (edges + static_cast<double>(a.rows.num_inputs + a.rows.num_outputs));
  parallel((a.num_samples + kSamples - 1) / kSamples, work,
           [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

Tensor new_result(const Tensor& x, const Rows& rows) {
  return torch::stable::new_empty(x, {x.size(0), rows.floor.size(0)});
}

void distance_into(const Tensor& x, const Rows& rows, const Tensor& out, int32_t* deciding) {
  for_dtype(x, [&](auto type) {
    using T = decltype(type);
    const SparseProblem<T> problem = {
        rows.of_type<T>(x.size(1)),      data<T>(x), nullptr, x.size(0),
        static_cast<T*>(out.data_ptr()), nullptr,    deciding};
    run_sparse(problem, of_type(kernels().sparse(), type).distance);
  });
}

Tensor sparse_linf_distance(const Tensor& x_in, const Tensor& values, const Tensor& columns,
                            const Tensor& starts, const Tensor& floor) {
  const Rows rows(values, columns, starts, floor);
  const Tensor x = dense_input(x_in, rows), out = new_result(x, rows);
  distance_into(x, rows, out, nullptr);
  return out;
}

std::tuple<Tensor, Tensor> sparse_linf_distance_argmax(const Tensor& x_in, const Tensor& values,
                                                       const Tensor& columns, const Tensor& starts,
                                                       const Tensor& floor) {
  const Rows rows(values, columns, starts, floor);
  const Tensor x = dense_input(x_in, rows), out = new_result(x, rows);
  const Tensor deciding = torch::stable::new_empty(x, out.sizes(), ScalarType::Int);
  distance_into(x, rows, out, static_cast<int32_t*>(deciding.data_ptr()));
  return {out, deciding};
}

std::tuple<Tensor, Tensor> sparse_linf_distance_bounds(const Tensor& lower_in,
                                                       const Tensor& upper_in, const Tensor& values,
                                                       const Tensor& columns, const Tensor& starts,
                                                       const Tensor& floor) {
  const Rows rows(values, columns, starts, floor);
  const Tensor lower = dense_input(lower_in, rows), upper = dense_input(upper_in, rows);
  STD_TORCH_CHECK(lower.size(0) == upper.size(0) && lower.size(1) == upper.size(1),
                  "supnorm: lower and upper differ in shape");
  const Tensor smallest = new_result(lower, rows), largest = new_result(lower, rows);
  for_dtype(lower, [&](auto type) {
    using T = decltype(type);
    const SparseProblem<T> problem = {rows.of_type<T>(lower.size(1)),
                                      data<T>(lower),
                                      data<T>(upper),
                                      lower.size(0),
                                      static_cast<T*>(smallest.data_ptr()),
                                      static_cast<T*>(largest.data_ptr()),
                                      nullptr};
    run_sparse(problem, of_type(kernels().sparse(), type).bounds);
  });
  return {smallest, largest};
}

// The prepared layers of kernels.SparseStack, checked entry by entry.
struct Stack {
  Stack(const Tensor& values_in, const Tensor& columns_in, const Tensor& starts_in,
        const Tensor& floor_in, const Tensor& offset_in, const Tensor& widths_in)
      : values(torch::stable::contiguous(values_in)),
        columns(torch::stable::contiguous(columns_in)),
        starts(torch::stable::contiguous(starts_in)),
        floor(torch::stable::contiguous(floor_in)),
        offset(torch::stable::contiguous(offset_in)),
        widths(torch::stable::contiguous(widths_in)),
        num_layers(widths.numel() - 1) {
    const bool has_types =
        columns.scalar_type() == ScalarType::Short && starts.scalar_type() == ScalarType::Int &&
        widths.scalar_type() == ScalarType::Int && floor.scalar_type() == values.scalar_type() &&
        offset.scalar_type() == values.scalar_type() && num_layers > 0 && starts.numel() > 0;
    STD_TORCH_CHECK(has_types && is_sound(),
                    "supnorm: these are no layers; make them with kernels.SparseStack");
  }

  bool is_sound() const {
    const int32_t *width = data<int32_t>(widths), *start = data<int32_t>(starts);
    const int64_t slices = starts.numel() - 1;
    bool sound = width[0] > 0 && start[0] == 0 && floor.numel() == slices * kSliceRows &&
                 offset.numel() == floor.numel() && columns.numel() == values.numel() &&
                 values.numel() == start[slices] * kSliceRows;
    for (int64_t s = 0; s < slices; ++s) sound &= start[s] <= start[s + 1];
    int64_t slice = 0;
    for (int64_t n = 0; sound && n < num_layers; ++n) {
      const int64_t next = slice + num_slices(width[n + 1]);
      sound = width[n + 1] > 0 && next <= slices &&
              columns_reach(width[n], start[slice] * kSliceRows, start[next] * kSliceRows);
      slice = next;
    }
    return sound && slice == slices;
  }

  // Whether the columns [begin, end) lie in [0, num_inputs], the last one being the 0 behind it.
  bool columns_reach(int32_t num_inputs, int64_t begin, int64_t end) const {
    const int16_t* column = data<int16_t>(columns);
    int16_t smallest = 0, largest = 0;
    for (int64_t k = begin; k < end; ++k) {
      smallest = column[k] < smallest ? column[k] : smallest;
      largest = column[k] > largest ? column[k] : largest;
    }
    return smallest >= 0 && largest <= num_inputs;
  }

  template <class T>
  SparseStack<T> of_type(const Tensor& x, int64_t shift, const Tensor& out) const {
    const bool is_pixels = x.scalar_type() == ScalarType::Byte;
    return {is_pixels ? data<uint8_t>(x) : nullptr,
            is_pixels ? nullptr : data<T>(x),
            static_cast<int>(shift),
            x.size(0),
            num_layers,
            data<int32_t>(widths),
            data<int32_t>(starts),
            data<T>(values),
            data<int16_t>(columns),
            data<T>(floor),
            data<T>(offset),
            static_cast<T*>(out.data_ptr())};
  }

  Tensor values, columns, starts, floor, offset, widths;
  int64_t num_layers;
};

template <class T, class Kernel>
void run_stack(const SparseStack<T>& a, double work, Kernel kernel) {
  constexpr int64_t kSamples = sparse_task_samples<T>();
  parallel((a.num_samples + kSamples - 1) / kSamples, work * static_cast<double>(a.num_samples),
           [&](int64_t begin, int64_t end) { kernel(a, begin, end); });
}

Tensor sparse_linf_stack(const Tensor& x_in, const Tensor& values, const Tensor& columns,
                         const Tensor& starts, const Tensor& floor, const Tensor& offset,
                         const Tensor& widths, int64_t shift) {
  const Stack stack(values, columns, starts, floor, offset, widths);
  const Tensor x = torch::stable::contiguous(x_in);
  const int32_t* width = data<int32_t>(stack.widths);
  const bool is_fitting =
      x.scalar_type() == ScalarType::Byte || x.scalar_type() == stack.values.scalar_type();
  STD_TORCH_CHECK(x.dim() == 2 && x.size(1) == width[0] && is_fitting && shift >= 0 && shift < 31,
                  "supnorm: x does not fit the layers; call through kernels.sparse_linf_stack");
  const Tensor out =
      torch::stable::new_empty(x, {x.size(0), width[stack.num_layers]}, stack.values.scalar_type());
  const double work = static_cast<double>(stack.values.numel() + x.size(1));
  if (stack.values.scalar_type() == ScalarType::Short) {
    run_stack(stack.of_type<int16_t>(x, shift, out), work, kernels().sparse_stack().i16);
  } else {
    STD_TORCH_CHECK(stack.values.scalar_type() == ScalarType::Int, "supnorm: expected int32");
    run_stack(stack.of_type<int32_t>(x, shift, out), work, kernels().sparse_stack().i32);
  }
  return out;
}

}  // namespace
}  // namespace supnorm

STABLE_TORCH_LIBRARY_IMPL(supnorm, CPU, library) {
  library.impl("sparse_linf_distance", TORCH_BOX(&supnorm::sparse_linf_distance));
  library.impl("sparse_linf_distance_argmax", TORCH_BOX(&supnorm::sparse_linf_distance_argmax));
  library.impl("sparse_linf_distance_bounds", TORCH_BOX(&supnorm::sparse_linf_distance_bounds));
  library.impl("sparse_linf_stack", TORCH_BOX(&supnorm::sparse_linf_stack));
}
