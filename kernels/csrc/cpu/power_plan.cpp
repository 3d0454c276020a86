#include "power_plan.h"

#include <math.h>

namespace supnorm {
namespace {

// Relative error of h that the rounding of u itself causes in any float32 formula, divided by four.
constexpr double kTolerance = 1.5e-8;

// (1 + s)^w = 1 + s * Q(s); Q is smooth through s = 0.
double quotient(double s, double w) {
  return s == 0 ? w : expm1(w * log1p(s)) / s;
}

// Interpolates Q at the Chebyshev nodes of [low, high]; coefficients[1 + j] belongs to s^j.
void fit(double low, double high, double w, int degree, double* coefficients) {
  double node[PowerPlan::kMaxDegree], divided[PowerPlan::kMaxDegree];
  for (int j = 0; j < degree; ++j) {
    node[j] = (low + high) / 2 + (high - low) / 2 * cos(M_PI * (2 * j + 1) / (2.0 * degree));
    divided[j] = quotient(node[j], w);
  }
  for (int step = 1; step < degree; ++step) {
    for (int j = degree - 1; j >= step; --j) {
      divided[j] = (divided[j] - divided[j - 1]) / (node[j] - node[j - step]);
    }
  }
  // Newton's form to powers of s.
  double power[PowerPlan::kMaxDegree] = {};
  for (int j = degree - 1; j >= 0; --j) {
    for (int k = degree - 1; k > 0; --k) power[k] = power[k - 1] - node[j] * power[k];
    power[0] = divided[j] - node[j] * power[0];
  }
  coefficients[0] = 1;
  for (int j = 0; j < degree; ++j) coefficients[1 + j] = power[j];
}

double largest_relative_error(double low, double high, double w, int degree, const double* c) {
  double worst = 0;
  for (int step = 0; step <= 128; ++step) {
    const double s = low + (high - low) * step / 128.0;
    double value = c[degree];
    for (int j = degree - 1; j >= 0; --j) value = value * s + c[j];
    worst = fmax(worst, fabs(value / pow(1 + s, w) - 1));
  }
  return worst;
}

// Smallest degree that meets the tolerance on [low, high], or 0 if none up to the largest does.
int fit_to_tolerance(double low, double high, double w, float* coefficients) {
  double c[PowerPlan::kMaxDegree + 1];
  for (int degree = 2; degree <= PowerPlan::kMaxDegree; ++degree) {
    fit(low, high, w, degree, c);
    if (largest_relative_error(low, high, w, degree, c) > kTolerance) continue;
    for (int j = 0; j <= degree; ++j) coefficients[j] = static_cast<float>(c[j]);
    return degree;
  }
  return 0;
}

}  // namespace

PowerPlan plan_power(double q, double kept_bits) {
  PowerPlan plan = {};
  int exponent;
  const double w = 2 * frexp(q, &exponent);  // in [1, 2)
  plan.squarings = exponent - 1;
  plan.q = static_cast<float>(q);
  const double threshold = exp2(-kept_bits / q);
  plan.threshold = static_cast<float>(threshold);
  plan.degree = fit_to_tolerance(threshold - 1, 0, w, plan.coefficients);
  if (plan.degree == 0 || plan.degree > 9) {
    plan.is_wide = true;
    plan.degree = fit_to_tolerance(M_SQRT1_2 - 1, M_SQRT2 - 1, w, plan.coefficients);
  }
  return plan;
}

}  // namespace supnorm
