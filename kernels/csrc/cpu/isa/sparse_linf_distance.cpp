// Distances to weights in compressed rows: max(floor_o, max over edges of |x - w|), and the
// smallest and largest over a box.
//
// A task transposes its samples to block[input][lane], so that an edge reads one run of memory for
// all of them: no gathers. Few samples are taken one by one instead, edge by edge.
#include "host/sparse_kernels.h"
#include "isa/lanes.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int64_t kFewSamples = 8;  // below this, padding costs more than gathering
constexpr int kPassVectors = kVectorBytes == 16 ? 4 : kSparseBlockBytes / kVectorBytes;
constexpr int64_t kStoreRows = 16;  // outputs that are transposed back together

template <class T>
constexpr int kLanesOf = sparse_task_samples<T>();

// Samples of a task, transposed: block[input][lane], the last sample repeated.
template <class T>
class Block {
 public:
  Block(const T* x, int64_t num_samples, int64_t num_inputs)
      : data_(new T[num_inputs * kLanesOf<T>]) {
    constexpr int64_t kStrip = 16;  // inputs: their part of the block stays in the L1 cache
    for (int64_t first = 0; first < num_inputs; first += kStrip) {
      const int64_t last = first + kStrip < num_inputs ? first + kStrip : num_inputs;
      for (int64_t lane = 0; lane < kLanesOf<T>; ++lane) {
        const T* from = x + (lane < num_samples ? lane : num_samples - 1) * num_inputs;
        for (int64_t i = first; i < last; ++i) data_[i * kLanesOf<T> + lane] = from[i];
      }
    }
  }
  ~Block() { delete[] data_; }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  const T* at(int64_t input, int lane) const { return data_ + input * kLanesOf<T> + lane; }

 private:
  T* data_;
};

// result[kLanesOf<T>] <- distances of all lanes to row o.
template <class T>
void distance_of_row(const SparseRows<T>& rows, const Block<T>& block, int64_t o, T* result) {
  using L = Lanes<T>;
  for (int lane = 0; lane < kLanesOf<T>; lane += kPassVectors * L::kWidth) {
    typename L::VM best[kPassVectors];
    for (auto& v : best) v = L::all_magnitude(L::bits(rows.floor[o]));
    for (int32_t k = rows.starts[o]; k < rows.starts[o + 1]; ++k) {
      const T* x = block.at(rows.columns[k], lane);
      const typename L::V w = L::all(rows.values[k]);
      for (int v = 0; v < kPassVectors; ++v) {
        best[v] = L::max(best[v], L::magnitude(L::load(x + v * L::kWidth) - w));
      }
    }
    for (int v = 0; v < kPassVectors; ++v) L::store(result + lane + v * L::kWidth, best[v]);
  }
}

// The same for the nearest and the farthest point of a box.
template <class T>
void bounds_of_row(const SparseRows<T>& rows, const Block<T>& lower, const Block<T>& upper,
                   int64_t o, T* smallest, T* largest) {
  using L = Lanes<T>;
  constexpr int kVectors = kPassVectors / 2;
  for (int lane = 0; lane < kLanesOf<T>; lane += kVectors * L::kWidth) {
    typename L::VM nearest[kVectors], farthest[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      nearest[v] = farthest[v] = L::all_magnitude(L::bits(rows.floor[o]));
    }
    for (int32_t k = rows.starts[o]; k < rows.starts[o + 1]; ++k) {
      const T *low = lower.at(rows.columns[k], lane), *high = upper.at(rows.columns[k], lane);
      const typename L::V w = L::all(rows.values[k]);
      for (int v = 0; v < kVectors; ++v) {
        const typename L::V above = L::load(low + v * L::kWidth) - w;
        const typename L::V below = w - L::load(high + v * L::kWidth);
        nearest[v] = L::max(nearest[v], L::max(L::positive(above), L::positive(below)));
        farthest[v] = L::max(farthest[v], L::max(L::magnitude(above), L::magnitude(below)));
      }
    }
    for (int v = 0; v < kVectors; ++v) {
      L::store(smallest + lane + v * L::kWidth, L::nan_where_nan(nearest[v], farthest[v]));
      L::store(largest + lane + v * L::kWidth, farthest[v]);
    }
  }
}

// out (B, O) <- result[row][lane] of the rows from `first` on.
template <class T>
void store_rows(const T* result, int64_t first, int64_t num_rows, int64_t num_samples,
                int64_t num_outputs, T* out) {
  for (int64_t lane = 0; lane < num_samples; ++lane) {
    for (int64_t r = 0; r < num_rows; ++r) {
      out[lane * num_outputs + first + r] = result[r * kLanesOf<T> + lane];
    }
  }
}

template <class T>
T magnitude_of(T difference) {
  if constexpr (Lanes<T>::kIsFloat) return __builtin_fabs(difference);
  return difference < 0 ? static_cast<T>(-difference) : difference;
}

// max that keeps NaN once it has one.
template <class T>
T larger(T best, T value) {
  return value > best || value != value ? value : best;
}

template <class T>
T distance_of_sample(const SparseRows<T>& rows, const T* x, int64_t o) {
  T best = rows.floor[o];
  for (int32_t k = rows.starts[o]; k < rows.starts[o + 1]; ++k) {
    best = larger(best, magnitude_of<T>(x[rows.columns[k]] - rows.values[k]));
  }
  return best;
}

