// (sum_i |x_i - w_oi|^p)^(1/p).
//
// p = 2, 4, 8, 16: one pass, sum of plain powers, where the scale chosen by the caller keeps them in
// range; a tile with a sum out of range is done again the general way.
// Any p: a pass for the maximum m, then a pass for the sum of (|x_i - w_oi| / m)^p.
#include "power.h"
#include "tiles.h"

namespace supnorm {
namespace SUPNORM_ISA {
namespace {

constexpr int kRows = kWidth == 16 ? 8 : 4;       // one pass
constexpr int kPowerRows = kWidth == 16 ? 4 : 2;  // general: a power needs registers of its own

// Sums outside these may have lost terms to underflow or overflow.
constexpr float kSmallestSum = 0x1p-80f, kLargestSum = 0x1p126f;

template <int kTileRows>
struct TileRows {
  const float* pointer[kTileRows];
  TileRows(const ForwardArgs& a, const int64_t* rows) {
    for (int r = 0; r < kTileRows; ++r) pointer[r] = a.broadcast + rows[r] * a.broadcast_stride;
  }
};

// S^(1/p) for S >= 1 (or 0, whose result is not used).
inline V root(V sum, float p) { return exp2_of(log2_of(sum) * all(1.0f / p)); }

template <int kSquarings>
__attribute__((noinline)) bool squares_tile(const float* packed, const TileRows<kRows>& rows,
                                            int64_t num_inputs, float unscale, float* result) {
  V sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sum[r][v] = all(0.0f);
  }
  for (int64_t i = 0; i < num_inputs; ++i) {
    V lanes[kVectors];
    for (int v = 0; v < kVectors; ++v) lanes[v] = load(packed + i * kLanes + v * kWidth);
    for (int r = 0; r < kRows; ++r) {
      const V row = all(rows.pointer[r][i]);
      for (int v = 0; v < kVectors; ++v) {
        V power = lanes[v] - row;
        for (int j = 1; j < kSquarings; ++j) power = power * power;
        sum[r][v] = fma(power, power, sum[r][v]);
      }
    }
  }
  V smallest = sum[0][0], largest = sum[0][0];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      smallest = min(smallest, sum[r][v]);
      largest = max(largest, sum[r][v]);
      V value = sum[r][v];
      for (int j = 0; j < kSquarings; ++j) value = sqrt(value);
      store(result + r * kLanes + v * kWidth, value * all(unscale));
    }
  }
  return smallest_lane(smallest) >= kSmallestSum && largest_lane(largest) <= kLargestSum;
}

__attribute__((noinline)) void power_tile(const ForwardArgs& a, const float* packed,
                                          const TileRows<kPowerRows>& rows, float unscale,
                                          float* result, float* largest) {
  constexpr int kCount = kPowerRows * kVectors;
  const int64_t num_inputs = a.problem.num_inputs;
  V max[kCount], inverse[kCount], sum[kCount];
  for (int k = 0; k < kCount; ++k) max[k] = all(0.0f);
  for (int64_t i = 0; i < num_inputs; ++i) {
    for (int k = 0; k < kCount; ++k) {
      const V lanes = load(packed + i * kLanes + k % kVectors * kWidth);
      max[k] = max_abs(max[k], lanes - all(rows.pointer[k / kVectors][i]));
    }
  }
  for (int k = 0; k < kCount; ++k) {
    // Outputs below are done again in double precision; here they must only stay finite.
    inverse[k] = all(1.0f) / SUPNORM_ISA::max(max[k], all(kSmallestDistance));
    sum[k] = all(0.0f);
  }
  for (int64_t i = 0; i < num_inputs; ++i) {
    V size[kCount], power[kCount];
    for (int k = 0; k < kCount; ++k) {
      const V lanes = load(packed + i * kLanes + k % kVectors * kWidth);
      size[k] = abs(lanes - all(rows.pointer[k / kVectors][i]));
    }
    if (a.plan.is_wide) {
      wide_power<kCount>(a.plan, size, inverse, power);
    } else {
      narrow_power<kCount>(a.plan, size, inverse, power);
    }
    for (int k = 0; k < kCount; ++k) sum[k] = sum[k] + power[k];
  }
  const float p = static_cast<float>(a.p);
  for (int k = 0; k < kCount; ++k) {
    store(result + k * kWidth, max[k] * root(sum[k], p) * all(unscale));
    store(largest + k * kWidth, max[k]);
  }
}

void redo_small_outputs(const ForwardArgs& a, const TilePlace& place, const float* largest,
                        float* result) {
  const Problem& problem = a.problem;
  for (int r = 0; r < place.num_rows; ++r) {
    for (int lane = 0; lane < place.num_lanes; ++lane) {
      if (largest[r * kLanes + lane] >= kSmallestDistance) continue;
      const int64_t lane_row = place.lane_begin + lane, row = place.row_begin + r;
      const int64_t sample = a.batch_lanes ? lane_row : row;
      const int64_t output = a.batch_lanes ? row : lane_row;
      result[r * kLanes + lane] = static_cast<float>(
          lp_distance_one(problem.x + sample * problem.x_stride,
                          problem.w + output * problem.num_inputs, problem.num_inputs, a.p));
    }
  }
}

void general_tile(const ForwardArgs& a, const float* packed, const int64_t* rows,
                  const TilePlace& place, float unscale, float* result) {
  float largest[kPowerRows * kLanes];
  power_tile(a, packed, TileRows<kPowerRows>(a, rows), unscale, result, largest);
  redo_small_outputs(a, place, largest, result);
}

void general(const ForwardArgs& a, int64_t begin, int64_t end, float unscale) {
  const auto tile = [&](const float* packed, const int64_t* rows, const TilePlace& place) {
    float result[kPowerRows * kLanes];
    general_tile(a, packed, rows, place, unscale, result);
    store_tile(a, place, result, a.out);
  };
  for_each_tile<kPowerRows>(a, begin, end, tile);
}

template <int kSquarings>
void squares(const ForwardArgs& a, int64_t begin, int64_t end, float unscale) {
  const auto tile = [&](const float* packed, const int64_t* rows, const TilePlace& place) {
    float result[kRows * kLanes];
    const TileRows<kRows> pointers(a, rows);
    if (!squares_tile<kSquarings>(packed, pointers, a.problem.num_inputs, unscale, result)) {
      for (int r = 0; r < place.num_rows; r += kPowerRows) {
        const int left = place.num_rows - r;
        const TilePlace part = {place.lane_begin, place.row_begin + r, place.num_lanes,
                                left < kPowerRows ? left : kPowerRows};
        general_tile(a, packed, rows + r, part, unscale, result + r * kLanes);
      }
    }
    store_tile(a, place, result, a.out);
  };
  for_each_tile<kRows>(a, begin, end, tile);
}

}  // namespace

void lp_distance(const ForwardArgs& a, int64_t begin, int64_t end) {
  const FlushToZero guard;
  const float unscale = 1.0f / a.scale;
  switch (a.p_squarings) {
    case 1:
      return squares<1>(a, begin, end, unscale);
    case 2:
      return squares<2>(a, begin, end, unscale);
    case 3:
      return squares<3>(a, begin, end, unscale);
    case 4:
      return squares<4>(a, begin, end, unscale);
    default:
      return general(a, begin, end, unscale);
  }
}

}  // namespace SUPNORM_ISA
}  // namespace supnorm
