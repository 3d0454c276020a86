// The table of one instruction set's kernels, and the packing that its forward kernels share.
#include "pack.h"

namespace supnorm {
namespace SUPNORM_ISA {

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void linf_distance_bounds(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end);
void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end);
void squares_backward_factors(const BackwardArgs& a, int64_t begin, int64_t end);
void squares_backward(const BackwardArgs& a, int64_t begin, int64_t end);
const IntegerKernels& integer_kernels();
const AllSparseKernels& sparse_kernels();

namespace {

void pack(const float* source, int64_t rows, int64_t columns, int64_t stride, float scale,
          float* packed, float* spans, int64_t begin, int64_t end) {
  for (int64_t block = begin; block < end; ++block) {
    float* low = spans + block * 2 * columns;
    pack_block(source, rows, columns, stride, scale, block, packed + block * columns * kLanes, low,
               low + columns);
  }
}

constexpr Kernels kTable = {SUPNORM_ISA_NAME,
                            kLanes,
                            kWidth,
                            kTableSize,
                            pack,
                            linf_distance,
                            linf_distance_bounds,
                            lp_distance,
                            lp_distance_factors,
                            lp_distance_backward,
                            squares_backward_factors,
                            squares_backward,
                            integer_kernels,
                            sparse_kernels};

}  // namespace
}  // namespace SUPNORM_ISA

#define SUPNORM_JOIN_(a, b) a##b
#define SUPNORM_JOIN(a, b) SUPNORM_JOIN_(a, b)
const Kernels& SUPNORM_JOIN(kernels_, SUPNORM_ISA)() { return SUPNORM_ISA::kTable; }

}  // namespace supnorm
