// A stack of sparse distance layers in one call: y = max(floor, max over edges of |x - w|) -
// offset, layer after layer, for whole numbers.
//
// Many samples: a task keeps a block of them transposed, block[input][lane], through all layers, so
// nothing is gathered and nothing leaves the L2 cache. Few samples: kSliceRows outputs lie along
// the lanes and each step loads one input for every one of them. Loads one by one beat the gather
// instruction here (5.1 against 6.6 us for 15,700 edges on Zen 4, 2026-11-21).
#include "host/sparse_kernels.h"
#include "isa/lanes.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int64_t kFewSamples = 16;
constexpr int kPassVectors = kVectorBytes == 16 ? 4 : kSparseBlockBytes / kVectorBytes;

template <class T>
constexpr int64_t kLanesOf = sparse_task_samples<T>();

// Two layers' worth of activations, and who reads and who writes.
template <class T>
class Activations {
 public:
  Activations(int64_t most_neurons, int64_t lanes)
      : lanes_(lanes), data_(new T[2 * most_neurons * lanes]) {
    from = data_;
    to = data_ + most_neurons * lanes;
  }
  ~Activations() { delete[] data_; }
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  // The input behind the last one is 0: rows without edges look at it.
  void set_sentinel(int64_t num_inputs) {
    for (int64_t lane = 0; lane < lanes_; ++lane) from[num_inputs * lanes_ + lane] = 0;
  }
  void swap() {
    T* other = from;
    from = to;
    to = other;
  }
  T *from, *to;

 private:
  int64_t lanes_;
  T* data_;
};

template <class T>
T entered(const SparseStack<T>& a, int64_t sample, int64_t input) {
  const int64_t at = sample * a.widths[0] + input;
  return a.pixels == nullptr ? a.x[at] : static_cast<T>(a.pixels[at] << a.shift);
}

template <class T>
int64_t most_neurons(const SparseStack<T>& a) {
  int64_t most = 0;
  for (int64_t n = 0; n <= a.num_layers; ++n) most = a.widths[n] > most ? a.widths[n] : most;
  return most + kSliceRows + 1;
}

// One sample through a slice: outputs along the lanes.
template <class T>
void slice_of_sample(const SparseStack<T>& a, int64_t slice, const T* x, T* y) {
  typedef T V __attribute__((vector_size(kSliceRows * sizeof(T))));
  V best, offset;
  __builtin_memcpy(&best, a.floor + slice * kSliceRows, sizeof best);
  __builtin_memcpy(&offset, a.offset + slice * kSliceRows, sizeof offset);
  for (int64_t k = a.starts[slice]; k < a.starts[slice + 1]; ++k) {
    const int16_t* c = a.columns + k * kSliceRows;
    const V taken = {x[c[0]], x[c[1]], x[c[2]],  x[c[3]],  x[c[4]],  x[c[5]],  x[c[6]],  x[c[7]],
                     x[c[8]], x[c[9]], x[c[10]], x[c[11]], x[c[12]], x[c[13]], x[c[14]], x[c[15]]};
    V w;
    __builtin_memcpy(&w, a.values + k * kSliceRows, sizeof w);
    const V d = taken - w, size = d > -d ? d : -d;
    best = best > size ? best : size;
  }
  best -= offset;
  __builtin_memcpy(y + slice * kSliceRows, &best, sizeof best);
}

template <class T>
void few_samples(const SparseStack<T>& a, int64_t begin, int64_t end) {
  Activations<T> neurons(most_neurons(a), 1);
  for (int64_t sample = begin; sample < end; ++sample) {
    for (int64_t i = 0; i < a.widths[0]; ++i) neurons.from[i] = entered(a, sample, i);
    int64_t first = 0;
    for (int64_t n = 0; n < a.num_layers; ++n) {
      neurons.set_sentinel(a.widths[n]);
      const int64_t slices = num_slices(a.widths[n + 1]);
      T* y = neurons.to - first * kSliceRows;
      for (int64_t s = first; s < first + slices; ++s) slice_of_sample(a, s, neurons.from, y);
      first += slices;
      neurons.swap();
    }
    const int64_t last = a.widths[a.num_layers];
    for (int64_t o = 0; o < last; ++o) a.out[sample * last + o] = neurons.from[o];
  }
}

