// An order of a matrix's rows in which neighbours are similar.
#pragma once

#include <stdint.h>

#include <vector>

namespace supnorm {

struct Matrix {
  const float* data;
  int64_t rows, columns, stride;
};

// The narrower the range that a block of lanes spans, the fewer inputs can matter to it
// (candidates.h). Rows times the scale are far from overflow.
std::vector<int32_t> similar_rows(const Matrix& matrix, float scale);

}  // namespace supnorm
