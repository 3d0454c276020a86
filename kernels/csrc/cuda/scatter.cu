// Gradients at p = infinity: whole gradients of outputs go to single inputs.
//
// A warp owns a window of one line of the result: of a sample's row of grad_x, or an output's row
// of grad_w. It takes the entries that may fall there in ascending order, 32 at a time; lanes that
// hit the same cell are added up by the lowest of them. So every sum has a fixed order, and nothing
// is atomic.
#include "device.h"

namespace supnorm {

constexpr int kWarp = 32;
constexpr int kWindow = 2048;  // cells

struct ScatterArgs {
  const float *grad, *x, *w;    // (B, out_stride), (B, x_stride), (all outputs, I)
  const int* index;             // deciding inputs, (B, out_stride)
  float* result;                // (B, x_stride) or (all outputs, I)
  int64 rows, outputs, inputs;  // outputs and inputs of a group
  int64 x_stride, out_stride;
};

struct Entry {
  int64 cell;  // -1: none
  float value;
};

// What the pair (row, output) adds to grad_x, and with the sign changed to grad_w.
SUPNORM_DEVICE Entry entry_of_pair(const ScatterArgs& a, int64 row, int64 output) {
  const int64 at = row * a.out_stride + output;
  const int i = a.index[at];
  const float t =
      a.x[row * a.x_stride + output / a.outputs * a.inputs + i] - a.w[output * a.inputs + i];
  const float sign = t > 0 ? 1.0f : t < 0 ? -1.0f : t;
  return {i, a.grad[at] * sign};
}

// Entry k of a line: outputs of a sample or, for weights, samples of an output.
template <bool kIsWeight>
SUPNORM_DEVICE Entry entry_of(const ScatterArgs& a, int64 line, int64 k) {
  const int64 row = kIsWeight ? k : line, output = kIsWeight ? line : k;
  Entry entry = entry_of_pair(a, row, output);
  if (kIsWeight) {
    entry.value = -entry.value;
  } else {
    entry.cell += output / a.outputs * a.inputs;
  }
  return entry;
}

// The sum of the values of all lanes with this cell, for the lowest of them.
SUPNORM_DEVICE float sum_of_peers(unsigned peers, float value) {
  const int lane = threadIdx.x % kWarp;
  const bool is_leader = lowest_bit(peers) == lane;
  unsigned rest = is_leader ? peers & (peers - 1) : 0;
  float sum = value;
  while (vote(rest != 0) != 0) {
    const float other = shuffle_from(value, rest != 0 ? lowest_bit(rest) : lane);
    if (rest != 0) sum += other;
    rest &= rest - 1;
  }
  return sum;
}

// Block (line, window).
template <bool kIsWeight>
__global__ void __launch_bounds__(kWarp) scatter(const ScatterArgs a) {
  float* window = shared_memory();
  const int lane = threadIdx.x;
  const int64 line = blockIdx.x, first = static_cast<int64>(blockIdx.y) * kWindow;
  const int64 length = kIsWeight ? a.inputs : a.x_stride;
  const int64 entries = kIsWeight ? a.rows : a.out_stride;
  for (int cell = lane; cell < kWindow; cell += kWarp) window[cell] = 0.0f;
  sync_warp();
  for (int64 start = 0; start < entries; start += kWarp) {
    Entry entry = {-1, 0.0f};
    if (start + lane < entries) entry = entry_of<kIsWeight>(a, line, start + lane);
    const bool is_here = entry.cell >= first && entry.cell < first + kWindow;
    if (vote(is_here) == 0) continue;
    const int cell = is_here ? static_cast<int>(entry.cell - first) : -1 - lane;
    const unsigned peers = lanes_with(cell);
    const float sum = sum_of_peers(peers, entry.value);
    if (is_here && lowest_bit(peers) == lane) window[cell] += sum;
    sync_warp();
  }
  for (int cell = lane; cell < kWindow && first + cell < length; cell += kWarp) {
    a.result[line * length + first + cell] = window[cell];
  }
}

}  // namespace supnorm
