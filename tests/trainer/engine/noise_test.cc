#include "trainer/engine/noise.h"
#include "ledger/crypto/kdf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

std::array<uint8_t, 32> key_of(uint8_t byte) {
  std::array<uint8_t, 32> key{};
  key.fill(byte);
  return key;
}

int64_t square(const std::vector<int32_t>& units) {
  int64_t sum = 0;
  for (int32_t z : units) sum += int64_t{z} * z;
  return sum;
}

TEST(NoiseGrid, StepIsThePowerOfTwoTheSpecSays) {
  auto grid = NoiseGrid::make(1.5, 1.0, 1000);
  ASSERT_TRUE(grid);
  EXPECT_EQ(grid->step, 0x1p-16);
  EXPECT_EQ(grid->clip_units, 65536);
  EXPECT_GE(grid->deviation_units, 1.5 * 65536);
  EXPECT_LE(grid->square_bound, int64_t{65536} * 65536);
  EXPECT_GE(grid->square_bound, int64_t{65536} * 65536 - 1);
  EXPECT_EQ(NoiseGrid::make(0.7, 0.3, 1000)->step, 0x1p-19);
}

TEST(NoiseGrid, MoreDrawsMeanACoarserGridAndTooManyNone) {
  EXPECT_EQ(NoiseGrid::make(1, 1, 1.2e8)->step, 0x1p-16);
  EXPECT_EQ(NoiseGrid::make(1, 1, 1.3e8)->step, 0x1p-12);
  EXPECT_TRUE(NoiseGrid::make(1, 1, 3e10));
  EXPECT_FALSE(NoiseGrid::make(1, 1, 3.1e10));
}

TEST(Clip, NeverExceedsTheBoundWhateverTheGradient) {
  std::mt19937 random(1);
  for (double sigma : {0.5, 1.0, 7.3, 400.0}) {
    auto grid = *NoiseGrid::make(sigma, 0.9, 1000);
    for (int round = 0; round < 200; ++round) {
      std::vector<float> gradient(1 + random() % 3000);
      std::normal_distribution<float> normal(
          0, static_cast<float>(std::pow(10.0, static_cast<double>(random() % 12) - 6)));
      for (float& v : gradient) v = normal(random);
      std::vector<int32_t> units(gradient.size());
      clip_to_grid(gradient, grid, units);
      EXPECT_LE(square(units), grid.square_bound);
    }
  }
}

TEST(Clip, KeepsShortGradientsAndShortensLongOnesToTheBound) {
  auto grid = *NoiseGrid::make(1, 1, 1000);
  std::vector<float> gradient = {0.25F, -0.5F, 0.125F};
  std::vector<int32_t> units(3);
  clip_to_grid(gradient, grid, units);
  EXPECT_EQ(units, (std::vector<int32_t>{16384, -32768, 8192}));
  for (float& v : gradient) v *= 1e6F;
  clip_to_grid(gradient, grid, units);
  EXPECT_NEAR(std::sqrt(static_cast<double>(square(units))), 65536, 2);
  EXPECT_NEAR(units[1], -65536 * 0.5 / std::sqrt(0.0625 + 0.25 + 0.015625), 2);
}

TEST(Clip, RowsThatAreNotNumbersBecomeZero) {
  auto grid = *NoiseGrid::make(1, 1, 1000);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    std::vector<float> gradient(100, 0.01F);
    gradient[57] = bad;
    std::vector<int32_t> units(100, 9);
    clip_to_grid(gradient, grid, units);
    EXPECT_EQ(square(units), 0);
  }
  std::vector<float> largest(100, std::numeric_limits<float>::max());
  std::vector<int32_t> units(100);
  clip_to_grid(largest, grid, units);
  EXPECT_GT(square(units), 0);
  EXPECT_LE(square(units), grid.square_bound);
}

TEST(Noise, HasTheVarianceAndTheKurtosisOfAGaussian) {
  constexpr size_t kCount = 2'000'000;
  std::vector<double> normals(kCount);
  ChaCha20 random(key_of(3), 0);
  standard_normals(random, normals);
  double mean = 0, second = 0, fourth = 0;
  for (double x : normals) {
    mean += x;
    second += x * x;
    fourth += x * x * x * x;
  }
  const double n = kCount;
  EXPECT_LT(std::abs(mean / n), 5 / std::sqrt(n));
  EXPECT_LT(std::abs(second / n - 1), 5 * std::sqrt(2 / n));
  EXPECT_LT(std::abs(fourth / n - 3), 5 * std::sqrt(96 / n));
}

