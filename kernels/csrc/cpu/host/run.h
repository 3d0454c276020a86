// The operators on one group's raw data: choose kernels, scale and workspace, share the tasks out.
#pragma once

#include <stdint.h>

#include "host/kernels.h"
#include "host/plain.h"

namespace supnorm {

// Runs body(context, begin, end) over [0, num_tasks) on torch's threads: binding/bind.cpp.
void run_tasks(int64_t num_tasks, void (*body)(void*, int64_t, int64_t), void* context);

// Calls f(begin, end) over [0, num_tasks), on several threads where there is work for them.
template <class F>
void parallel(int64_t num_tasks, double work, const F& f) {
  constexpr double kWorthThreads = 1 << 16;  // elements; starting the threads costs some 5 us
  if (num_tasks <= 0) return;
  if (num_tasks == 1 || work < kWorthThreads) return f(0, num_tasks);
  run_tasks(
      num_tasks,
      [](void* context, int64_t begin, int64_t end) {
        (*static_cast<const F*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// The kernels in use: the best this machine runs, unless others were chosen.
const Kernels& kernels();
bool use_kernels(const char* name);
// Whether inputs that cannot matter are looked for; not, only in tests and benchmarks.
bool skips();

void run_linf_distance(const Problem& problem, float* out, int32_t* argmax);
void run_linf_distance(const PlainProblem<double>& problem, double* out, int32_t* argmax);

void run_lp_distance(const Problem& problem, double p, float* out);
void run_lp_distance(const PlainProblem<double>& problem, double p, double* out);

void run_lp_distance_backward(const Problem& problem, double p, const float* grad,
                              const float* distance, float* grad_x, float* grad_w);
void run_lp_distance_backward(const PlainProblem<double>& problem, double p, const double* grad,
                              const double* distance, double* grad_x, double* grad_w);

void run_bounds(const Problem& problem, const float* upper, float* smallest, float* largest);
void run_bounds(const PlainProblem<double>& problem, const double* upper, double* smallest,
                double* largest);

inline PlainProblem<float> plain(const Problem& a) {
  return {a.x, a.w, a.num_rows, a.num_outputs, a.num_inputs, a.x_stride, a.out_stride};
}
inline const PlainProblem<double>& plain(const PlainProblem<double>& a) { return a; }

template <class P>
double work_of(const P& a) {
  return static_cast<double>(a.num_rows) * static_cast<double>(a.num_outputs) *
         static_cast<double>(a.num_inputs);
}

}  // namespace supnorm
