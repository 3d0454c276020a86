#include "host/plain.h"

#include <math.h>

#include "host/kernels.h"

namespace supnorm {
namespace {

// u^q for u in [0, 1]; whole numbers by multiplication, which is several times faster than pow.
struct Power {
  explicit Power(double exponent)
      : q(exponent), whole(exponent <= 64 && exponent == floor(exponent) ? (int)exponent : 0) {}

  double operator()(double u) const {
    if (whole == 0) return pow(u, q);
    double result = 1, square = u;
    for (int bits = whole; bits != 0; bits >>= 1) {
      if (bits & 1) result *= square;
      square *= square;
    }
    return result;
  }

  double q;
  int whole;
};

// max that keeps NaN once it has one.
template <class T>
T larger(T best, T value) {
  return value > best || value != value ? value : best;
}

template <class T>
T largest_difference(const T* x, const T* w, int64_t count) {
  constexpr int kParts = 8;  // independent maxima, which the compiler turns into vectors
  T part[kParts] = {};
  int64_t i = 0;
  for (; i + kParts <= count; i += kParts) {
    for (int j = 0; j < kParts; ++j) part[j] = larger<T>(part[j], (T)fabs(x[i + j] - w[i + j]));
  }
  for (; i < count; ++i) part[0] = larger<T>(part[0], (T)fabs(x[i] - w[i]));
  for (int j = 1; j < kParts; ++j) part[0] = larger(part[0], part[j]);
  return part[0];
}

template <class T>
double lp_one(const T* x, const T* w, int64_t num_inputs, double p, const Power& power) {
  double largest = 0;
  for (int64_t i = 0; i < num_inputs; ++i) {
    largest = larger(largest, fabs((double)x[i] - (double)w[i]));
  }
  if (!(largest > 0) || isinf(largest)) return largest;
  double sum = 0;
  for (int64_t i = 0; i < num_inputs; ++i) {
    sum += power(fabs((double)x[i] - (double)w[i]) / largest);
  }
  return largest * pow(sum, 1 / p);
}

}  // namespace

double lp_distance_one(const float* x, const float* w, int64_t num_inputs, double p) {
  return lp_one(x, w, num_inputs, p, Power(p));
}

template <class T>
void plain_lp_distance(const PlainProblem<T>& a, double p, T* out, int64_t begin, int64_t end) {
  const Power power(p);
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      out[b * a.out_stride + o] =
          (T)lp_one(a.x + b * a.x_stride, a.w + o * a.num_inputs, a.num_inputs, p, power);
    }
  }
}

namespace {

template <class T>
void clear(T* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = 0;
}

// Adds the gradient of output (b, o) for inputs [begin, end).
template <class T>
void lp_backward_one(const PlainProblem<T>& a, int64_t b, int64_t o, const Power& power,
                     double grad, double distance, T* grad_x, T* grad_w, int64_t begin,
                     int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const double t = (double)a.x[b * a.x_stride + i] - (double)a.w[o * a.num_inputs + i];
    const double change = grad * copysign(power(fabs(t) / distance), t);
    if (grad_x != nullptr) grad_x[b * a.x_stride + i] += (T)change;
    if (grad_w != nullptr) grad_w[o * a.num_inputs + i] -= (T)change;
  }
}

}  // namespace

template <class T>
void plain_lp_distance_backward(const PlainProblem<T>& a, double p, const T* grad,
                                const T* distance, T* grad_x, T* grad_w, int64_t begin,
                                int64_t end) {
  const Power power(p - 1);
  for (int64_t b = 0; b < a.num_rows; ++b) {
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      const int64_t at = b * a.out_stride + o;
      if (distance[at] == 0) continue;
      lp_backward_one(a, b, o, power, (double)grad[at], (double)distance[at], grad_x, grad_w, begin,
                      end);
    }
  }
}

void plain_lp_distance_backward_below(const PlainProblem<float>& a, double p, float limit,
                                      const float* grad, const float* distance, float* grad_x,
                                      float* grad_w) {
  const Power power(p - 1);
  for (int64_t b = 0; b < a.num_rows; ++b) {
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      const int64_t at = b * a.out_stride + o;
      if (!(distance[at] > 0 && distance[at] < limit)) continue;
      lp_backward_one(a, b, o, power, (double)grad[at], (double)distance[at], grad_x, grad_w, 0,
                      a.num_inputs);
    }
  }
}