TEST(Noise, FillsAThousandEquallyLikelyCellsEvenly) {
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

TEST(Noise, TailsBeyondFourDeviationsAreAsFullAsTheyShould) {
  constexpr size_t kCount = 4'000'000;
  std::vector<double> normals(kCount);
  ChaCha20 random(key_of(5), 0);
  standard_normals(random, normals);
  for (double limit : {3.0, 4.0, 4.5}) {
    double expected = std::erfc(limit / std::sqrt(2.0)) * kCount;
    auto count = static_cast<double>(std::count_if(normals.begin(), normals.end(),
                                                   [&](double x) { return std::abs(x) > limit; }));
    EXPECT_LT(std::abs(count - expected), 5 * std::sqrt(expected)) << limit;
  }
}

TEST(Noise, NeighboursAndPairsAreUncorrelated) {
  constexpr size_t kCount = 1'000'000;
  std::vector<double> normals(kCount + 128);
  ChaCha20 random(key_of(6), 0);
  standard_normals(random, normals);
  for (size_t lag : {size_t{1}, size_t{2}, size_t{8}, size_t{63}, size_t{64},
                     size_t{128}}) {  // 128: cosine and sine of one pair
    double sum = 0;
    for (size_t i = 0; i < kCount; ++i) sum += normals[i] * normals[i + lag];
    EXPECT_LT(std::abs(sum), 5 * std::sqrt(double{kCount})) << lag;
  }
}

TEST(Noise, IntegersHaveTheDeviationAndUniformResidues) {
  auto grid = *NoiseGrid::make(1.3, 0.7, 1000);
  constexpr size_t kCount = 1'000'000;
  std::vector<int64_t> sums(kCount, 0);
  ChaCha20 random(key_of(7), 0);
  add_noise(random, grid, sums);
  double second = 0;
  for (int64_t z : sums) second += static_cast<double>(z) * static_cast<double>(z);
  double expected = grid.deviation_units * grid.deviation_units;
  EXPECT_LT(std::abs(second / kCount / expected - 1), 5 * std::sqrt(2.0 / kCount));
  for (int64_t modulus : {2, 3, 8, 1024}) {
    std::vector<double> counts(static_cast<size_t>(modulus), 0);
    for (int64_t z : sums) ++counts[static_cast<size_t>((z % modulus + modulus) % modulus)];
    double chi = 0, each = double{kCount} / static_cast<double>(modulus);
    for (double count : counts) chi += (count - each) * (count - each) / each;
    double freedom = static_cast<double>(modulus - 1);
    EXPECT_LT(chi, freedom + 5 * std::sqrt(2 * freedom) + 5) << modulus;
  }
}

TEST(Noise, IsAddedToTheSumAndIsOneStreamForOneKey) {
  auto grid = *NoiseGrid::make(1, 1, 1000);
  std::vector<int64_t> zero(1000, 0), shifted(1000, 123456), other(1000, 0);
  ChaCha20 a(key_of(8), 5), b(key_of(8), 5), c(key_of(8), 6);
  add_noise(a, grid, zero);
  add_noise(b, grid, shifted);
  add_noise(c, grid, other);
  for (size_t i = 0; i < zero.size(); ++i) EXPECT_EQ(shifted[i] - zero[i], 123456);
  EXPECT_NE(zero, other);
}

// The words of one piece, from the plain key stream: word w of sixteen blocks, side by side.
std::vector<uint64_t> words_of_piece(ChaCha20& source) {
  std::vector<uint64_t> words;
  for (int batch = 0; batch < 3; ++batch) {
    std::vector<uint8_t> stream(16 * 64);
    source.fill(std::span<uint8_t>(stream));
    auto word = [&](size_t w, size_t block) {
      uint32_t value = 0;
      std::memcpy(&value, stream.data() + 64 * block + 4 * w, 4);
      return uint64_t{value};
    };
    for (size_t w = 0; w < 16; ++w) {
      for (size_t block = 0; block < 16; block += 2)
        words.push_back(word(w, block) | word(w, block + 1) << 32);
    }
  }
  return words;
}

TEST(Noise, AgreesWithTheMathLibrary) {
  // The same words of the key stream of RFC 8439 through libm: 1e-14 is 30 times the error of
  // the polynomials.
  ChaCha20 source(key_of(9), 0), random(key_of(9), 0);
  constexpr size_t kPairs = kNormalsPerPiece / 2;
  for (int piece = 0; piece < 40; ++piece) {
    auto words = words_of_piece(source);
    std::vector<double> normals(kNormalsPerPiece);
    standard_normals(random, normals);
    for (size_t i = 0; i < kPairs; ++i) {
      long double u = std::ldexp(static_cast<long double>(words[i]), -64) +
                      std::ldexp(static_cast<long double>(words[kPairs + i]), -128);
      long double angle = std::ldexp(static_cast<long double>(words[2 * kPairs + i]), -64) * 2 *
                          3.14159265358979323846264338327950288L;
      long double radius = std::sqrt(-2 * std::log(u));
      EXPECT_NEAR(normals[i], static_cast<double>(radius * std::cos(angle)), 1e-14);
      EXPECT_NEAR(normals[kPairs + i], static_cast<double>(radius * std::sin(angle)), 1e-14);
    }
  }
}

TEST(Noise, IsTheSameToTheBitOnEveryCpu) {
  std::array<uint8_t, 32> key = key_of(21);
  ChaCha20 random(key, 7);
  std::vector<double> plain(40 * kNormalsPerPiece), other(plain.size());
  normal_pieces(random.state(), 0, plain, Lanes::kPlain);
  for (Lanes lanes : {Lanes::kAvx2, Lanes::kAvx512}) {
    if (lanes > lanes_of_this_cpu()) continue;
    normal_pieces(random.state(), 0, other, lanes);
    EXPECT_EQ(std::memcmp(plain.data(), other.data(), plain.size() * sizeof(double)), 0)
        << static_cast<int>(lanes);
  }
}

TEST(Noise, NoValueIsEverUsedForTwoSteps) {
  // The noise of a step comes from a key of its own: steps share no value, whatever their order.
  auto root = testing::root_of(4);
  std::vector<double> seen;
  for (uint64_t step = 0; step < 64; ++step) {
    auto key = derive_key(root, "noise", step);
    ChaCha20 random(key.bytes(SecretAccess()), 0);
    std::vector<double> normals(1024);
    standard_normals(random, normals);
    seen.insert(seen.end(), normals.begin(), normals.end());
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(Noise, PassesTheTestOfAndersonAndDarling) {
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

TEST(Sampling, BatchSizesAreBinomial) {
  auto root = testing::root_of(1);
  constexpr uint64_t kRows = 1000, kSteps = 4000;
  const double q = 0.05;
  auto threshold = static_cast<uint64_t>(std::ldexp(q, 64));
  std::vector<double> hits(kRows, 0);
  double sum = 0, squares = 0;
  std::vector<uint64_t> batch;
  for (uint64_t step = 0; step < kSteps; ++step) {
    poisson_batch(derive_key(root, "sample", step), kRows, threshold, batch);
    EXPECT_TRUE(std::is_sorted(batch.begin(), batch.end()));
    for (uint64_t row : batch) ++hits[row];
    auto size = static_cast<double>(batch.size());
    sum += size;
    squares += size * size;
  }
  double mean = sum / kSteps, variance = squares / kSteps - mean * mean,
         expected = kRows * q * (1 - q);
  EXPECT_LT(std::abs(mean - kRows * q), 5 * std::sqrt(expected / kSteps));
  EXPECT_LT(std::abs(variance / expected - 1), 5 * std::sqrt(2.0 / kSteps));
  double chi = 0;
  for (double count : hits)
    chi += (count - kSteps * q) * (count - kSteps * q) / (kSteps * q * (1 - q));
  EXPECT_LT(std::abs(chi - kRows), 5 * std::sqrt(2.0 * kRows));
}

TEST(Sampling, StepsPurposesAndRootsGiveOtherKeys) {
  auto root = testing::root_of(1);
  auto key = derive_key(root, "sample", 1);
  EXPECT_TRUE(key == derive_key(root, "sample", 1));
  EXPECT_FALSE(key == derive_key(root, "sample", 2));
  EXPECT_FALSE(key == derive_key(root, "noise", 1));
  EXPECT_FALSE(key == derive_key(testing::root_of(2), "sample", 1));
}

TEST(Sampling, KeysAreThoseOfTheSpecification) {
  auto root = testing::root_of(3);
  KeySchedule keys(root);
  for (uint64_t step : {uint64_t{0}, uint64_t{7}, UINT64_MAX - 1}) {
    Bytes info = to_bytes("noise/");
    for (int i = 0; i < 8; ++i) info.push_back(static_cast<uint8_t>(step >> (8 * i)));
    const Bytes plain =
        ledger::hkdf(root.bytes(SecretAccess()), as_bytes("souk/engine/v1"), info, 32);
    const auto key = Secret<32>::copy_of(std::span<const uint8_t, 32>(plain.data(), 32));
    EXPECT_TRUE(keys.derive("noise", step) == key);
    EXPECT_TRUE(derive_key(root, "noise", step) == key);
  }
}

TEST(Sampling, NoBatchOutgrowsItsCapacity) {
  EXPECT_EQ(poisson_capacity(10, UINT64_MAX), 10u);
  EXPECT_EQ(poisson_capacity(1'000'000, 0), 64u);
  const uint64_t tenth = UINT64_MAX / 10;
  EXPECT_GT(poisson_capacity(1'000'000, tenth), 103'000u);
  EXPECT_LT(poisson_capacity(1'000'000, tenth), 105'000u);
}

TEST(Sampling, ShuffledEpochsShowEveryRowOnce) {
  ShuffledRows rows(testing::root_of(1), 10);
  std::vector<uint64_t> first, second, batch;
  for (uint64_t step = 0; step < 5; ++step) {
    rows.batch(step, 4, batch);
    ASSERT_EQ(batch.size(), 4u);
    for (uint64_t row : batch) (first.size() < 10 ? first : second).push_back(row);
  }
  EXPECT_NE(first, second);
  for (auto* epoch : {&first, &second}) {
    std::sort(epoch->begin(), epoch->end());
    for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ((*epoch)[i], i);
  }
}

}  // namespace
}  // namespace souk::trainer
