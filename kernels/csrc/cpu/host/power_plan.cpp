#include "host/power_plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include <mutex>

namespace supnorm {
namespace {

constexpr int kMaxDegree = PowerPlan::kMaxDegree;
constexpr int kPoints = 80;

// An error of u that has the effect of the polynomial's: a quarter of u's own rounding to float32.
constexpr double kTolerance = 1.5e-8;
// The same of pieces, which have it everywhere alike.
constexpr double kPiecesTolerance = 3e-8;
// Times this where a term and all others of its size are at most as much as the largest.
constexpr double kLargestShare = 8;
// Degrees that the kernels are compiled for.
constexpr int kNarrowDegrees[] = {2, 3, 4, 5, 6, 7, 9, 12};
constexpr int kPiecesDegrees[] = {2, 3, 4, 5, 6};
// Slopes up to this degree are narrow (from p = 18 or so), though pieces may be some percent
// faster.
constexpr int kExactDegree = 7;
// Powers down to 2^-kSmallestPowerBits leave room for others that count beside them.
constexpr double kSmallestPowerBits = 80;
// Larger coefficients would cancel, and lose in float32 what the fit has gained.
constexpr double kLargestCoefficient = 8;
// The largest difference is known from above to so many octaves.
constexpr double kSpareOctaves = 2;

// The function to fit, (1 + s)^w on [low, high], and how much each error weighs: 1 / (error
// allowed).
struct Target {
  double low, high, w, tolerance;
  bool is_relaxed = false;  // errors of small powers weigh less
  double q = 0, kept_bits = 0;
  PowerUse use = PowerUse::kSlope;

  double value(double s) const { return pow(1 + s, w); }