template <class T>
void bounds_of_sample(const SparseRows<T>& rows, const T* lower, const T* upper, int64_t o,
                      T* smallest, T* largest) {
  *smallest = *largest = rows.floor[o];
  for (int32_t k = rows.starts[o]; k < rows.starts[o + 1]; ++k) {
    const T above = lower[rows.columns[k]] - rows.values[k];
    const T below = rows.values[k] - upper[rows.columns[k]];
    *smallest = larger(*smallest, larger(above, below));
    *largest = larger(*largest, larger(magnitude_of(above), magnitude_of(below)));
  }
  if (*largest != *largest) *smallest = *largest;
}

// Lowest edge of row o whose difference is `distance` (or is NaN where that is); -1 for the floor.
template <class T>
int32_t deciding_edge(const SparseRows<T>& rows, const T* x, int64_t o, T distance) {
  if (rows.floor[o] == distance) return -1;
  for (int32_t k = rows.starts[o]; k < rows.starts[o + 1]; ++k) {
    const T size = magnitude_of<T>(x[rows.columns[k]] - rows.values[k]);
    if (size == distance || size != size) return k;
  }
  return -1;
}

template <class T>
struct Share {  // of a task: its samples
  Share(const SparseProblem<T>& a, int64_t task)
      : first(task * kLanesOf<T>),
        count(a.num_samples - first < kLanesOf<T> ? a.num_samples - first : kLanesOf<T>),
        in(first * a.rows.num_inputs),
        out(first * a.rows.num_outputs) {}
  int64_t first, count, in, out;
};

template <class T>
void distance_task(const SparseProblem<T>& a, const Share<T>& share) {
  const SparseRows<T>& rows = a.rows;
  if (share.count < kFewSamples) {
    for (int64_t b = 0; b < share.count; ++b) {
      const T* x = a.x + share.in + b * rows.num_inputs;
      T* out = a.out + share.out + b * rows.num_outputs;
      for (int64_t o = 0; o < rows.num_outputs; ++o) out[o] = distance_of_sample(rows, x, o);
    }
    return;
  }
  const Block<T> block(a.x + share.in, share.count, rows.num_inputs);
  T result[kStoreRows * kLanesOf<T>];
  for (int64_t first = 0; first < rows.num_outputs; first += kStoreRows) {
    const int64_t left = rows.num_outputs - first, num = left < kStoreRows ? left : kStoreRows;
    for (int64_t r = 0; r < num; ++r) {
      distance_of_row(rows, block, first + r, result + r * kLanesOf<T>);
    }
    store_rows(result, first, num, share.count, rows.num_outputs, a.out + share.out);
  }
}

template <class T>
void find_deciding(const SparseProblem<T>& a, const Share<T>& share) {
  for (int64_t b = 0; b < share.count; ++b) {
    const T* x = a.x + share.in + b * a.rows.num_inputs;
    const int64_t at = share.out + b * a.rows.num_outputs;
    for (int64_t o = 0; o < a.rows.num_outputs; ++o) {
      a.deciding[at + o] = deciding_edge(a.rows, x, o, a.out[at + o]);
    }
  }
}

template <class T>
void bounds_task(const SparseProblem<T>& a, const Share<T>& share) {
  const SparseRows<T>& rows = a.rows;
  if (share.count < kFewSamples) {
    for (int64_t b = 0; b < share.count; ++b) {
      const int64_t in = share.in + b * rows.num_inputs, out = share.out + b * rows.num_outputs;
      for (int64_t o = 0; o < rows.num_outputs; ++o) {
        bounds_of_sample(rows, a.x + in, a.upper + in, o, a.out + out + o, a.out_largest + out + o);
      }
    }
    return;
  }
  const Block<T> lower(a.x + share.in, share.count, rows.num_inputs);
  const Block<T> upper(a.upper + share.in, share.count, rows.num_inputs);
  T smallest[kStoreRows * kLanesOf<T>], largest[kStoreRows * kLanesOf<T>];
  for (int64_t first = 0; first < rows.num_outputs; first += kStoreRows) {
    const int64_t left = rows.num_outputs - first, num = left < kStoreRows ? left : kStoreRows;
    for (int64_t r = 0; r < num; ++r) {
      bounds_of_row(rows, lower, upper, first + r, smallest + r * kLanesOf<T>,
                    largest + r * kLanesOf<T>);
    }
    store_rows(smallest, first, num, share.count, rows.num_outputs, a.out + share.out);
    store_rows(largest, first, num, share.count, rows.num_outputs, a.out_largest + share.out);
  }
}

template <class T>
void distance(const SparseProblem<T>& a, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) {
    const Share<T> share(a, task);
    distance_task(a, share);
    if (a.deciding != nullptr) find_deciding(a, share);
  }
}

template <class T>
void bounds(const SparseProblem<T>& a, int64_t begin, int64_t end) {
  for (int64_t task = begin; task < end; ++task) bounds_task(a, Share<T>(a, task));
}

}  // namespace

const AllSparseKernels& sparse_kernels() {
  static constexpr AllSparseKernels kTable = {{distance<float>, bounds<float>},
                                              {distance<double>, bounds<double>},
                                              {distance<int16_t>, bounds<int16_t>},
                                              {distance<int32_t>, bounds<int32_t>}};
  return kTable;
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
