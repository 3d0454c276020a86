// The integer operators on one group's raw data: pack the weights, share the tasks out.
#include <vector>

#include "host/kernels.h"
#include "host/run.h"

namespace supnorm {
namespace {

int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

// [vector of outputs][input][lane]; lanes past the end repeat the last output.
template <class T>
std::vector<T> packed_weights(const PlainProblem<T>& a, int64_t lanes) {
  const int64_t num_vectors = blocks(a.num_outputs, lanes);
  std::vector<T> packed(static_cast<uint64_t>(num_vectors * lanes * a.num_inputs));
  for (int64_t lane = 0; lane < num_vectors * lanes; ++lane) {
    const T* row = a.w + (lane < a.num_outputs ? lane : a.num_outputs - 1) * a.num_inputs;
    T* target = packed.data() + lane / lanes * lanes * a.num_inputs + lane % lanes;
    for (int64_t i = 0; i < a.num_inputs; ++i) target[i * lanes] = row[i];
  }
  return packed;
}

template <class T, class Kernel>
void run_packed(IntegerArgs<T> args, Kernel kernel) {
  const PlainProblem<T>& a = args.problem;
  if (a.num_rows == 0 || a.num_outputs == 0) return;
  const int64_t lanes = kernels().integers().vector_bytes / static_cast<int64_t>(sizeof(T));
  const std::vector<T> packed = packed_weights(a, lanes);
  args.packed = packed.data();
  const int64_t groups = blocks(blocks(a.num_outputs, lanes), kIntegerVectors);
  parallel(groups * blocks(a.num_rows, kIntegerRows), work_of(a),
           [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

}  // namespace

template <class T>
void run_integer_linf_distance(const PlainProblem<T>& problem, T* out) {
  run_packed(IntegerArgs<T>{problem, nullptr, nullptr, out, nullptr},
             integer_operators<T>(kernels().integers()).linf_distance);
}

template <class T>
void run_integer_bounds(const PlainProblem<T>& problem, const T* upper, T* smallest, T* largest) {
  run_packed(IntegerArgs<T>{problem, upper, nullptr, smallest, largest},
             integer_operators<T>(kernels().integers()).linf_distance_bounds);
}

#define SUPNORM_INSTANTIATE(T)                                            \
  template void run_integer_linf_distance<T>(const PlainProblem<T>&, T*); \
  template void run_integer_bounds<T>(const PlainProblem<T>&, const T*, T*, T*);
SUPNORM_INSTANTIATE(int16_t)
SUPNORM_INSTANTIATE(int32_t)
#undef SUPNORM_INSTANTIATE

}  // namespace supnorm
