// max_i |x_i - w_oi|, with the lowest i that reaches it where asked.
//
// Tile: kRows broadcast rows by two vectors of lanes, maxima in registers over all inputs. For the index,
// a tile keeps the chunk of inputs in which the maximum first appeared; the input is then looked up there.
#include "tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = kWidth == 16 ? 8 : 4;
constexpr int kChunk = 64;  // inputs

struct TileMax {
  V value[kRows][kVectors];
};

__attribute__((always_inline)) inline TileMax largest_differences(const float* packed,
                                                                  const float* const* rows,
                                                                  int64_t begin, int64_t end) {
  TileMax max;
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) max.value[r][v] = all(0.0f);
  }
  for (int64_t i = begin; i < end; ++i) {
    V lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) lanes[v] = load(packed + i * kLanes + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const V row = all(rows[r][i]);
      for (int v = 0; v < kVectors; ++v) {
        max.value[r][v] = max_abs(max.value[r][v], lanes[v] - row);
      }
    }
  }
  return max;
}

void row_pointers(const ForwardArgs& a, const int64_t* rows, const float** pointers) {
  for (int r = 0; r < kRows; ++r) pointers[r] = a.broadcast + rows[r] * a.broadcast_stride;
}

void store_max(const TileMax& max, float* result) {
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(result + r * kLanes + v * kWidth, max.value[r][v]);
  }
}

// Lowest input in [begin, end) at which |x - w| is `value`.
int32_t find_input(const float* x, const float* w, float value, int64_t begin, int64_t end) {
  const V wanted = all(value);
  int64_t i = begin;
  for (; i + kWidth <= end; i += kWidth) {
    const uint32_t hits = equal_bits(abs(load(x + i) - load(w + i)), wanted);
    if (hits != 0) return static_cast<int32_t>(i + __builtin_ctz(hits));
  }
  for (; i < end; ++i) {
    if (__builtin_fabsf(x[i] - w[i]) == value) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(begin);
}

void distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  for_each_tile<kRows>(a, begin, end, [&](const float* packed, const int64_t* rows, TilePlace place) {
    const float* pointers[kRows];
    row_pointers(a, rows, pointers);
    float result[kRows * kLanes];
    store_max(largest_differences(packed, pointers, 0, a.problem.num_inputs), result);
    store_tile(a, place, result, a.out);
  });
}

void find_inputs(const ForwardArgs& a, const TilePlace& place, const float* value,
                 const float* chunk) {
  const Problem& problem = a.problem;
  for (int lane = 0; lane < place.num_lanes; ++lane) {
    for (int r = 0; r < place.num_rows; ++r) {
      const int64_t lane_row = place.lane_begin + lane, row = place.row_begin + r;
      const int64_t sample = a.batch_lanes ? lane_row : row;
      const int64_t output = a.batch_lanes ? row : lane_row;
      const int64_t first = static_cast<int64_t>(chunk[r * kLanes + lane]) * kChunk;
      const int64_t last =
          first + kChunk < problem.num_inputs ? first + kChunk : problem.num_inputs;
      a.argmax[sample * problem.out_stride + output] =
          find_input(problem.x + sample * problem.x_stride,
                     problem.w + output * problem.num_inputs, value[r * kLanes + lane], first, last);
    }
  }
}

void distance_argmax(const ForwardArgs& a, int64_t begin, int64_t end) {
  const int64_t num_inputs = a.problem.num_inputs;
  for_each_tile<kRows>(a, begin, end, [&](const float* packed, const int64_t* rows, TilePlace place) {
    const float* pointers[kRows];
    row_pointers(a, rows, pointers);
    V best[kRows][kVectors], best_chunk[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) best[r][v] = all(-1.0f);
    }
    for (int64_t i = 0; i < num_inputs; i += kChunk) {
      const int64_t chunk_end = i + kChunk < num_inputs ? i + kChunk : num_inputs;
      const TileMax max = largest_differences(packed, pointers, i, chunk_end);
      const V chunk = all(static_cast<float>(i / kChunk));
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) {
          // Strictly greater: an equal maximum in a later chunk does not take over.
          best_chunk[r][v] = select_gt(max.value[r][v], best[r][v], chunk, best_chunk[r][v]);
          best[r][v] = select_gt(max.value[r][v], best[r][v], max.value[r][v], best[r][v]);
        }
      }
    }
    float value[kRows * kLanes], chunk[kRows * kLanes];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        store(value + r * kLanes + v * kWidth, best[r][v]);
        store(chunk + r * kLanes + v * kWidth, best_chunk[r][v]);
      }
    }
    store_tile(a, place, value, a.out);
    find_inputs(a, place, value, chunk);
  });
}

}  // namespace

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  if (a.argmax != nullptr) {
    distance_argmax(a, begin, end);
  } else {
    distance(a, begin, end);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
