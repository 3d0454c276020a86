// max_i |x_i - w_oi| of integers, and its smallest and largest value over a box of samples.
//
// Outputs lie along the lanes, a sample is broadcast, maxima stay in registers. The compiler's
// vector types give packed subtract, absolute value and maximum on every instruction set: 16 bits
// hold twice the lanes of float32 at the same three instructions an element.
#include "host/integers.h"
#include "host/kernels.h"
#include "isa/lanes.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

template <class T>
using Vector = typename Lanes<T>::V;
template <class T>
constexpr int kWidthOf = Lanes<T>::kWidth;

template <class V>
inline V max(V a, V b) {
  return a > b ? a : b;
}
template <class V>
inline V min(V a, V b) {
  return a < b ? a : b;
}

// Some samples against a group of vectors of outputs.
template <class T>
struct Tile {
  const T* packed;       // of the first vector
  int64_t first_output;  // of its first lane
  int64_t row;
  int num_rows;  // no more than the tile has; past the end the last sample is taken again
};

template <class T>
int64_t row_of(const Tile<T>& tile, int r) {
  return tile.row + (r < tile.num_rows ? r : tile.num_rows - 1);
}

template <class T, int kVectors>
void store_row(const IntegerArgs<T>& a, const Tile<T>& tile, int r, const Vector<T>* values,
               T* out) {
  if (r >= tile.num_rows) return;
  const int64_t left = a.problem.num_outputs - tile.first_output;
  const int64_t count = left < kVectors * kWidthOf<T> ? left : kVectors * kWidthOf<T>;
  __builtin_memcpy(out + (tile.row + r) * a.problem.out_stride + tile.first_output, values,
                   static_cast<uint64_t>(count) * sizeof(T));
}

template <class T>
struct Distance {
  static constexpr int kRows = 4;

  template <int kVectors>
  static __attribute__((noinline)) void run(const IntegerArgs<T>& a, const Tile<T>& tile) {
    using V = Vector<T>;
    const int64_t n = a.problem.num_inputs;
    const T* rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = a.problem.x + row_of(tile, r) * a.problem.x_stride;
    V largest[kRows][kVectors] = {};
    for (int64_t i = 0; i < n; ++i) {
      V w[kVectors];
      for (int v = 0; v < kVectors; ++v)
        w[v] = Lanes<T>::load(tile.packed + (v * n + i) * kWidthOf<T>);
      for (int r = 0; r < kRows; ++r) {
        const V x = V{} + rows[r][i];
        for (int v = 0; v < kVectors; ++v) largest[r][v] = max(largest[r][v], absolute(w[v] - x));
      }
    }
    for (int r = 0; r < kRows; ++r) store_row<T, kVectors>(a, tile, r, largest[r], a.out);
  }
};

template <class T>
struct Bounds {
  static constexpr int kRows = 1;  // four extremes of each vector

  template <int kVectors>
  static __attribute__((noinline)) void run(const IntegerArgs<T>& a, const Tile<T>& tile) {
    using V = Vector<T>;
    const int64_t n = a.problem.num_inputs;
    const T* lower = a.problem.x + tile.row * a.problem.x_stride;
    const T* upper = a.upper + tile.row * a.problem.x_stride;
    V max_lower[kVectors], min_lower[kVectors], max_upper[kVectors], min_upper[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const V w = Lanes<T>::load(tile.packed + v * n * kWidthOf<T>);
      max_lower[v] = min_lower[v] = lower[0] - w;
      max_upper[v] = min_upper[v] = upper[0] - w;
    }
    for (int64_t i = 1; i < n; ++i) {
      const V low = V{} + lower[i], high = V{} + upper[i];
      for (int v = 0; v < kVectors; ++v) {
        const V w = Lanes<T>::load(tile.packed + (v * n + i) * kWidthOf<T>);
        max_lower[v] = max(max_lower[v], low - w);
        min_lower[v] = min(min_lower[v], low - w);
        max_upper[v] = max(max_upper[v], high - w);
        min_upper[v] = min(min_upper[v], high - w);
      }
    }
    V smallest[kVectors], largest[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      smallest[v] = max(max(max_lower[v], -min_upper[v]), V{});
      largest[v] = max(max(max_upper[v], -min_lower[v]), V{});
    }
    store_row<T, kVectors>(a, tile, 0, smallest, a.out);
    store_row<T, kVectors>(a, tile, 0, largest, a.out_largest);
  }
};

template <class T, class Operator>
void run_tasks(const IntegerArgs<T>& a, int64_t begin, int64_t end) {
  const PlainProblem<T>& p = a.problem;
  const int64_t num_vectors = (p.num_outputs + kWidthOf<T> - 1) / kWidthOf<T>;
  const int64_t row_blocks = (p.num_rows + kIntegerRows - 1) / kIntegerRows;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task / row_blocks * kIntegerVectors;
    const int64_t last_row = min((task % row_blocks + 1) * kIntegerRows, p.num_rows);
    for (int64_t row = task % row_blocks * kIntegerRows; row < last_row; row += Operator::kRows) {
      const int num_rows = static_cast<int>(min<int64_t>(last_row - row, Operator::kRows));
      const auto tile_at = [&](int64_t vector) {
        return Tile<T>{a.packed + vector * p.num_inputs * kWidthOf<T>, vector * kWidthOf<T>, row,
                       num_rows};
      };
      if (first + kIntegerVectors <= num_vectors) {
        Operator::template run<kIntegerVectors>(a, tile_at(first));
        continue;
      }
      for (int64_t v = first; v < num_vectors; ++v) Operator::template run<1>(a, tile_at(v));
    }
  }
}

template <class T>
constexpr IntegerOperators<T> kOperators = {run_tasks<T, Distance<T>>, run_tasks<T, Bounds<T>>};

}  // namespace

const IntegerKernels& integer_kernels() {
  static constexpr IntegerKernels kTable = {kVectorBytes, kOperators<int16_t>, kOperators<int32_t>};
  return kTable;
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
