#include "trainer/engine/noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/release.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

std::array<uint8_t, 32> key_of(uint8_t byte) {
  std::array<uint8_t, 32> key{};
  key.fill(byte);
  return key;
}

// Sums through the release, as integers of the noise grid.
std::vector<int64_t> released(ChaCha20& random, const NoiseGrid& grid, std::vector<int64_t> sums) {
  std::vector<float> noisy(sums.size());
  FixedPoint(grid).release(random, sums, 1 / grid.step, noisy);
  std::vector<int64_t> out;
  for (float x : noisy) out.push_back(std::llround(x));  // below 2^24: exact
  return out;
}

TEST(NoiseGrid, StepIsThePowerOfTwoTheSpecSays) {
  auto grid = NoiseGrid::make(1.5, 1.0, 1000);
  ASSERT_TRUE(grid);
  EXPECT_EQ(grid->step, 0x1p-16);
  EXPECT_GE(grid->deviation_units, 1.5 * 65536);
  EXPECT_EQ(NoiseGrid::make(0.7, 0.3, 1000)->step, 0x1p-19);
}

TEST(NoiseGrid, MoreDrawsMeanACoarserGridAndTooManyNone) {
  EXPECT_EQ(NoiseGrid::make(1, 1, 1.2e8)->step, 0x1p-16);
  EXPECT_EQ(NoiseGrid::make(1, 1, 1.3e8)->step, 0x1p-12);
  EXPECT_TRUE(NoiseGrid::make(1, 1, 3e10));
  EXPECT_FALSE(NoiseGrid::make(1, 1, 3.1e10));
}

TEST(Noise, IsAddedToTheSumAndIsOneStreamForOneKey) {
  auto grid = *NoiseGrid::make(1, 1, 1000);
  // One step of the grid is 2^14 units of the sums: 2^-16 against 2^-30.
  constexpr int64_t kStep = 1 << 14, kShift = 123'456;
  ChaCha20 a(key_of(8), 5), b(key_of(8), 5), c(key_of(8), 6);
  const auto zero = released(a, grid, std::vector<int64_t>(1000, 0));
  const auto shifted = released(b, grid, std::vector<int64_t>(1000, kShift * kStep));
  for (size_t i = 0; i < zero.size(); ++i) EXPECT_EQ(shifted[i] - zero[i], kShift);
  EXPECT_NE(zero, released(c, grid, std::vector<int64_t>(1000, 0)));
}

TEST(Noise, IsRoundedTogetherWithWhatTheSumIsPastAGridStep) {
  // round(S / g + noise) in long double; halves are no matter of 64 random bits.
  auto grid = *NoiseGrid::make(1.3, 0.7, 1000);
  constexpr size_t kCount = 20'000;
  const double unit = std::ldexp(1.0, std::ilogb(grid.clip) - 30);
  std::vector<int64_t> sums(kCount);
  std::mt19937_64 words(12);
  for (auto& sum : sums) sum = static_cast<int64_t>(words()) >> 28;
  std::vector<double> normals(kCount);
  ChaCha20 a(key_of(12), 0), b(key_of(12), 0);
  standard_normals(a, normals);
  const auto out = released(b, grid, sums);
  for (size_t i = 0; i < kCount; ++i) {
    const long double exact = static_cast<long double>(sums[i]) * unit / grid.step +
                              static_cast<long double>(normals[i]) * grid.deviation_units;
    EXPECT_LT(std::abs(static_cast<long double>(out[i]) - exact), 0.5L + 1e-9L) << i;
  }
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

TEST(Noise, FewNormalsAreTheFirstOfMany) {
  ChaCha20 random(key_of(22), 1);
  std::vector<double> many(6 * kNormalsPerPiece);
  normal_pieces(random.state(), 0, many, Lanes::kPlain);
  for (size_t count = 1; count < many.size(); ++count) {
    ChaCha20 own(key_of(22), 1);
    std::vector<double> few(count);
    standard_normals(own, few);
    ASSERT_EQ(std::memcmp(few.data(), many.data(), count * sizeof(double)), 0) << count;
  }
}

TEST(Noise, WhatStandsBehindTakesTheFirstSinesLeftOverAndNoNormalTwice) {
  auto grid = *NoiseGrid::make(1.3, 0.7, 1000);
  const FixedPoint fixed(grid);
  ChaCha20 source(key_of(23), 1);
  const auto all = released(source, grid, std::vector<int64_t>(10'000, 0));
  for (size_t count : std::initializer_list<size_t>{1, 40, 62, 127, 128, 129, 200, 255, 256, 257,
                                                    300, 4000, 4095, 4096}) {
    // The second half of the last piece, or what is left of it.
    const size_t pieces = (count + 255) / 256, first = std::max(count, 256 * pieces - 128);
    for (size_t behind :
         std::initializer_list<size_t>{0, 1, 17, 43, 62, 128, 129, 256, 300, 4096}) {
      ChaCha20 random(key_of(23), 1);
      std::vector<int64_t> sums(count), more(behind);
      std::vector<float> out(count), out_behind(behind);
      fixed.release(random, sums, 0.5 / grid.step, out, {more, out_behind});
      for (size_t i = 0; i < count; ++i)
        ASSERT_EQ(std::llround(2 * out[i]), all[i]) << count << " " << behind << " " << i;
      for (size_t i = 0; i < behind; ++i)
        ASSERT_EQ(std::llround(out_behind[i] / grid.step), all[first + i])
            << count << " " << behind << " " << i;
    }
  }
}

TEST(Noise, WhatStandsBehindKeepsItsSums) {
  auto grid = *NoiseGrid::make(1, 1, 1000);
  const FixedPoint fixed(grid);
  constexpr int64_t kStep = 1 << 14;  // units to a step of the grid
  std::vector<float> out[2] = {std::vector<float>(62), std::vector<float>(62)},
                     more[2] = {std::vector<float>(200), std::vector<float>(200)};
  for (int64_t moved : {0, 1}) {
    ChaCha20 random(key_of(24), 2);
    std::vector<int64_t> sums(62), behind(200);
    for (int64_t i = 0; i < 200; ++i) behind[static_cast<size_t>(i)] = moved * kStep * 1000 * i;
    fixed.release(random, sums, 1, out[moved], {behind, more[moved]});
    EXPECT_EQ(behind, std::vector<int64_t>(200, 0));
  }
  EXPECT_EQ(out[0], out[1]);
  for (size_t i = 0; i < 200; ++i)
    EXPECT_EQ(std::llround((more[1][i] - more[0][i]) / grid.step), 1000 * static_cast<int64_t>(i));
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

}  // namespace
}  // namespace souk::trainer
