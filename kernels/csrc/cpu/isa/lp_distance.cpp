// (sum_i |x_i - w_oi|^p)^(1/p).
//
// p = 2, 4, 8, 16: one pass, the sum of plain powers, where the scale chosen by the caller keeps
// them in range; a tile with a sum out of range is done again the general way. Any p: per broadcast
// row and block of lanes the inputs that can matter to the sum of some lane (candidates.h), their
// maximum m, then the sum of (|x_i - w_oi| / m)^p over them.
#include "isa/power.h"
#include "isa/sparse.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = kHasManyRegisters ? 6 : 2;

// Sums outside these may have lost terms to underflow or overflow.
constexpr float kSmallestSum = 0x1p-80f, kLargestSum = 0x1p126f;

// So many terms are added one after the other before they join the rest: each may lose half a unit,
// of which the root leaves a p-th, 2^-22 of the distance in all.
constexpr int64_t partial_sum(int64_t p) { return 4 * p; }

// Adds to a total what its own rounding does not swallow: `lost` is what the last one did.
inline void add_compensated(V term, V* total, V* lost) {
  const V wanted = term - *lost;
  const V sum = opaque(*total + wanted);
  *lost = opaque(sum - *total) - wanted;
  *total = sum;
}

// Sums of the powers of a pass of lanes, and their roots; false if a sum is out of range.
template <int kSquarings>
__attribute__((noinline)) bool squares_pass(const float* packed, const float* const* rows,
                                            int64_t num_inputs, float unscale, float* result) {
  constexpr int64_t kPartialSum = partial_sum(1 << kSquarings);
  V total[kRows][kVectors], lost[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) total[r][v] = lost[r][v] = all(0.0f);
  }
  for (int64_t first = 0; first < num_inputs; first += kPartialSum) {
    const int64_t last = first + kPartialSum < num_inputs ? first + kPartialSum : num_inputs;
    V sum[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] = all(0.0f);
    }
    for (int64_t i = first; i < last; ++i) {
      V lanes[kVectors];
      for (int v = 0; v < kVectors; ++v) lanes[v] = load(packed + i * kLanes + v * kWidth);
      for (int r = 0; r < kRows; ++r) {
        const V row = all(rows[r][i]);
        for (int v = 0; v < kVectors; ++v) {
          V power = lanes[v] - row;
          for (int j = 1; j < kSquarings; ++j) power = power * power;
          sum[r][v] = fma(power, power, sum[r][v]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) add_compensated(sum[r][v], &total[r][v], &lost[r][v]);
    }
  }
  V smallest = total[0][0], largest = total[0][0];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      smallest = min(smallest, total[r][v]);
      largest = max(largest, total[r][v]);
      V value = total[r][v];
      for (int j = 0; j < kSquarings; ++j) value = sqrt(value);
      store(result + r * kLanes + v * kWidth, value * all(unscale));
    }
  }
  return smallest_lane(smallest) >= kSmallestSum && largest_lane(largest) <= kLargestSum;
}

// One broadcast row against a pass of lanes, at the inputs that can matter.
struct Listed {
  const LaneBlock& block;
  int lane;  // the first
  const float* row;
  const int32_t* list;
  int64_t count;
};

// total <- the sums of what add(differences, sum) adds for each listed input.
template <class Add>
inline void sum_of_list(const Listed& a, int64_t partial, V* total, const Add& add) {
  const float* packed = a.block.packed + a.lane;
  V lost[kVectors];
  for (int v = 0; v < kVectors; ++v) total[v] = lost[v] = all(0.0f);
  for (int64_t first = 0; first < a.count; first += partial) {
    const int64_t last = first + partial < a.count ? first + partial : a.count;
    V sum[kVectors];
    for (int v = 0; v < kVectors; ++v) sum[v] = all(0.0f);
    for (int64_t k = first; k < last; ++k) {
      const int64_t i = a.list[k];
      const V r = all(a.row[i]);
      V t[kVectors];
      for (int v = 0; v < kVectors; ++v) t[v] = load(packed + i * kLanes + v * kWidth) - r;
      add(t, sum);
    }
    for (int v = 0; v < kVectors; ++v) add_compensated(sum[v], &total[v], &lost[v]);
  }
}

// Sums of (|lane - row| / max)^p.
template <class Power>
__attribute__((noinline)) void sum_of_shares(const Power power, float unit, const Listed& a,
                                             int64_t partial, const V* max, V* total) {
  V largest[kVectors], inverse[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    largest[v] = max[v];
    // Outputs below are done again in double precision; here they must only stay finite.
    inverse[v] = all(unit) / SUPNORM_ISA::max(max[v], all(kSmallestDistance));
  }
  sum_of_list(a, partial, total, [&](const V* t, V* sum) {
    V share[kVectors];
    power.template raise<kVectors>(t, largest, inverse, share);
    for (int v = 0; v < kVectors; ++v) sum[v] = sum[v] + share[v];
  });
}

// Sums of what the pieces make of |lane - row|.
template <class Pieces>
__attribute__((noinline)) void sum_of_powers(const Pieces pieces, const Listed& a, int64_t partial,
                                             V* total) {
  sum_of_list(a, partial, total, [&](const V* t, V* sum) {
    V value[kVectors], factor[kVectors];
    pieces.template raise<kVectors>(t, value, factor);
    for (int v = 0; v < kVectors; ++v) sum[v] = fma(value[v], factor[v], sum[v]);
  });
}

