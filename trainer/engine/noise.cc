#include "trainer/engine/noise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "ledger/base/result.h"
#include "trainer/engine/normal_runs.h"

namespace souk::trainer {
namespace {

// Adding it to |x| < 2^51 rounds x to an integer, to even, in the low bits of the result.
constexpr double kRounder = 0x1.8p52;

double square_sum(std::span<const float> values) {
  std::array<double, 8> lanes{};
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      double v = values[i + lane];
      lanes[lane] += v * v;
    }
  }
  for (size_t lane = 0; i < values.size(); ++i, ++lane) {
    double v = values[i];
    lanes[lane] += v * v;
  }
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

int64_t round_scaled(std::span<const float> values, double factor, std::span<int32_t> units) {
  std::array<int64_t, 4> lanes{};
  auto one = [&](size_t i) {
    auto bits = std::bit_cast<uint64_t>(static_cast<double>(values[i]) * factor + kRounder);
    auto z = static_cast<int32_t>(static_cast<uint32_t>(bits));
    units[i] = z;
    return int64_t{z} * z;
  };
  size_t i = 0;
  for (; i + 4 <= values.size(); i += 4) {
    for (size_t lane = 0; lane < 4; ++lane) lanes[lane] += one(i + lane);
  }
  for (; i < values.size(); ++i) lanes[0] += one(i);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

int64_t truncate_scaled(std::span<const float> values, double factor, std::span<int32_t> units) {
  int64_t sum = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    units[i] = static_cast<int32_t>(static_cast<double>(values[i]) * factor);
    sum += int64_t{units[i]} * units[i];
  }
  return sum;
}

}  // namespace

std::optional<NoiseGrid> NoiseGrid::make(double sigma, double clip, double draws) {
  CHECK(sigma > 0 && clip > 0);
  int bits = 16;
  if (draws > 1.2e8) bits = 12;
  if (!(draws <= 3e10)) return std::nullopt;
  NoiseGrid grid;
  grid.step = std::ldexp(1.0, std::ilogb(sigma * clip) - bits);
  grid.clip = clip;
  grid.clip_units = clip / grid.step;
  CHECK(grid.clip_units < 0x1p30);
  grid.square_bound =
      static_cast<int64_t>(std::floor(std::nextafter(grid.clip_units * grid.clip_units, 0.0)));
  grid.deviation_units = std::nextafter(sigma * clip, HUGE_VAL) / grid.step;
  return grid;
}

double clip_to_grid(std::span<const float> gradient, const NoiseGrid& grid,
                    std::span<int32_t> units) {
  CHECK(gradient.size() == units.size());
  const double norm = std::sqrt(square_sum(gradient));
  if (!std::isfinite(norm)) {
    std::fill(units.begin(), units.end(), 0);
    return norm;
  }
  double factor =
      std::min(1.0, grid.clip / norm * (1 - 1e-12)) / grid.step;  // norm 0: factor 1 / g
  for (int attempt = 0; attempt < 3; ++attempt) {
    int64_t square = round_scaled(gradient, factor, units);
    if (square <= grid.square_bound) return norm;
    // Rounding to the nearest has lengthened the row: shrink it by as much.
    factor *= std::sqrt(static_cast<double>(grid.square_bound) / static_cast<double>(square)) *
              (1 - 1e-9);
  }
  factor = std::sqrt(static_cast<double>(grid.square_bound)) / norm * (1 - 1e-9);
  CHECK(truncate_scaled(gradient, factor, units) <= grid.square_bound);
  return norm;
}

void standard_normals(ChaCha20& random, std::span<double> out) {
  for_each_normal_run(random, out.size(), [&](size_t first, std::span<const double> normals) {
    std::copy(normals.begin(), normals.end(), out.begin() + static_cast<ptrdiff_t>(first));
  });
}

void add_noise(ChaCha20& random, const NoiseGrid& grid, std::span<int64_t> sums) {
  // The integer nearest to x is in the low bits of x + kRounder: the difference of the bits.
  const double deviation = grid.deviation_units;
  for_each_normal_run(random, sums.size(), [&](size_t first, std::span<const double> normals) {
    int64_t* to = sums.data() + first;
    for (size_t i = 0; i < normals.size(); ++i) {
      to[i] += std::bit_cast<int64_t>(normals[i] * deviation + kRounder) -
               std::bit_cast<int64_t>(kRounder);
    }
  });
}

}  // namespace souk::trainer
