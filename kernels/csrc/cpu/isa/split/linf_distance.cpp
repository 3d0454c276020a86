// max_i |x_i - w_oi|, with the lowest i that reaches it where asked.
//
// Dense: kRows broadcast rows by kVectors vectors of lanes at a time, maxima in registers over all
// inputs. For the index a tile keeps the chunk of inputs in which the maximum first appeared, and
// looks it up there. Sparse: per broadcast row only the inputs that can reach the maximum of some
// lane (candidates.h). A task counts the candidates of one of its rows and takes what costs less;
// both give the same bits.
#include "isa/sparse.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

// A tile of the dense kernel, in registers: 24 vectors of 32, or 8 of 16.
constexpr int kTileVectors = kHasManyRegisters && kWidth == 8 ? 2 : 4;
constexpr int kTileLanes = kTileVectors * kWidth;
constexpr int kRows = (kHasManyRegisters ? 24 : 8) / kTileVectors;
constexpr int kStoreRows = 8;  // rows of the sparse kernel that are stored together
// Vectors of lanes that go through a list together.
constexpr int kListVectors = kLanes / kWidth < 8 ? kLanes / kWidth : 8;
constexpr int kChunk = 64;  // inputs
// Inputs of a chunk that is looked through for the index: on trained 512 x 512 layers the index
// takes 3 ms for 512,000 outputs, with 64 inputs 5 ms (2026-11-21).
constexpr int kArgmaxChunk = 32;

// Share of candidates up to which looking at them alone pays; measured on random weights.
constexpr double kSparseShare = 0.5;

// Maxima so far of a task's rows, and the chunk of inputs in which each appeared first:
// [row][lane].
struct TaskMax {
  static_assert(kTaskRows % kRows == 0, "a task is a whole number of tiles");
  static constexpr int64_t kSize = kTaskRows * kLanes;
  alignas(64) float value[kSize], chunk[kSize];
};

// One chunk of a tile's rows, side by side: as far apart as they lie in a matrix they would evict
// one another from the L1 cache.
struct RowsChunk {
  alignas(64) float data[kRows][kChunk + 16];

  RowsChunk(const ForwardArgs& a, const int64_t* rows, int64_t begin, int64_t count) {
    for (int r = 0; r < kRows; ++r) {
      const float* from = a.broadcast + rows[r] * a.broadcast_stride + begin;
      if (count % kWidth == 0) {
        for (int64_t i = 0; i < count; i += kWidth) store(data[r] + i, load(from + i));
      } else {
        for (int64_t i = 0; i < count; ++i) data[r][i] = from[i];
      }
    }
  }
};

// Takes `count` inputs, those of one chunk, into the maxima of a tile.
template <bool kKeepsChunk>
__attribute__((noinline)) void add_chunk(const float* packed, const RowsChunk& rows, int64_t count,
                                         float chunk, float* best, float* best_chunk) {
  V max[kRows][kTileVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) max[r][v] = all(0.0f);
  }
  for (int64_t i = 0; i < count; ++i) {
    V lanes[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) lanes[v] = load(packed + i * kLanes + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V row = all(rows.data[r][i]);
      for (int v = 0; v < kTileVectors; ++v) {
        max[r][v] = max_abs(max[r][v], difference(lanes[v], row));
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      const int at = r * kLanes + v * kWidth;
      const V before = load(best + at);
      store(best + at, SUPNORM_ISA::max(max[r][v], before));
      if (!kKeepsChunk) continue;
      // Strictly greater: an equal maximum in a later chunk does not take over.
      store(best_chunk + at, select_gt(max[r][v], before, all(chunk), load(best_chunk + at)));
    }
  }
}

