// What the kernels of one instruction set offer to bind.cpp. Plain data only: no torch, no library
// headers.
//
// Legend: B samples (rows of x), O outputs (rows of w), I inputs, all of one group. Everything is
// float32, but for the integers of integers.h. A kernel works on tasks [begin, end) of the number
// its *_tasks states; tasks are independent of one another and of who runs them, which is why
// results do not depend on the number of threads.
#pragma once

#include <stdint.h>

#include "host/integers.h"
#include "host/power_plan.h"
#include "host/sparse_kernels.h"

namespace supnorm {

struct Problem {
  const float* x;  // (B, I), rows x_stride apart
  const float* w;  // (O, I), dense
  int64_t num_rows, num_outputs, num_inputs;
  int64_t x_stride;    // also of everything else shaped (B, I)
  int64_t out_stride;  // of everything shaped (B, O)
};

// The forward kernels are symmetric in x and w. One operand lies along the lanes of the vectors,
// packed block by block as packed[i][lane] and padded with its last row; a row of the other is
// broadcast.
struct ForwardArgs {
  Problem problem;
  bool batch_lanes;        // samples along the lanes, else outputs
  bool skips;              // inputs that cannot matter
  float scale;             // a power of two: kernels see scale * x and scale * w
  const float* packed;     // the operand along the lanes, scaled
  const float* spans;      // per block its lowest value of every input, then its highest
  const int32_t* order;    // of the rows along the lanes; null for that of the matrix
  const float* broadcast;  // the other one, scaled
  int64_t broadcast_stride;
  double p;
  int p_squarings;  // log2(p) where p is a power of two and a sum without normalisation is safe,
                    // else 0
  PowerPlan plan;
  const float* upper;  // bounds: upper ends, with x the lower ends
  float* out;          // (B, O)
  float* out_largest;  // bounds: (B, O)
  int32_t* argmax;     // (B, O) or null
  int32_t* argmax_largest;
};

struct BackwardArgs {
  Problem problem;
  float scale;
  double p;
  const float* grad;       // (B, O)
  const float* distance;   // (B, O)
  float *grad_x, *grad_w;  // (B, I) and (O, I); either may be null

  // Factors are [block][output][kind][lane], blocks of kSlopeLanes samples. p = 2^p_squarings: one
  // kind; else three: grad, distance, plan.unit / distance.
  float* factors;
  int p_squarings;  // else 0
  PowerPlan plan;   // of p - 1

  // Limits are [block][output]: below it |x - w| has no slope in any lane.
  float* limits;
  const int32_t* order;   // of the samples along the lanes; null for that of the matrix
  const float* scaled_w;  // (O, I), for lists
  float* sums_w;          // (tasks, O, inputs_a_task): of lists, gradients of some samples
  int64_t inputs_a_task;  // of lists
};

// Samples side by side where factors of gradients are kept, whatever the vectors.
constexpr int kSlopeLanes = 16;

// Columns that one task of pack takes.
constexpr int64_t kPackColumns = 1024;

// Inputs that one task of dense_backward takes.
constexpr int64_t kDenseInputs = 64;

// The row of a matrix that is k-th in an order.
inline int64_t row_at(const int32_t* order, int64_t k) { return order == nullptr ? k : order[k]; }

// Sizes of the numbers in a matrix: the smallest that is not 0 (infinity where there is none) and
// the largest; NaN where one of them is NaN or infinite.
struct Sizes {
  float smallest, largest;
};

// What `run_arithmetic` repeats: the loops at p = infinity and at p = 8.
enum class Arithmetic { kMaximum, kEighthPower };

struct Kernels {
  const char* name;
  int lanes;       // rows side by side in a packed operand
  int table_size;  // pieces in a table of powers
  void (*measure)(const float* source, int64_t columns, int64_t stride, Sizes* sizes, int64_t begin,
                  int64_t end);  // a row; sizes has one entry a row
  // Distances, sums of absolute differences times the scale, of some rows from row `from`.
  void (*distances)(const float* source, int64_t columns, int64_t stride, float scale, int64_t from,
                    const int32_t* rows, float* result, int64_t begin, int64_t end);
  void (*pack)(const float* source, int64_t rows, int64_t columns, int64_t stride,
               const int32_t* order, float scale, float* packed, float* spans, int64_t begin,
               int64_t end);  // kPackColumns columns of a block of `lanes` rows
  void (*linf_distance)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*linf_distance_bounds)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*lp_distance)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*lp_distance_factors)(const BackwardArgs&, int64_t begin,
                              int64_t end);  // kSlopeLanes samples
  // How many inputs the lists of one block of samples have, for every outputs_apart-th output.
  int64_t (*lp_distance_count)(const BackwardArgs&, int64_t block, int64_t outputs_apart);
  void (*lp_distance_backward)(const BackwardArgs&, int64_t begin, int64_t end);  // inputs_a_task
  void (*squares_factors)(const BackwardArgs&, int64_t begin, int64_t end);  // kSlopeLanes samples
  void (*dense_backward)(const BackwardArgs&, int64_t begin, int64_t end);   // kDenseInputs
  const IntegerKernels& (*integers)();                                       // integer_linf.cpp
  const AllSparseKernels& (*sparse)();                   // sparse_linf_distance.cpp
  const SparseStackKernels& (*sparse_stack)();           // sparse_stack.cpp
  int64_t (*run_arithmetic)(Arithmetic, int64_t count);  // returns the number of elements
};

// Broadcast rows that one task of a forward kernel takes; tasks = blocks of lanes * blocks of
// these.
constexpr int64_t kTaskRows = 24;

// Below this distance (after scaling) the float32 kernels leave an output to `lp_distance_one`.
constexpr float kSmallestDistance = 0x1p-60f;

// One output in double precision, for the rare one whose size is far from that of the others.
double lp_distance_one(const float* x, const float* w, int64_t num_inputs, double p);

const Kernels& kernels_portable();
#if defined(__x86_64__)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
namespace avx512vl {  // AVX-512 on vectors of 256 bits
int64_t run_arithmetic(Arithmetic kind, int64_t count);
void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end);
}  // namespace avx512vl
#endif

}  // namespace supnorm
