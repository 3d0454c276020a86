// max_i |x_i - w_oi|, with the lowest i that reaches it where asked.
//
// Dense: kRows broadcast rows by kVectors vectors of lanes at a time, maxima in registers over all
// inputs. For the index a tile keeps the chunk of inputs in which the maximum first appeared, and
// looks it up there. Sparse: per broadcast row only the inputs that can reach the maximum of some
// lane (candidates.h). A task counts the candidates of a few of its rows and takes what costs less;
// both give the same bits.
#include "sparse.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = kHasManyRegisters ? 6 : 2;
constexpr int kStoreRows = 8;  // rows of the sparse kernel that are stored together
constexpr int kChunk = 64;     // inputs

// Share of candidates up to which looking for them pays; measured on random and on trained weights.
constexpr double kSparseShare = 0.25;

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
        max.value[r][v] = max_abs(max.value[r][v], difference(lanes[v], row));
      }
    }
  }
  return max;
}

void store_vectors(const V (*values)[kVectors], float* result) {
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(result + r * kLanes + v * kWidth, values[r][v]);
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

void find_inputs(const ForwardArgs& a, const TilePlace& place, const float* value,
                 const float* chunk) {
  const Problem& problem = a.problem;
  for (int lane = 0; lane < place.num_lanes; ++lane) {
    for (int r = 0; r < place.num_rows; ++r) {
      const Pair pair = pair_at(a, place, lane, r);
      const int64_t first = static_cast<int64_t>(chunk[r * kLanes + lane]) * kChunk;
      const int64_t last =
          first + kChunk < problem.num_inputs ? first + kChunk : problem.num_inputs;
      a.argmax[pair.sample * problem.out_stride + pair.output] = find_input(
          problem.x + pair.sample * problem.x_stride, problem.w + pair.output * problem.num_inputs,
          value[r * kLanes + lane], first, last);
    }
  }
}

__attribute__((noinline)) void dense_tile(const ForwardArgs& a, const float* packed,
                                          const float* const* rows, const TilePlace& place) {
  float result[kRows * kLanes];
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    const TileMax max = largest_differences(packed + lane, rows, 0, a.problem.num_inputs);
    store_vectors(max.value, result + lane);
  }
  store_tile(a, place, result, a.out);
}

// Maxima of a pass of lanes and the chunk of inputs in which each appeared first.
__attribute__((noinline)) void largest_and_chunk(const float* packed, const float* const* rows,
                                                 int64_t num_inputs, float* value, float* chunk) {
  V best[kRows][kVectors], best_chunk[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) best[r][v] = best_chunk[r][v] = all(-1.0f);
  }
  for (int64_t i = 0; i < num_inputs; i += kChunk) {
    const int64_t chunk_end = i + kChunk < num_inputs ? i + kChunk : num_inputs;
    const TileMax max = largest_differences(packed, rows, i, chunk_end);
    const V index = all(static_cast<float>(i / kChunk));
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        // Strictly greater: an equal maximum in a later chunk does not take over.
        best_chunk[r][v] = select_gt(max.value[r][v], best[r][v], index, best_chunk[r][v]);
        best[r][v] = SUPNORM_ISA::max(max.value[r][v], best[r][v]);
      }
    }
  }
  store_vectors(best, value);
  store_vectors(best_chunk, chunk);
}

void dense_tile_argmax(const ForwardArgs& a, const float* packed, const float* const* rows,
                       const TilePlace& place) {
  float value[kRows * kLanes], chunk[kRows * kLanes];
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    largest_and_chunk(packed + lane, rows, a.problem.num_inputs, value + lane, chunk + lane);
  }
  store_tile(a, place, value, a.out);
  find_inputs(a, place, value, chunk);
}

void dense_task(const ForwardArgs& a, const Task& task) {
  const float* packed = lane_block(a, task.block).packed;
  for_each_tile<kRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
    const float* pointers[kRows];
    for (int r = 0; r < kRows; ++r) pointers[r] = a.broadcast + rows[r] * a.broadcast_stride;
    if (a.argmax != nullptr) {
      dense_tile_argmax(a, packed, pointers, place);
    } else {
      dense_tile(a, packed, pointers, place);
    }
  });
}

// Maxima over the listed inputs and the first of the list that reaches each, for a pass of lanes.
__attribute__((noinline)) void first_largest_of_list(const float* packed, const float* row,
                                                     const int32_t* list, int64_t count,
                                                     float* value, float* input) {
  V best[kVectors], best_input[kVectors];
  for (int v = 0; v < kVectors; ++v) best[v] = best_input[v] = all(-1.0f);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = list[k];
    const V r = all(row[i]), index = from_bits(all_int(list[k]));
    for (int v = 0; v < kVectors; ++v) {
      const V size = abs(difference(load(packed + i * kLanes + v * kWidth), r));
      best_input[v] = select_gt(size, best[v], index, best_input[v]);
      best[v] = max(best[v], size);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    store(value + v * kWidth, best[v]);
    store(input + v * kWidth, best_input[v]);
  }
}

void sparse_row(const LaneBlock& block, const float* row, const int32_t* list, int64_t count,
                float* value) {
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    V max[kVectors];
    for (int v = 0; v < kVectors; ++v) max[v] = all(0.0f);
    largest_of_list(block, lane, row, list, count, max);
    for (int v = 0; v < kVectors; ++v) store(value + lane + v * kWidth, max[v]);
  }
}

int64_t candidates_of(const ForwardArgs& a, const LaneBlock& block, const float* row,
                      int32_t* list) {
  const int64_t n = a.problem.num_inputs;
  return list_candidates(block.span, row, n, maximum_at_least(block, row, n), list);
}

void sparse_task(const ForwardArgs& a, const Task& task, int32_t* list) {
  const LaneBlock block = lane_block(a, task.block);
  for_each_tile<kStoreRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
    float value[kStoreRows * kLanes], input[kStoreRows * kLanes];
    for (int r = 0; r < place.num_rows; ++r) {
      const float* row = a.broadcast + rows[r] * a.broadcast_stride;
      const int64_t count = candidates_of(a, block, row, list);
      if (a.argmax == nullptr) {
        sparse_row(block, row, list, count, value + r * kLanes);
        continue;
      }
      for (int lane = 0; lane < kLanes; lane += kPassLanes) {
        first_largest_of_list(block.packed + lane, row, list, count, value + r * kLanes + lane,
                              input + r * kLanes + lane);
      }
    }
    store_tile(a, place, value, a.out);
    if (a.argmax != nullptr) store_tile_bits(a, place, input, a.argmax);
  });
}

bool is_sparse(const ForwardArgs& a, const Task& task, int32_t* list) {
  constexpr int kSamples = 3;
  const int64_t count = task.last_row - task.first_row;
  if (count < 2 * kSamples) return false;
  const LaneBlock block = lane_block(a, task.block);
  int64_t candidates = 0;
  for (int sample = 0; sample < kSamples; ++sample) {
    const int64_t row = task.first_row + count * (2 * sample + 1) / (2 * kSamples);
    candidates += candidates_of(a, block, a.broadcast + row * a.broadcast_stride, list);
  }
  return static_cast<double>(candidates) <
         kSparseShare * kSamples * static_cast<double>(a.problem.num_inputs);
}

}  // namespace

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  const List list(a.problem.num_inputs);
  for (int64_t index = begin; index < end; ++index) {
    const Task task = task_at(a, index);
    if (is_sparse(a, task, list.data())) {
      sparse_task(a, task, list.data());
    } else {
      dense_task(a, task);
    }
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