template <class T>
void plain_linf_distance(const PlainProblem<T>& a, T* out, int32_t* argmax, int64_t begin,
                         int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      const T *x = a.x + b * a.x_stride, *w = a.w + o * a.num_inputs;
      const T largest = largest_difference(x, w, a.num_inputs);
      out[b * a.out_stride + o] = largest;
      if (argmax == nullptr) continue;
      int64_t i = 0;
      for (; i + 1 < a.num_inputs; ++i) {
        const T size = (T)fabs(x[i] - w[i]);
        if (size == largest || size != size) break;
      }
      argmax[b * a.out_stride + o] = (int32_t)i;
    }
  }
}

// No processor knows ahead which weights decide: 16 outputs of four rows are on their way at once.
constexpr int64_t kRowsAhead = 4;

template <class T>
void linf_backward_outputs(const PlainProblem<T>& a, const T* grad, const int32_t* argmax, T* flow,
                           T* grad_w, int64_t begin, int64_t end) {
  if (grad_w != nullptr) clear(grad_w + begin * a.num_inputs, (end - begin) * a.num_inputs);
  for (int64_t b = 0; b < a.num_rows; ++b) {
    const int64_t ahead = (b + kRowsAhead < a.num_rows ? kRowsAhead : 0) * a.out_stride;
    for (int64_t o = begin; o < end; ++o) {
      const int64_t at = b * a.out_stride + o, i = argmax[at];
      __builtin_prefetch(a.w + o * a.num_inputs + argmax[at + ahead]);
      const T t = a.x[b * a.x_stride + i] - a.w[o * a.num_inputs + i];
      const T change =
          grad[at] * (T)((t > 0) - (t < 0));  // a branch would be guessed wrong half the time
      flow[b * a.num_outputs + o] = change;
      if (grad_w != nullptr) grad_w[o * a.num_inputs + i] -= change;
    }
  }
}

template <class T>
void linf_backward_rows(const PlainProblem<T>& a, const T* flow, const int32_t* argmax, T* grad_x,
                        int64_t begin, int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    clear(grad_x + b * a.x_stride, a.num_inputs);
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      grad_x[b * a.x_stride + argmax[b * a.out_stride + o]] += flow[b * a.num_outputs + o];
    }
  }
}

template <class T>
void plain_bounds(const PlainProblem<T>& a, const T* upper, T* smallest, T* largest, int64_t begin,
                  int64_t end) {
  for (int64_t b = begin; b < end; ++b) {
    const T *low = a.x + b * a.x_stride, *high = upper + b * a.x_stride;
    for (int64_t o = 0; o < a.num_outputs; ++o) {
      const T* w = a.w + o * a.num_inputs;
      T near = 0, far = 0;
      for (int64_t i = 0; i < a.num_inputs; ++i) {
        const T below = low[i] - w[i], above = high[i] - w[i];
        near = larger<T>(near, larger<T>(below, -above));
        far = larger<T>(far, larger<T>(above, -below));
      }
      smallest[b * a.out_stride + o] = near;
      largest[b * a.out_stride + o] = far;
    }
  }
}

#define SUPNORM_INSTANTIATE(T)                                                                     \
  template void plain_lp_distance<T>(const PlainProblem<T>&, double, T*, int64_t, int64_t);        \
  template void plain_lp_distance_backward<T>(const PlainProblem<T>&, double, const T*, const T*,  \
                                              T*, T*, int64_t, int64_t);                           \
  template void plain_linf_distance<T>(const PlainProblem<T>&, T*, int32_t*, int64_t, int64_t);    \
  template void linf_backward_outputs<T>(const PlainProblem<T>&, const T*, const int32_t*, T*, T*, \
                                         int64_t, int64_t);                                        \
  template void linf_backward_rows<T>(const PlainProblem<T>&, const T*, const int32_t*, T*,        \
                                      int64_t, int64_t);                                           \
  template void plain_bounds<T>(const PlainProblem<T>&, const T*, T*, T*, int64_t, int64_t);
SUPNORM_INSTANTIATE(float)
SUPNORM_INSTANTIATE(double)
#undef SUPNORM_INSTANTIATE

}  // namespace supnorm
