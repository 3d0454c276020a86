// The table of one instruction set's kernels, and the packing that the forward kernels share.
#include "tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void linf_distance_bounds(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance(const ForwardArgs& a, int64_t begin, int64_t end);
void lp_distance_factors(const BackwardArgs& a, int64_t begin, int64_t end);
void lp_distance_backward(const BackwardArgs& a, int64_t begin, int64_t end);

namespace {

// Blocks of kLanes rows to packed[block][column][lane]. Columns go by in strips that fit the L1 cache.
void pack(const float* source, int64_t rows, int64_t columns, int64_t stride, float scale,
          float* packed, int64_t begin, int64_t end) {
  constexpr int64_t kStrip = 16;
  for (int64_t block = begin; block < end; ++block) {
    float* target = packed + block * columns * kLanes;
    for (int64_t first = 0; first < columns; first += kStrip) {
      const int64_t last = first + kStrip < columns ? first + kStrip : columns;
      for (int lane = 0; lane < kLanes; ++lane) {
        const int64_t row = block * kLanes + lane;
        const float* from = source + row * stride;
        for (int64_t c = first; c < last; ++c) {
          target[c * kLanes + lane] = row < rows ? from[c] * scale : 0.0f;
        }
      }
    }
  }
}

constexpr Kernels kTable = {SUPNORM_ISA_NAME,      kLanes,        kWidth,      8,
                            pack,                  linf_distance, linf_distance_bounds,
                            lp_distance,           lp_distance_factors,
                            lp_distance_backward};

}  // namespace
}  // namespace SUPNORM_ISA

#define SUPNORM_JOIN_(a, b) a##b
#define SUPNORM_JOIN(a, b) SUPNORM_JOIN_(a, b)
const Kernels& SUPNORM_JOIN(kernels_, SUPNORM_ISA)() { return SUPNORM_ISA::kTable; }

}  // namespace supnorm
