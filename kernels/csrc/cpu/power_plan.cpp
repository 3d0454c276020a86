#include "power_plan.h"

#include <assert.h>
#include <math.h>

#include <mutex>

namespace supnorm {
namespace {

constexpr int kMaxDegree = PowerPlan::kMaxDegree;
constexpr int kPoints = 80;

// Relative error of h, a quarter of what the rounding of u to float32 makes of it.
constexpr double kTolerance = 1.5e-8;
// Times this where a term and all others of its size are at most as much as the largest.
constexpr double kLargestShare = 8;
// Degrees that the kernels are compiled for.
constexpr int kNarrowDegrees[] = {2, 3, 4, 5, 6, 7, 9, 12};
// Up to this degree the narrow polynomial is cheaper than a table.
constexpr int kCheapDegree = 9;
// Larger coefficients would cancel, and lose in float32 what the fit has gained.
constexpr double kLargestCoefficient = 8;

// The function to fit, (1 + s)^w on [low, high], and how much each error weighs: 1 / (error
// allowed).
struct Target {
  double low, high, w, q, kept_bits;
  PowerUse use;
  bool is_relaxed;  // errors of small powers weigh less

  double value(double s) const { return pow(1 + s, w); }

  double weight(double s) const {
    const double strict = 1 / (value(s) * kTolerance);
    if (!is_relaxed) return strict;
    const double bits = -q * log2(1 + s);
    if (use == PowerUse::kSum) {
      // Many terms of one size may add up to as much as the largest.
      const double fan_in_bits = kept_bits - kSumBits;
      return strict / fmin(exp2(0.7 * bits), kLargestShare * exp2(fmax(bits - fan_in_bits, 0)));
    }
    return strict / fmin(exp2(bits / 4), fmax(1e-4 / (q * kTolerance), 1));
  }
};

// Weighted least squares for Q in (1 + s)^w = 1 + s Q(s), by Gram-Schmidt on powers of the variable
// z in
// [-1, 1]; points crowd towards the ends as Chebyshev's do, which makes it nearly minimax.
class Fit {
 public:
  explicit Fit(const Target& target) : target_(target) {
    for (int k = 0; k < kPoints; ++k) {
      z_[k] = cos(M_PI * (k + 0.5) / kPoints);
      const double s = at(z_[k]);
      const double weight = target.weight(s);
      residual_[k] = (target.value(s) - 1) * weight;
      scale_[k] = s * weight;
    }
  }

  // Adds one to the degree of Q.
  void extend() {
    double column[kPoints];
    double combination[kMaxDegree] = {};  // of powers of z
    combination[degree_] = 1;
    for (int k = 0; k < kPoints; ++k) column[k] = pow(z_[k], degree_) * scale_[k];
    for (int pass = 0; pass < 2; ++pass) {  // twice, for orthogonality to the last bit
      for (int j = 0; j < degree_; ++j) {
        const double share = dot(column, basis_[j]);
        for (int k = 0; k < kPoints; ++k) column[k] -= share * basis_[j][k];
        for (int c = 0; c < kMaxDegree; ++c) combination[c] -= share * combination_[j][c];
      }
    }
    const double length = sqrt(dot(column, column));
    for (int k = 0; k < kPoints; ++k) basis_[degree_][k] = column[k] / length;
    for (int c = 0; c < kMaxDegree; ++c) combination_[degree_][c] = combination[c] / length;
    const double share = dot(residual_, basis_[degree_]);
    for (int k = 0; k < kPoints; ++k) residual_[k] -= share * basis_[degree_][k];
    for (int c = 0; c < kMaxDegree; ++c) in_z_[c] += share * combination_[degree_][c];
    ++degree_;
  }

  // Coefficients of s^0, s^1, ... of 1 + s Q(s).
  void coefficients(double* result) const {
    const double slope = 2 / (target_.high - target_.low);
    const double offset = -(target_.high + target_.low) / (target_.high - target_.low);
    double q[kMaxDegree] = {};
    for (int j = degree_ - 1; j >= 0;
         --j) {  // Horner, in polynomials: q <- q * (slope s + offset) + c
      for (int c = kMaxDegree - 1; c > 0; --c) q[c] = q[c] * offset + q[c - 1] * slope;
      q[0] = q[0] * offset + in_z_[j];
    }
    result[0] = 1;
    for (int c = 0; c < kMaxDegree; ++c) result[c + 1] = q[c];
  }

