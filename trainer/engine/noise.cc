#include "trainer/engine/noise.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "ledger/base/result.h"
#include "trainer/engine/simd.h"

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
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
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

// Natural logarithm of a positive normal number: exponent and an atanh series on
// [sqrt(1/2), sqrt(2)). Relative error below 4e-16.
[[gnu::always_inline]] inline double log_of(double x) {
  auto bits = std::bit_cast<uint64_t>(x);
  uint64_t fraction = bits & 0x000fffffffffffffULL;
  // 1 where the mantissa reaches sqrt(2): it is then halved.
  uint64_t upper = (fraction + (0x0010000000000000ULL - 0x0006a09e667f3bcdULL)) >> 52;
  auto exponent = static_cast<int64_t>(bits >> 52) - 1023 + static_cast<int64_t>(upper);
  double m = std::bit_cast<double>(fraction | (0x3ff0000000000000ULL - (upper << 52)));
  double f = (m - 1.0) / (m + 1.0), s = f * f;
  double p = 1.0 / 21;
  p = p * s + 1.0 / 19;
  p = p * s + 1.0 / 17;
  p = p * s + 1.0 / 15;
  p = p * s + 1.0 / 13;
  p = p * s + 1.0 / 11;
  p = p * s + 1.0 / 9;
  p = p * s + 1.0 / 7;
  p = p * s + 1.0 / 5;
  p = p * s + 1.0 / 3;
  return static_cast<double>(exponent) * 0.69314718055994530942 + (2 * f + 2 * f * s * p);
}

// sine and cosine of 2 pi turn / 2^64. Absolute error below 2e-16.
[[gnu::always_inline]] inline void sine_cosine(uint64_t turn, double* sine, double* cosine) {
  uint64_t quadrant = (turn + (uint64_t{1} << 61)) >> 62;
  auto rest = static_cast<int64_t>(turn - (quadrant << 62));  // within an eighth of a turn
  double t = static_cast<double>(rest) * (6.283185307179586476925 * 0x1p-64), z = t * t;
  double s = -1.0 / 1307674368000.0;
  s = s * z + 1.0 / 6227020800.0;
  s = s * z - 1.0 / 39916800.0;
  s = s * z + 1.0 / 362880.0;
  s = s * z - 1.0 / 5040.0;
  s = s * z + 1.0 / 120.0;
  s = s * z - 1.0 / 6.0;
  s = t + t * z * s;
  double c = 1.0 / 20922789888000.0;
  c = c * z - 1.0 / 87178291200.0;
  c = c * z + 1.0 / 479001600.0;
  c = c * z - 1.0 / 3628800.0;
  c = c * z + 1.0 / 40320.0;
  c = c * z - 1.0 / 720.0;
  c = c * z + 1.0 / 24.0;
  c = c * z - 0.5;
  c = 1.0 + z * c;
  // Quadrant q turns (c, s) by q right angles: swap on odd q, then set the signs.
  auto bits_s = std::bit_cast<uint64_t>(s), bits_c = std::bit_cast<uint64_t>(c);
  uint64_t swap = (bits_s ^ bits_c) & (0 - (quadrant & 1));
  bits_s ^= swap;
  bits_c ^= swap;
  bits_s ^= ((quadrant >> 1) & 1) << 63;
  bits_c ^= (((quadrant + 1) >> 1) & 1) << 63;
  *sine = std::bit_cast<double>(bits_s);
  *cosine = std::bit_cast<double>(bits_c);
}

// A uniform number in (0, 1] from 128 bits: fine enough near zero for tails of 13 deviations.
[[gnu::always_inline]] inline double uniform(uint64_t high, uint64_t low) {
  auto top = static_cast<int64_t>(high >> 11);  // 53 bits
  auto middle = static_cast<int64_t>(((high & 0x7ff) << 42) | (low >> 22));
  auto bottom = static_cast<int64_t>(low & 0x3fffff);
  return static_cast<double>(top) * 0x1p-53 +
         (static_cast<double>(middle) * 0x1p-106 + (static_cast<double>(bottom) * 0x1p-128 + 0x1p-129));
}

constexpr size_t kPairs = 64;

// 2 * kPairs normals from 3 * kPairs words.
void normal_block(ChaCha20& random, std::span<double, 2 * kPairs> out) {
  std::array<uint64_t, 3 * kPairs> words;
  random.fill(std::span<uint64_t>(words));
  const uint64_t* word = words.data();
  double* to = out.data();
  wide([&] {
    for (size_t i = 0; i < kPairs; ++i) {
      double radius = std::sqrt(-2.0 * log_of(uniform(word[i], word[kPairs + i])));
      double sine = 0, cosine = 0;
      sine_cosine(word[2 * kPairs + i], &sine, &cosine);
      to[i] = radius * cosine;
      to[kPairs + i] = radius * sine;
    }
  });
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
  grid.square_bound = static_cast<int64_t>(std::floor(std::nextafter(grid.clip_units * grid.clip_units, 0.0)));
  grid.deviation_units = std::nextafter(sigma * clip, HUGE_VAL) / grid.step;
  return grid;
}

double clip_to_grid(std::span<const float> gradient, const NoiseGrid& grid, std::span<int32_t> units) {
  CHECK(gradient.size() == units.size());
  const double norm = std::sqrt(square_sum(gradient));
  if (!std::isfinite(norm)) {
    std::fill(units.begin(), units.end(), 0);
    return norm;
  }
  double factor = std::min(1.0, grid.clip / norm * (1 - 1e-12)) / grid.step;  // norm 0: factor 1 / g
  for (int attempt = 0; attempt < 3; ++attempt) {
    int64_t square = round_scaled(gradient, factor, units);
    if (square <= grid.square_bound) return norm;
    // Rounding to the nearest has lengthened the row: shrink it by as much.
    factor *= std::sqrt(static_cast<double>(grid.square_bound) / static_cast<double>(square)) * (1 - 1e-9);
  }
  factor = std::sqrt(static_cast<double>(grid.square_bound)) / norm * (1 - 1e-9);
  CHECK(truncate_scaled(gradient, factor, units) <= grid.square_bound);
  return norm;
}

void standard_normals(ChaCha20& random, std::span<double> out) {
  std::array<double, 2 * kPairs> block;
  for (size_t i = 0; i < out.size(); i += block.size()) {
    normal_block(random, block);
    std::copy_n(block.begin(), std::min(block.size(), out.size() - i), out.begin() + static_cast<ptrdiff_t>(i));
  }
}

void add_noise(ChaCha20& random, const NoiseGrid& grid, std::span<int64_t> sums) {
  std::array<double, 2 * kPairs> block;
  for (size_t i = 0; i < sums.size(); i += block.size()) {
    normal_block(random, block);
    size_t n = std::min(block.size(), sums.size() - i);
    for (size_t k = 0; k < n; ++k) {
      double rounded = (block[k] * grid.deviation_units + kRounder) - kRounder;
      sums[i + k] += static_cast<int64_t>(rounded);
    }
  }
}

}  // namespace souk::trainer
