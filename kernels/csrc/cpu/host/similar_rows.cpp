#include "host/similar_rows.h"

#include <algorithm>
#include <numeric>

#include "host/run.h"

namespace supnorm {
namespace {

// Rows that need no order among themselves.
constexpr int64_t kGroup = kSlopeLanes;

class Halving {
 public:
  Halving(const Matrix& matrix, float scale)
      : matrix_(matrix),
        scale_(scale),
        from_first_(static_cast<size_t>(matrix.rows)),
        from_second_(static_cast<size_t>(matrix.rows)),
        nearness_(static_cast<size_t>(matrix.rows)) {}

  // Two rows far from each other attract the others; each half is halved again.
  void order(int32_t* rows, int64_t count) {
    if (count <= kGroup) return;
    const int32_t first = farthest(rows, count, rows[0], from_first_.data());
    const int32_t second = farthest(rows, count, first, from_first_.data());
    farthest(rows, count, second, from_second_.data());
    for (int64_t k = 0; k < count; ++k) nearness_[rows[k]] = from_first_[k] - from_second_[k];
    const int64_t half = (count / 2 + kGroup - 1) / kGroup * kGroup;
    std::nth_element(rows, rows + half, rows + count, [&](int32_t a, int32_t b) {
      return nearness_[a] != nearness_[b] ? nearness_[a] < nearness_[b] : a < b;
    });
    order(rows, half);
    order(rows + half, count - half);
  }

 private:
  // Sets the rows' distances from `from`; returns the row with the largest.
  int32_t farthest(const int32_t* rows, int64_t count, int64_t from, float* distances) {
    constexpr int64_t kRowsATask = 16;
    const double work = static_cast<double>(count) * static_cast<double>(matrix_.columns);
    parallel((count + kRowsATask - 1) / kRowsATask, work, [&](int64_t begin, int64_t end) {
      kernels().distances(matrix_.data, matrix_.columns, matrix_.stride, scale_, from, rows,
                          distances, begin * kRowsATask, std::min(end * kRowsATask, count));
    });
    return rows[std::max_element(distances, distances + count) - distances];
  }

  const Matrix matrix_;
  const float scale_;
  std::vector<float> from_first_, from_second_, nearness_;
};

}  // namespace

std::vector<int32_t> similar_rows(const Matrix& matrix, float scale) {
  std::vector<int32_t> rows(static_cast<size_t>(matrix.rows));
  std::iota(rows.begin(), rows.end(), 0);
  Halving(matrix, scale).order(rows.data(), matrix.rows);
  return rows;
}

}  // namespace supnorm
