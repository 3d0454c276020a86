#include "host/operands.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace supnorm {

Workspace& workspace() {
  static thread_local Workspace own;
  return own;
}

Sizes sizes_of(const float* source, int64_t rows, int64_t columns, int64_t stride) {
  constexpr int64_t kRowsATask = 16;
  std::vector<Sizes> sizes(static_cast<size_t>(rows));
  const double work = static_cast<double>(rows) * static_cast<double>(columns);
  parallel(blocks(rows, kRowsATask), work, [&](int64_t begin, int64_t end) {
    kernels().measure(source, columns, stride, sizes.data(), begin * kRowsATask,
                      std::min(end * kRowsATask, rows));
  });
  Sizes all = {INFINITY, 0.0f};
  for (const Sizes& one : sizes) {
    all.smallest = std::min(all.smallest, one.smallest);
    all.largest = one.largest > all.largest || std::isnan(one.largest) ? one.largest : all.largest;
    if (std::isnan(all.largest)) break;
  }
  return all;
}

float largest_difference_bound(const float* x, const Problem& a) {
  return sizes_of(x, a.num_rows, a.num_inputs, a.x_stride).largest +
         sizes_of(a.w, a.num_outputs, a.num_inputs, a.num_inputs).largest;
}

float choose_scale(float largest, int lowest, int exponent) {
  if (largest == 0) return 1.0f;
  if (largest <= std::ldexp(1.0f, exponent) && largest >= std::ldexp(1.0f, lowest)) return 1.0f;
  const int shift = exponent - 1 - std::ilogb(largest);
  return std::ldexp(1.0f, std::min(std::max(shift, -120), 120));
}

int squarings_of(double p) {
  for (int k = 1; k <= 4; ++k) {
    if (p == static_cast<double>(1 << k)) return k;
  }
  return 0;
}

const float* scaled_copy(const float* source, int64_t rows, int64_t columns, int64_t stride,
                         float scale) {
  float* copy = workspace().take(rows * columns);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < columns; ++c) {
      copy[row * columns + c] = source[row * stride + c] * scale;
    }
  }
  return copy;
}

}  // namespace supnorm