  int degree() const { return degree_; }

 private:
  double at(double z) const {
    return (target_.low + target_.high) / 2 + (target_.high - target_.low) / 2 * z;
  }
  static double dot(const double* a, const double* b) {
    double sum = 0;
    for (int k = 0; k < kPoints; ++k) sum += a[k] * b[k];
    return sum;
  }

  const Target target_;
  int degree_ = 0;
  double z_[kPoints], scale_[kPoints], residual_[kPoints];
  double basis_[kMaxDegree][kPoints], combination_[kMaxDegree][kMaxDegree], in_z_[kMaxDegree] = {};
};

bool is_good(const Target& target, const double* c, int degree) {
  for (int step = 0; step <= 100; ++step) {
    const double s = target.low + (target.high - target.low) * step / 100.0;
    double value = c[degree];
    for (int j = degree - 1; j >= 0; --j) value = value * s + c[j];
    if (fabs(value - target.value(s)) * target.weight(s) > 1) return false;
  }
  for (int j = 0; j <= degree; ++j) {
    if (fabs(c[j]) > kLargestCoefficient) return false;
  }
  return true;
}

// Sets the polynomial of the lowest degree listed that is good enough; false if none is.
template <int kCount>
bool set_polynomial(const Target& target, const int (&degrees)[kCount], PowerPlan* plan) {
  Fit fit(target);
  double c[kMaxDegree + 1];
  for (const int degree : degrees) {
    while (fit.degree() < degree) fit.extend();
    fit.coefficients(c);
    if (!is_good(target, c, degree)) continue;
    plan->degree = degree;
    for (int j = 0; j <= degree; ++j) plan->coefficients[j] = static_cast<float>(c[j]);
    return true;
  }
  return false;
}

void set_mantissa_polynomial(double low, double high, double w, double q, PowerPlan* plan) {
  constexpr int kDegree[] = {PowerPlan::kMantissaDegree};
  [[maybe_unused]] const bool is_good_enough =
      set_polynomial({low, high, w, q, 0, PowerUse::kSlope, false}, kDegree, plan);
  assert(is_good_enough);  // for every w in [1, 2)
}

PowerPlan make_plan(double q, double kept_bits, PowerUse use, int table_size) {
  PowerPlan plan = {};
  int exponent;
  const double w = 2 * frexp(q, &exponent);  // in [1, 2)
  plan.squarings = exponent - 1;
  plan.q = static_cast<float>(q);
  const double threshold = exp2(-kept_bits / q);
  plan.threshold = static_cast<float>(threshold);
  PowerPlan narrow = plan;
  const bool is_narrow =
      set_polynomial({threshold - 1, 0, w, q, kept_bits, use, true}, kNarrowDegrees, &narrow);
  if (is_narrow && narrow.degree <= kCheapDegree) return narrow;
  if (table_size > 0 && threshold >= exp2(1 - table_size)) {
    plan.kind = PowerKind::kTable;
    set_mantissa_polynomial(0, 1, w, q, &plan);
    for (int j = 0; j < table_size; ++j) {
      plan.table[(127 - j) & (table_size - 1)] = static_cast<float>(exp2(-q * j));
    }
    return plan;
  }
  if (is_narrow) return narrow;
  plan.kind = PowerKind::kWide;
  set_mantissa_polynomial(M_SQRT1_2 - 1, M_SQRT2 - 1, w, q, &plan);
  return plan;
}

}  // namespace

PowerPlan plan_power(double q, double kept_bits, PowerUse use, int table_size) {
  // A network asks for the same few plans layer after layer; making one takes some 50 us.
  struct Entry {
    double q, kept_bits;
    PowerUse use;
    int table_size;
    PowerPlan plan;
  };
  constexpr int kEntries = 16;
  static std::mutex mutex;
  static Entry entries[kEntries];
  static int next = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Entry& entry : entries) {
    if (entry.q == q && entry.kept_bits == kept_bits && entry.use == use &&
        entry.table_size == table_size) {
      return entry.plan;
    }
  }
  Entry& entry = entries[next++ % kEntries];
  entry = {q, kept_bits, use, table_size, make_plan(q, kept_bits, use, table_size)};
  return entry.plan;
}

}  // namespace supnorm