// Chunk by chunk, so that the chunk of the block of lanes stays in the L1 cache for all rows.
template <bool kKeepsChunk>
void dense_maxima(const ForwardArgs& a, const Task& task, TaskMax* best) {
  constexpr int64_t kStep = kKeepsChunk ? kArgmaxChunk : kChunk;
  const int64_t num_inputs = a.problem.num_inputs;
  for (int64_t k = 0; k < TaskMax::kSize; ++k) best->value[k] = -1.0f;
  for (int64_t first = 0; first < num_inputs; first += kStep) {
    const int64_t count = first + kStep < num_inputs ? kStep : num_inputs - first;
    const float* packed = lane_block(a, task.block).packed + first * kLanes;
    const float chunk = static_cast<float>(first / kStep);
    for_each_tile<kRows>(a, task, [&](const int64_t* row_indices, const TilePlace& place) {
      const RowsChunk rows(a, row_indices, first, count);
      const int64_t at = (place.row_begin - task.first_row) * kLanes;
      for (int lane = 0; lane < kLanes; lane += kTileLanes) {
        add_chunk<kKeepsChunk>(packed + lane, rows, count, chunk, best->value + at + lane,
                               best->chunk + at + lane);
      }
    });
  }
}

// Lowest input of a chunk at which |x - w| is `value`; x, w and `count` are those of the chunk.
int find_in_chunk(const float* x, const float* w, float value, int64_t count) {
  static_assert(kArgmaxChunk == 32, "a bit an input");
  if (count < kArgmaxChunk) {
    int i = 0;
    while (__builtin_fabsf(x[i] - w[i]) != value) ++i;
    return i;
  }
  const wide::V wanted = wide::all(value);
  uint32_t hits = 0;
  for (int i = 0; i < kArgmaxChunk; i += wide::kWidth) {
    const wide::V size = wide::abs(wide::load(x + i) - wide::load(w + i));
    hits |= wide::equal_bits(size, wanted) << i;
  }
  return __builtin_ctz(hits);
}

__attribute__((noinline)) void find_inputs(const ForwardArgs& a, const TilePlace& place,
                                           const TaskMax& best) {
  const Problem& problem = a.problem;
  for (int r = 0; r < place.num_rows; ++r) {
    for (int lane = 0; lane < place.num_lanes; ++lane) {
      const Pair pair = pair_at(a, place, lane, r);
      const int64_t first = static_cast<int64_t>(best.chunk[r * kLanes + lane]) * kArgmaxChunk;
      const float* x = problem.x + pair.sample * problem.x_stride + first;
      const float* w = problem.w + pair.output * problem.num_inputs + first;
      const int at = find_in_chunk(x, w, best.value[r * kLanes + lane], problem.num_inputs - first);
      a.argmax[pair.sample * problem.out_stride + pair.output] = static_cast<int32_t>(first) + at;
    }
  }
}

void dense_task(const ForwardArgs& a, const Task& task) {
  TaskMax best;
  for_each_tile<kTaskRows>(a, task, [&](const int64_t*, const TilePlace& place) {
    if (a.argmax == nullptr) {
      dense_maxima<false>(a, task, &best);
    } else {
      dense_maxima<true>(a, task, &best);
      find_inputs(a, place, best);
    }
    store_tile(a, place, best.value, a.out);
  });
}