// Whether the pieces of one table reach from the largest difference to what need not be counted,
// for all lanes: the largest difference of each is then not needed.
bool is_in_pieces(const PowerPlan& plan, const Reach& reach) {
  return plan.kind == PowerKind::kPieces && reach.at_least >= kSmallestDistance &&
         reach.at_least >= power_of_two_below(reach.at_most) * plan.smallest &&
         reach.at_least * plan.threshold >= lowest_piece(plan, reach.at_most);
}

// Distances (not yet unscaled) of one broadcast row from a pass of lanes, and their largest
// differences, or, where those are not needed, what they are not below.
void general_pass(const ForwardArgs& a, const Listed& listed, const Reach& reach, float* distance,
                  float* largest) {
  const auto partial = partial_sum(static_cast<int64_t>(a.p));
  const auto high = static_cast<float>(1 / a.p), low = static_cast<float>(1 / a.p - high);
  V max[kVectors], sum[kVectors], unit[kVectors];
  if (is_in_pieces(a.plan, reach)) {
    for (int v = 0; v < kVectors; ++v) {
      max[v] = all(reach.at_least);
      unit[v] = all(power_of_two_below(reach.at_most) * PowerPlan::kUnit);
    }
    with_pieces(a.plan, reach.at_most,
                [&](const auto& pieces) { sum_of_powers(pieces, listed, partial, sum); });
  } else {
    for (int v = 0; v < kVectors; ++v) max[v] = all(0.0f);
    largest_of_list(listed.block, listed.lane, listed.row, listed.list, listed.count, max);
    for (int v = 0; v < kVectors; ++v) unit[v] = max[v];
    with_power(a.plan, [&](const auto& power) {
      sum_of_shares(power, a.plan.unit, listed, partial, max, sum);
    });
  }
  for (int v = 0; v < kVectors; ++v) {
    store(distance + v * kWidth, unit[v] * root(sum[v], high, low));
    store(largest + v * kWidth, max[v]);
  }
}

void general_row(const ForwardArgs& a, const LaneBlock& block, const float* row, int32_t* list,
                 float* distance, float* largest) {
  const int64_t n = a.problem.num_inputs;
  const Reach reach = reach_of(block, row, n);
  const float limit = a.skips ? reach.at_least * a.plan.threshold : 0.0f;
  const int64_t count = list_candidates(block.span, row, n, limit, list);
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    general_pass(a, {block, lane, row, list, count}, reach, distance + lane, largest + lane);
  }
}

void general_tile(const ForwardArgs& a, const LaneBlock& block, const int64_t* rows,
                  const TilePlace& place, int32_t* list, float* result) {
  const Problem& problem = a.problem;
  const float unscale = 1.0f / a.scale;
  for (int r = 0; r < place.num_rows; ++r) {
    float* distance = result + r * kLanes;
    alignas(64) float largest[kLanes];
    general_row(a, block, a.broadcast + rows[r] * a.broadcast_stride, list, distance, largest);
    for (int lane = 0; lane < place.num_lanes; ++lane) {
      distance[lane] *= unscale;
      if (largest[lane] >= kSmallestDistance) continue;
      const Pair pair = pair_at(a, place, lane, r);
      distance[lane] = static_cast<float>(
          lp_distance_one(problem.x + pair.sample * problem.x_stride,
                          problem.w + pair.output * problem.num_inputs, problem.num_inputs, a.p));
    }
  }
}

bool squares_pass_of(int squarings, const float* packed, const float* const* rows,
                     int64_t num_inputs, float unscale, float* result) {
  switch (squarings) {
    case 1:
      return squares_pass<1>(packed, rows, num_inputs, unscale, result);
    case 2:
      return squares_pass<2>(packed, rows, num_inputs, unscale, result);
    case 3:
      return squares_pass<3>(packed, rows, num_inputs, unscale, result);
    default:
      return squares_pass<4>(packed, rows, num_inputs, unscale, result);
  }
}

bool squares_tile(const ForwardArgs& a, const float* packed, const float* const* rows,
                  float* result) {
  bool is_in_range = true;
  for (int lane = 0; lane < kLanes; lane += kPassLanes) {
    is_in_range &= squares_pass_of(a.p_squarings, packed + lane, rows, a.problem.num_inputs,
                                   1.0f / a.scale, result + lane);
  }
  return is_in_range;
}

void squares_task(const ForwardArgs& a, const Task& task, int32_t* list) {
  const LaneBlock block = lane_block(a, task.block);
  for_each_tile<kRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
    alignas(64) float result[kRows * kLanes];
    const float* pointers[kRows];
    for (int r = 0; r < kRows; ++r) pointers[r] = a.broadcast + rows[r] * a.broadcast_stride;
    if (!squares_tile(a, block.packed, pointers, result)) {
      general_tile(a, block, rows, place, list, result);
    }
    store_tile(a, place, result, a.out);
  });
}

void general_task(const ForwardArgs& a, const Task& task, int32_t* list) {
  constexpr int kStoreRows = 8;
  const LaneBlock block = lane_block(a, task.block);
  for_each_tile<kStoreRows>(a, task, [&](const int64_t* rows, const TilePlace& place) {
    alignas(64) float result[kStoreRows * kLanes];
    general_tile(a, block, rows, place, list, result);
    store_tile(a, place, result, a.out);
  });
}

}  // namespace

void lp_distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const Memory<int32_t> list(list_room(a.problem.num_inputs));
  for (int64_t index = begin; index < end; ++index) {
    const Task task = task_at(a, index);
    if (a.p_squarings != 0) {
      squares_task(a, task, list.data());
    } else {
      general_task(a, task, list.data());
    }
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