// A block of samples through one row of a slice: samples along the lanes.
template <class T>
void row_of_block(const SparseStack<T>& a, int64_t slice, int64_t row, const T* x, T* y) {
  using L = Lanes<T>;
  const int64_t at = slice * kSliceRows + row;
  for (int64_t lane = 0; lane < kLanesOf<T>; lane += kPassVectors * L::kWidth) {
    typename L::VM best[kPassVectors];
    for (auto& v : best) v = L::all(a.floor[at]);
    for (int64_t k = a.starts[slice]; k < a.starts[slice + 1]; ++k) {
      const T* from = x + a.columns[k * kSliceRows + row] * kLanesOf<T> + lane;
      const typename L::V w = L::all(a.values[k * kSliceRows + row]);
      for (int v = 0; v < kPassVectors; ++v) {
        best[v] = L::max(best[v], L::magnitude(L::load(from + v * L::kWidth) - w));
      }
    }
    const typename L::V offset = L::all(a.offset[at]);
    for (int v = 0; v < kPassVectors; ++v) L::store(y + lane + v * L::kWidth, best[v] - offset);
  }
}

template <class T>
void enter_block(const SparseStack<T>& a, int64_t first, int64_t count, T* block) {
  constexpr int64_t kStrip = 16;  // inputs: their part of the block stays in the L1 cache
  for (int64_t begin = 0; begin < a.widths[0]; begin += kStrip) {
    const int64_t end = begin + kStrip < a.widths[0] ? begin + kStrip : a.widths[0];
    for (int64_t lane = 0; lane < kLanesOf<T>; ++lane) {
      const int64_t sample = first + (lane < count ? lane : count - 1);
      for (int64_t i = begin; i < end; ++i) block[i * kLanesOf<T> + lane] = entered(a, sample, i);
    }
  }
}

template <class T>
void block_of_samples(const SparseStack<T>& a, int64_t first, int64_t count,
                      Activations<T>& neurons) {
  enter_block(a, first, count, neurons.from);
  int64_t slice = 0;
  for (int64_t n = 0; n < a.num_layers; ++n) {
    neurons.set_sentinel(a.widths[n]);
    const int64_t outputs = a.widths[n + 1];
    for (int64_t o = 0; o < outputs; ++o) {
      row_of_block(a, slice + o / kSliceRows, o % kSliceRows, neurons.from,
                   neurons.to + o * kLanesOf<T>);
    }
    slice += num_slices(outputs);
    neurons.swap();
  }
  const int64_t last = a.widths[a.num_layers];
  for (int64_t lane = 0; lane < count; ++lane) {
    for (int64_t o = 0; o < last; ++o) {
      a.out[(first + lane) * last + o] = neurons.from[o * kLanesOf<T> + lane];
    }
  }
}

template <class T>
void stack(const SparseStack<T>& a, int64_t begin, int64_t end) {
  const int64_t first = begin * kLanesOf<T>;
  const int64_t last = end * kLanesOf<T> < a.num_samples ? end * kLanesOf<T> : a.num_samples;
  if (last - first < kFewSamples) return few_samples(a, first, last);
  Activations<T> neurons(most_neurons(a), kLanesOf<T>);
  for (int64_t sample = first; sample < last; sample += kLanesOf<T>) {
    const int64_t left = last - sample;
    block_of_samples(a, sample, left < kLanesOf<T> ? left : kLanesOf<T>, neurons);
  }
}

}  // namespace

const SparseStackKernels& sparse_stack_kernels() {
  static constexpr SparseStackKernels kTable = {stack<int16_t>, stack<int32_t>};
  return kTable;
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
