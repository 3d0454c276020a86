// What the kernels of one instruction set offer to bind.cpp. Plain data only: no torch, no library
// headers.
//
// Legend: B samples (rows of x), O outputs (rows of w), I inputs, all of one group. Everything is
// float32, but for the integers of integers.h. A kernel works on tasks [begin, end) of the number
// its *_tasks states; tasks are independent of one another and of who runs them, which is why
// results do not depend on the number of threads.
#pragma once

#include <stdint.h>

#include "integers.h"
#include "power_plan.h"
#include "sparse_kernels.h"

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
  bool skips;  // inputs that cannot matter
  float scale;
  double p;
  const float* grad;       // (B, O)
  const float* distance;   // (B, O)
  float *grad_x, *grad_w;  // (B, I) and (O, I), zero before; either may be null

  // Any p. Factors are [block][output][grad, distance, 1 / distance][lane], blocks of kSlopeLanes
  // samples; limits [block][output]: below it |x - w| has no slope in any lane.
  const int32_t* order;   // of the samples along the lanes; null for that of the matrix
  PowerPlan plan;         // of p - 1
  const float* scaled_w;  // (O, I)
  int64_t inputs_a_task;
  float *factors, *limits;

  // p = 2^p_squarings. Factors are [row tile][output][sample of the tile].
  int p_squarings;
  float *packed_x, *packed_w, *packed_grad_x, *packed_grad_w;
};

// Samples side by side in lp_distance_backward, whatever the vectors.
constexpr int kSlopeLanes = 16;

// The row of a matrix that is k-th in an order.
inline int64_t row_at(const int32_t* order, int64_t k) { return order == nullptr ? k : order[k]; }

// Samples that squares_backward takes together; packed_x and factors are padded to it.
constexpr int kRowTile = 8;

// Sizes of the numbers in a matrix: the smallest that is not 0 (infinity where there is none) and
// the largest; NaN where one of them is NaN or infinite.
struct Sizes {
  float smallest, largest;
};

// What `run_arithmetic` repeats: the loops at p = infinity and at p = 8.
enum class Arithmetic { kMaximum, kEighthPower };

struct Kernels {
  const char* name;
  int lanes;          // rows side by side in a packed operand
  int squares_lanes;  // inputs side by side in the packed operands of squares_backward
  int table_size;     // exponents in a table of powers
  void (*measure)(const float* source, int64_t columns, int64_t stride, Sizes* sizes, int64_t begin,
                  int64_t end);  // a row; sizes has one entry a row
  // Distances, sums of absolute differences times the scale, of some rows from row `from`.
  void (*distances)(const float* source, int64_t columns, int64_t stride, float scale, int64_t from,
                    const int32_t* rows, float* result, int64_t begin, int64_t end);
  void (*pack)(const float* source, int64_t rows, int64_t columns, int64_t stride,
               const int32_t* order, float scale, float* packed, float* spans, int64_t begin,
               int64_t end);  // a block of `lanes` rows
  void (*linf_distance)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*linf_distance_bounds)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*lp_distance)(const ForwardArgs&, int64_t begin, int64_t end);
  void (*lp_distance_factors)(const BackwardArgs&, int64_t begin,
                              int64_t end);  // kSlopeLanes samples
  void (*lp_distance_backward)(const BackwardArgs&, int64_t begin, int64_t end);  // inputs_a_task
  void (*squares_backward_factors)(const BackwardArgs&, int64_t begin, int64_t end);  // kRowTile
  void (*squares_backward)(const BackwardArgs&, int64_t begin, int64_t end);  // squares_lanes
  const IntegerKernels& (*integers)();                                        // integer_linf.cpp
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
