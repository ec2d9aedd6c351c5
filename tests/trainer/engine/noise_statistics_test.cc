// Many draws of the noise against what a Gaussian would have given. Keys are fixed: what passes
// once passes always, so that limits need no room for chance; they are those of five deviations, or
// of a chance of one in a million.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "trainer/engine/noise.h"
#include "trainer/engine/release.h"

namespace souk::trainer {
namespace {

#ifdef SOUK_SANITIZED
constexpr size_t kDraws = 16'000'000;  // what is slow there is slow for nothing
#else
constexpr size_t kDraws = 400'000'000;
#endif
// Each from a key of its own, as each step of a run is.
constexpr size_t kOfAKey = 1 << 20;

std::array<uint8_t, 32> key_of(uint64_t number) {
  std::array<uint8_t, 32> key{};
  for (size_t i = 0; i < 8; ++i) key[i] = static_cast<uint8_t>(number >> (8 * i));
  return key;
}

// Sum over i of a[i] * b[i], of a multiple of eight, in lanes that compilers make vectors of.
double dot(const double* a, const double* b, size_t count) {
  std::array<double, 8> lanes{};
  for (size_t i = 0; i < count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}

// The chance that a Poisson variable of this mean is `count` or farther out, on the side where
// `count` is.
double poisson_tail(double mean, uint64_t count) {
  const double k = static_cast<double>(count);
  double term = std::exp(k * std::log(mean) - mean - std::lgamma(k + 1)), sum = 0;
  if (k < mean) {
    for (double i = k; term > 0 && i >= 0; term *= i / mean, --i) sum += term;
  } else {
    for (double i = k; term > 1e-30 * sum; ++i, term *= mean / i) sum += term;
  }
  return sum;
}

TEST(PoissonTail, IsTheSumOfItsTerms) {
  EXPECT_NEAR(poisson_tail(2, 0), std::exp(-2.0), 1e-15);
  EXPECT_NEAR(poisson_tail(2, 1), 3 * std::exp(-2.0), 1e-15);
  EXPECT_NEAR(poisson_tail(2, 3), 1 - 5 * std::exp(-2.0), 1e-14);
  EXPECT_LT(poisson_tail(15.2, 0), 1e-6);
  EXPECT_LT(poisson_tail(15.2, 41), 1e-6);
  EXPECT_GT(poisson_tail(25'000, 25'100), 0.2);
}

TEST(NoiseStatistics, MomentsAndTailsOfFourHundredMillionDrawsAreAGaussians) {
  constexpr size_t kLanes = 8, kLimits = 6;
  constexpr std::array<double, kLimits> kLimit = {3, 3.5, 4, 4.5, 5, 5.5};
  std::array<uint64_t, kLimits> above{}, below{};
  std::vector<double> normals(kOfAKey);
  std::array<long double, 4> sums{};
  size_t count = 0;
  for (; count < kDraws; count += kOfAKey) {
    ChaCha20 random(key_of(count), 0);
    standard_normals(random, normals);
    double lanes[4][kLanes] = {};
    for (size_t i = 0; i < kOfAKey; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const double x = normals[i + lane], square = x * x;
        lanes[0][lane] += x;
        lanes[1][lane] += square;
        lanes[2][lane] += square * x;
        lanes[3][lane] += square * square;
      }
    }
    for (size_t k = 0; k < 4; ++k) {
      for (double lane : lanes[k]) sums[k] += lane;
    }
    for (double x : normals) {
      if (std::abs(x) <= kLimit[0]) continue;
      for (size_t k = 0; k < kLimits; ++k) {
        above[k] += x > kLimit[k];
        below[k] += x < -kLimit[k];
      }
    }
  }
  const double n = static_cast<double>(count);
  // Of x, x^2, x^3, x^4.
  const std::array<double, 4> expected = {0, 1, 0, 3}, variance = {1, 2, 15, 96};
  for (size_t k = 0; k < 4; ++k) {
    EXPECT_LT(std::abs(static_cast<double>(sums[k]) / n - expected[k]),
              5 * std::sqrt(variance[k] / n))
        << k + 1;
  }
  for (size_t k = 0; k < kLimits; ++k) {
    const double side = 0.5 * std::erfc(kLimit[k] / std::sqrt(2.0)) * n;
    EXPECT_GT(poisson_tail(2 * side, above[k] + below[k]), 1e-6)
        << kLimit[k] << ": " << above[k] + below[k] << " of " << 2 * side;
    EXPECT_GT(poisson_tail(side, above[k]), 1e-6) << kLimit[k];
    EXPECT_GT(poisson_tail(side, below[k]), 1e-6) << -kLimit[k];
  }
#ifndef SOUK_SANITIZED
  // Enough of them that none at all beyond the last limit would be seen too.
  EXPECT_LT(poisson_tail(std::erfc(kLimit.back() / std::sqrt(2.0)) * n, 0), 1e-6);
#endif
}

TEST(NoiseStatistics, FillsAThousandEquallyLikelyCellsEvenly) {
  constexpr size_t kCells = 1000, kCount = 2'000'000;
  std::vector<double> normals(kCount);
  ChaCha20 random(key_of(4), 0);
  standard_normals(random, normals);
  std::vector<double> cells(kCells, 0);
  for (double x : normals) {
    double below = 0.5 * std::erfc(-x / std::sqrt(2.0));
    ++cells[std::min(kCells - 1, static_cast<size_t>(below * kCells))];
  }
  double chi = 0, expected = double{kCount} / kCells;
  for (double count : cells) chi += (count - expected) * (count - expected) / expected;
  // 999 degrees of freedom: 5 deviations of sqrt(2 * 999).
  EXPECT_LT(std::abs(chi - 999), 5 * std::sqrt(2 * 999.0));
}

TEST(NoiseStatistics, NoDrawFollowsFromOneOfTheSixtyFourBeforeIt) {
  constexpr size_t kCount = 4'000'000;
  constexpr size_t kPair = 128;  // cosine and sine of one radius
  std::vector<double> normals(kCount + kPair), squares(kCount + kPair);
  ChaCha20 random(key_of(6), 0);
  standard_normals(random, normals);
  for (size_t i = 0; i < normals.size(); ++i) squares[i] = normals[i] * normals[i] - 1;
  auto test = [&](size_t lag) {
    const double own = dot(normals.data(), normals.data() + lag, kCount),
                 size = dot(squares.data(), squares.data() + lag, kCount),
                 skew = dot(squares.data(), normals.data() + lag, kCount);
    EXPECT_LT(std::abs(own), 5 * std::sqrt(double{kCount})) << lag;
    EXPECT_LT(std::abs(size), 5 * std::sqrt(4 * double{kCount})) << lag;
    EXPECT_LT(std::abs(skew), 5 * std::sqrt(2 * double{kCount})) << lag;
  };
  for (size_t lag = 1; lag <= 64; ++lag) test(lag);
  test(kPair);
}

TEST(NoiseStatistics, ReleasedIntegersHaveTheDeviationAndUniformResidues) {
  auto grid = *NoiseGrid::make(1.3, 0.7, 1000);
  constexpr size_t kCount = 1'000'000;
  std::vector<int64_t> sums(kCount, 0);
  std::vector<float> steps(kCount);  // below 2^24: exact
  ChaCha20 random(key_of(7), 0);
  FixedPoint(grid).release(random, sums, 1 / grid.step, steps);
  double second = 0;
  for (double z : steps) second += z * z;
  double expected = grid.deviation_units * grid.deviation_units;
  EXPECT_LT(std::abs(second / kCount / expected - 1), 5 * std::sqrt(2.0 / kCount));
  for (int64_t modulus : {2, 3, 8, 1024}) {
    std::vector<double> counts(static_cast<size_t>(modulus), 0);
    for (float step : steps) {
      const auto z = static_cast<int64_t>(step);
      ++counts[static_cast<size_t>((z % modulus + modulus) % modulus)];
    }
    double chi = 0, each = double{kCount} / static_cast<double>(modulus);
    for (double count : counts) chi += (count - each) * (count - each) / each;
    double freedom = static_cast<double>(modulus - 1);
    EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom) + 5) << modulus;
  }
}

TEST(NoiseStatistics, PassesTheTestOfAndersonAndDarling) {
  constexpr size_t kCount = 200'000;
  std::vector<double> x(kCount);
  ChaCha20 random(key_of(11), 0);
  standard_normals(random, x);
  std::sort(x.begin(), x.end());
  auto below = [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); };
  double sum = 0;
  for (size_t i = 0; i < kCount; ++i) {
    double weight = 2 * static_cast<double>(i) + 1;
    sum += weight * (std::log(below(x[i])) + std::log(below(-x[kCount - 1 - i])));
  }
  // For a known distribution 6.0 is exceeded with probability 0.001.
  EXPECT_LT(-static_cast<double>(kCount) - sum / static_cast<double>(kCount), 6.0);
}

}  // namespace
}  // namespace souk::trainer