  double weight(double s) const {
    const double strict = 1 / (value(s) * tolerance);
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

// Finds the polynomial of the lowest degree listed that is good enough; 0 if none is.
template <int kCount>
int find_polynomial(const Target& target, const int (&degrees)[kCount], double* c) {
  Fit fit(target);
  for (const int degree : degrees) {
    while (fit.degree() < degree) fit.extend();
    fit.coefficients(c);
    if (is_good(target, c, degree)) return degree;
  }
  return 0;
}

void set_coefficients(const double* c, int degree, PowerPlan* plan) {
  plan->degree = degree;
  for (int j = 0; j <= degree; ++j) plan->coefficients[j] = static_cast<float>(c[j]);
}

// Chooses how often to square, for the fewest multiplications; target(w) is what to fit for u^w.
// False where no polynomial is good enough.
template <int kCount, class MakeTarget>
bool find_squarings(double q, double smallest_w, const int (&degrees)[kCount],
                    const MakeTarget& target, double* best, PowerPlan* plan) {
  plan->degree = 0;
  for (int squarings = 0; ldexp(q, -squarings) >= smallest_w; ++squarings) {
    double c[kMaxDegree + 1];
    const int degree = find_polynomial(target(ldexp(q, -squarings)), degrees, c);
    const bool is_better = plan->degree == 0 || degree + squarings < plan->degree + plan->squarings;
    if (degree == 0 || !is_better) continue;
    plan->degree = degree;
    plan->squarings = squarings;
    memcpy(best, c, sizeof c);
  }
  return plan->degree != 0;
}

bool set_narrow(double q, double kept_bits, PowerUse use, PowerPlan* plan) {
  const double lowest = exp2(-kept_bits / q) - 1;
  const auto target = [&](double w) {
    return Target{lowest, 0, w, w * kTolerance, true, q, kept_bits, use};
  };
  double c[kMaxDegree + 1];
  if (!find_squarings(q, 1, kNarrowDegrees, target, c, plan)) return false;
  plan->kind = PowerKind::kNarrow;
  set_coefficients(c, plan->degree, plan);
  return true;
}

void set_wide(double q, PowerPlan* plan) {
  constexpr int kDegree[] = {PowerPlan::kWideDegree};
  int exponent;
  const double w = 2 * frexp(q, &exponent);
  plan->squarings = exponent - 1;
  double c[kMaxDegree + 1];
  const int degree = find_polynomial({M_SQRT1_2 - 1, M_SQRT2 - 1, w, kTolerance}, kDegree, c);
  assert(degree != 0);  // for every w in [1, 2)
  plan->kind = PowerKind::kWide;
  set_coefficients(c, degree, plan);
}

// The table for pieces of which an octave has `an_octave`, and the polynomial with the variable
// stretched until its last coefficient is 1 or -1.
void set_table(double q, PowerUse use, int table_size, int an_octave, const double* c,
               PowerPlan* plan) {
  const int degree = plan->degree;
  const double sign = c[degree] < 0 ? -1 : 1;
  plan->centre = static_cast<float>(pow(fabs(c[degree]), 1.0 / degree));
  const double stretch = plan->centre;
  for (int j = 0; j < degree; ++j) {
    plan->coefficients[j] = static_cast<float>(sign * c[j] / pow(stretch, j));
  }
  plan->coefficients[degree] = 1;
  plan->piece_shift = 23 - ilogb(an_octave);
  plan->smallest = static_cast<float>(2 * exp2(-kSmallestPowerBits / q));
  for (int j = 0; j < table_size + an_octave; ++j) {
    const int octave = j / an_octave - table_size / an_octave;
    const double middle = ldexp(1 + (j % an_octave + 0.5) / an_octave, octave);
    plan->inverse[j] = static_cast<float>(stretch / middle);
    const double power = pow(stretch / plan->inverse[j] / PowerPlan::kUnit, q);
    plan->power[j] = static_cast<float>(plan->squarings == 0 ? sign * power : power);
  }
  // What is below the threshold is brought to the lowest piece of a number in [0, kUnit].
  if (use == PowerUse::kSlope) plan->power[an_octave] = 0;
}

// As many octaves as needed, in as many pieces as there can be, with as few multiplications as do.
bool set_pieces(double q, double kept_bits, PowerUse use, int table_size, PowerPlan* plan) {
  const double spare = use == PowerUse::kSum ? kSpareOctaves : 0;
  int an_octave = table_size;
  // The lowest piece lies below the threshold.
  while (an_octave > 0 &&
         table_size / an_octave - log2(1 + 1.0 / an_octave) < kept_bits / q + spare) {
    an_octave /= 2;
  }
  if (an_octave == 0 || table_size > PowerPlan::kMaxPieces) return false;
  const double radius = 1 / (2.0 * an_octave + 1);
  const auto target = [&](double w) { return Target{-radius, radius, w, w * kPiecesTolerance}; };
  double c[kMaxDegree + 1];
  if (!find_squarings(q, 0.5, kPiecesDegrees, target, c, plan)) return false;
  plan->kind = PowerKind::kPieces;
  plan->unit = PowerPlan::kUnit;
  set_table(q, use, table_size, an_octave, c, plan);
  return true;
}

PowerPlan make_plan(double q, double kept_bits, PowerUse use, int table_size) {
  PowerPlan plan = {};
  plan.q = static_cast<float>(q);
  plan.unit = 1;
  plan.threshold = static_cast<float>(exp2(-kept_bits / q));
  PowerPlan narrow = plan, pieces = plan;
  const bool is_narrow = set_narrow(q, kept_bits, use, &narrow);
  // The slope of an input that decides alone is exactly 1 there: gradients that cancel leave no
  // rounding, of which Adam would make full steps.
  if (is_narrow && use == PowerUse::kSlope && narrow.degree <= kExactDegree) return narrow;
  const bool is_in_pieces = set_pieces(q, kept_bits, use, table_size, &pieces);
  // At as many multiplications pieces are faster: sums need no largest difference first.
  if (is_in_pieces &&
      (!is_narrow || pieces.degree + pieces.squarings <= narrow.degree + narrow.squarings)) {
    return pieces;
  }
  if (is_narrow) return narrow;
  set_wide(q, &plan);
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