// Takes the listed inputs into the maxima of a row so far, and into the inputs that reached them
// first; returns the smallest of the maxima.
template <bool kFindsInput>
__attribute__((noinline)) float add_listed(const float* packed, const float* row,
                                           const int32_t* list, int64_t count, float* value,
                                           float* input) {
  V smallest = all(__builtin_inff());
  for (int lane = 0; lane < kLanes; lane += kListVectors * kWidth) {
    V best[kListVectors], best_input[kListVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kListVectors; ++v) {
      best[v] = load(value + lane + v * kWidth);
      if constexpr (kFindsInput) best_input[v] = load(input + lane + v * kWidth);
    }
    for (int64_t k = 0; k < count; ++k) {
      const float* lanes = packed + list[k] * int64_t{kLanes} + lane;
      const V r = all(row[list[k]]), index = from_bits(all_int(list[k]));
#pragma GCC unroll 8
      for (int v = 0; v < kListVectors; ++v) {
        const V change = difference(load(lanes + v * kWidth), r);
        if constexpr (kFindsInput) {
          best_input[v] = select_gt(abs(change), best[v], index, best_input[v]);
        }
        best[v] = max_abs(best[v], change);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kListVectors; ++v) {
      smallest = min(smallest, best[v]);
      store(value + lane + v * kWidth, best[v]);
      if constexpr (kFindsInput) store(input + lane + v * kWidth, best_input[v]);
    }
  }
  return smallest_lane(smallest);
}

// Rows of one task against its block of lanes, looking at candidates only.
template <bool kFindsInput>
class SparseRows {
 public:
  SparseRows(const ForwardArgs& a, const Task& task, int32_t* list)
      : a_(a), num_inputs_(a.problem.num_inputs), block_(lane_block(a, task.block)), list_(list) {}

  // Whether few inputs of a row can matter.
  bool are_few(int64_t row_index) {
    const float* row = row_at(row_index);
    guess_ = maximum_at_least<4>(block_, row, num_inputs_);
    const int64_t count = list_candidates(block_.span, row, num_inputs_, guess_, list_);
    return static_cast<double>(count) < kSparseShare * static_cast<double>(num_inputs_);
  }

  // Maxima of one row. Neighbouring rows have similar ones: the last row's say what is worth a
  // look. Where a lane's maximum stays below that, what has been left out is looked at, too.
  void take(int64_t row_index, float* value, float* input) {
    const float* row = row_at(row_index);
    clear(value, kLanes);
    if (kFindsInput) clear(input, kLanes);
    float least = add_candidates<false>(row, guess_, value, input);
    if (least < guess_) {
      // Of a tie the first input is wanted: then all candidates are taken again, in their order.
      if (kFindsInput) clear(value, kLanes);
      least = add_candidates<!kFindsInput>(row, least, value, input);
    }
    guess_ = kGuess * least;
  }

 private:
  static constexpr float kGuess = 0.96f;  // of the smallest maximum of the row before

  const float* row_at(int64_t row) const { return a_.broadcast + row * a_.broadcast_stride; }

  // Takes the inputs whose bound reaches this into the maxima of a row; `kGoesOn`: without those
  // that reach the guess. Returns the smallest of the maxima.
  template <bool kGoesOn>
  float add_candidates(const float* row, float bound, float* value, float* input) {
    const int64_t count =
        list_candidates<kGoesOn>(block_.span, row, num_inputs_, bound, list_, guess_);
    return add_listed<kFindsInput>(block_.packed, row, list_, count, value, input);
  }

  const ForwardArgs& a_;
  const int64_t num_inputs_;
  const LaneBlock block_;
  int32_t* list_;
  float guess_ = 0.0f;
};

// False where too many inputs can matter; then nothing has been done.
template <bool kFindsInput>
bool sparse_task(const ForwardArgs& a, const Task& task, int32_t* list) {
  SparseRows<kFindsInput> sparse(a, task, list);
  if (!sparse.are_few((task.first_row + task.last_row) / 2)) return false;
  for_each_tile<kStoreRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
    alignas(64) float value[kStoreRows * kLanes], input[kStoreRows * kLanes];
    for (int r = 0; r < place.num_rows; ++r) {
      sparse.take(rows[r], value + r * kLanes, input + r * kLanes);
    }
    store_tile(a, place, value, a.out);
    if constexpr (kFindsInput) store_tile_bits(a, place, input, a.argmax);
  });
  return true;
}

bool is_done_sparsely(const ForwardArgs& a, const Task& task, int32_t* list) {
  if (!a.skips) return false;
  return a.argmax == nullptr ? sparse_task<false>(a, task, list) : sparse_task<true>(a, task, list);
}

}  // namespace

void linf_distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  const Memory<int32_t> list(list_room(a.problem.num_inputs));
  for (int64_t index = begin; index < end; ++index) {
    const Task task = task_at(a, index);
    if (!is_done_sparsely(a, task, list.data())) dense_task(a, task);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
