#include "trainer/engine/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "ledger/crypto/kdf.h"
#include "tests/trainer/engine/support.h"
#include "trainer/engine/chacha.h"

namespace souk::trainer {
namespace {

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

TEST(Sampling, WhoIsDrawnSaysNothingAboutAnyoneElseInThisStepOrTheNext) {
  // Rows at the beginning, around the end of the first 512 words, at the end of the first part
  // and in another, of another rate.
  constexpr uint64_t kSteps = 20'000;
  const double rates[] = {0.3, 0.0625};
  const Part parts[] = {{600, static_cast<uint64_t>(std::ldexp(rates[0], 64))},
                        {40, static_cast<uint64_t>(std::ldexp(rates[1], 64))}};
  std::vector<uint64_t> watched;
  for (uint64_t first : {uint64_t{0}, uint64_t{508}, uint64_t{596}, uint64_t{632}}) {
    for (uint64_t i = 0; i < 8; ++i) watched.push_back(first + i);
  }
  // deviations[row][step]: 1 - q or -q, over the root of q (1 - q).
  std::vector<std::vector<double>> deviations(watched.size(), std::vector<double>(kSteps));
  KeySchedule keys(testing::root_of(2));
  std::vector<uint64_t> batch;
  for (uint64_t step = 0; step < kSteps; ++step) {
    poisson_batch(keys.derive("sample", step), parts, batch);
    for (size_t r = 0; r < watched.size(); ++r) {
      const double q = rates[watched[r] < 600 ? 0 : 1];
      const bool drawn = std::binary_search(batch.begin(), batch.end(), watched[r]);
      deviations[r][step] = ((drawn ? 1 : 0) - q) / std::sqrt(q * (1 - q));
    }
  }
  for (uint64_t lag = 0; lag <= 2; ++lag) {
    double chi = 0, pairs = 0;
    for (size_t a = 0; a < watched.size(); ++a) {
      for (size_t b = lag == 0 ? a + 1 : 0; b < watched.size(); ++b) {
        double sum = 0;
        for (uint64_t step = 0; step + lag < kSteps; ++step)
          sum += deviations[a][step] * deviations[b][step + lag];
        const double off = sum / std::sqrt(static_cast<double>(kSteps - lag));
        EXPECT_LT(std::abs(off), 5) << watched[a] << ", " << lag << " later " << watched[b];
        chi += off * off;
        ++pairs;
      }
    }
    EXPECT_LT(std::abs(chi - pairs), 5 * std::sqrt(2 * pairs)) << lag;
  }
}

TEST(Sampling, ADrawIsTheWordsOfTheStreamBelowTheThreshold) {
  const auto key = derive_key(testing::root_of(6), "sample", 9);
  const Part parts[] = {
      {700, uint64_t{1} << 62}, {1, UINT64_MAX}, {0, 5}, {900, 0}, {513, 1ULL << 63}};
  std::vector<uint64_t> words(700 + 1 + 900 + 513), expected, batch{77};
  ChaCha20 random(key.bytes(SecretAccess()), 0);
  random.fill(std::span<uint64_t>(words));
  uint64_t row = 0;
  for (const Part& part : parts) {
    for (uint64_t i = 0; i < part.rows; ++i, ++row) {
      if (words[row] < part.threshold) expected.push_back(row);
    }
  }
  poisson_batch(key, parts, batch);
  EXPECT_EQ(batch, expected);
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
