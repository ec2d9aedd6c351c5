// What a private step does to rows whose gradients are known: at which rate each dataset is drawn,
// what one row can move, what the sum is divided by, and that its noise hides one batch and no
// other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/clipping.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

using contracts::PoolMember;
using contracts::TrainingSpec;

static_assert(!std::is_copy_constructible_v<NoiseRoot>, "a root is used up by its run");

// Squared error of w x, w = 0 and held there by a rate of nothing: a row (g, 1) has gradient g, a
// row of zeros has none.
TrainingSpec linear_spec(uint32_t width, uint32_t steps, double q, double clip, double sigma) {
  auto spec = testing::plain_spec({width}, 2, {testing::linear(1, false)}, steps, 1e-30);
  spec.loss = TrainingSpec::Loss::kMse;
  testing::make_private(spec, q, clip, sigma);
  return spec;
}

struct Rows {
  uint32_t width;
  std::vector<float> features;
  std::vector<int64_t> labels;
  // `size` along coordinate `along`.
  void add(uint32_t along, double size) {
    features.resize(features.size() + width, 0.0F);
    features[features.size() - width + along] = static_cast<float>(-0.5 * size);
    labels.push_back(1);
  }
};

// Sums released: [step * width + coordinate], in units of the contract's clip.
std::vector<double> released(const TrainingSpec& spec, const Rows& rows, uint8_t root,
                             std::vector<uint64_t> parts = {}, unsigned threads = 1) {
  Model zero;
  zero.tensors.push_back({"1.weight", {1, rows.width}, std::vector<float>(rows.width, 0.0F)});
  auto workers = Workers::start(threads).take();
  auto run = TrainingRun::create(
      spec, {Features(std::span<const float>(rows.features)), rows.labels, parts},
      testing::root_of(root), *workers, &zero);
  EXPECT_TRUE(run) << run.error().expected();
  std::vector<double> seen(uint64_t{rows.width} * spec.steps);
  run->watch_releases([&](uint64_t first, std::span<const float> values) {
    for (size_t i = 0; i < values.size(); ++i)
      seen[run->steps_done() * uint64_t{rows.width} + first + i] =
          double{values[i]} * spec.batch / spec.privacy->clip;
  });
  EXPECT_TRUE(run->run_to_end());
  return seen;
}

TrainingSpec pooled(TrainingSpec spec, std::vector<PoolMember> pool) {
  spec.sampling_threshold = 0;
  for (auto& member : pool) {
    member.epsilon_micro = spec.privacy->epsilon_micro;
    spec.sampling_threshold = std::max(spec.sampling_threshold, member.sampling_threshold);
  }
  spec.privacy->pool = std::move(pool);
  EXPECT_TRUE(contracts::check_spec(spec));
  return spec;
}

uint64_t threshold(double q) {
  return static_cast<uint64_t>(std::ldexp(q, 64));
}

// ---- a pool -----------------------------------------------------------------------

TEST(PooledStep, EachDatasetIsDrawnAtItsOwnRateAndClippedToItsOwnNorm) {
  constexpr uint32_t kSteps = 400;
  const double rates[] = {0.5, 0.1, 0.0625}, clips[] = {0.25, 1, 0.125}, sigma = 0.05;
  const std::vector<uint64_t> parts = {60, 100, 300};
  auto spec = linear_spec(3, kSteps, 0.5, 1, sigma);
  std::vector<PoolMember> pool;
  Rows rows{3, {}, {}};
  for (uint32_t i = 0; i < 3; ++i) {
    pool.push_back({clips[i], 0, threshold(rates[i])});
    for (uint64_t row = 0; row < parts[i]; ++row) rows.add(i, 1000);  // far past every norm
  }
  auto seen = released(pooled(spec, pool), rows, 5, parts);
  for (uint32_t i = 0; i < 3; ++i) {
    double sum = 0, square = 0;
    for (uint32_t step = 0; step < kSteps; ++step) {
      const double drawn = seen[step * 3 + i] / (clips[i] * (1 - kClipMargin));
      sum += drawn;
      square += drawn * drawn;
    }
    const double n = static_cast<double>(parts[i]), q = rates[i], mean = sum / kSteps,
                 variance = square / kSteps - mean * mean,
                 expected = n * q * (1 - q) + std::pow(sigma / clips[i], 2);
    EXPECT_NEAR(mean, n * q, 5 * std::sqrt(expected / kSteps)) << i;
    EXPECT_NEAR(variance / expected, 1, 5 * std::sqrt(2.5 / kSteps)) << i;
  }
}

TEST(PooledStep, ARowMovesTheSumByAtMostTheNormOfItsDatasetUnderEveryClipping) {
  using Clipping = contracts::PrivacySpec::Clipping;
  for (auto clipping : {Clipping::kFlat, Clipping::kPerLayer, Clipping::kAutomatic}) {
    const double clips[] = {0.125, 0.5, 1};
    const std::vector<uint64_t> parts = {7, 9, 5};
    // All are drawn, without noise to speak of, beside rows of the other datasets.
    auto spec = linear_spec(2, 1, 1, 1, 0.02);
    spec.privacy->clipping = clipping;
    std::vector<PoolMember> pool;
    Rows rows{2, {}, {}};
    for (size_t i = 0; i < 3; ++i) {
      pool.push_back({clips[i], 0, UINT64_MAX});
      for (uint64_t row = 0; row < parts[i]; ++row) rows.add(0, 3.7);
    }
    spec = pooled(spec, pool);
    auto with = released(spec, rows, 3, parts);
    uint64_t first = 0;
    for (size_t i = 0; i < 3; first += parts[i++]) {
      for (uint64_t row : {first, first + parts[i] - 1}) {  // both ends: no row is another's
        auto fewer = rows;
        fewer.labels[row] = 0;  // counts as nothing
        auto without = released(spec, fewer, 3, parts);
        const double moved = std::abs(with[0] - without[0]);
        EXPECT_LE(moved, clips[i]) << i << " " << row;
        EXPECT_GE(moved, clips[i] * 0.97) << i << " " << row;
      }
    }
  }
}

TEST(PooledStep, ThreadsAndShardsDoNotMoveARowIntoAnotherDataset) {
  const std::vector<uint64_t> parts = {50, 3, 70};
  auto spec = linear_spec(1, 20, 0.5, 1, 0.5);
  Rows rows{1, {}, {}};
  for (int i = 0; i < 123; ++i) rows.add(0, 1 + i % 5);
  spec =
      pooled(spec, {{0.3, 0, threshold(0.5)}, {1, 0, threshold(0.9)}, {0.2, 0, threshold(0.125)}});
  auto one = released(spec, rows, 9, parts);
  EXPECT_EQ(one, released(spec, rows, 9, parts, 3));
  // Shards only round their sums apart, far below what a row is.
  spec.shard = 1;
  auto apart = released(spec, rows, 9, parts);
  for (size_t step = 0; step < one.size(); ++step) EXPECT_NEAR(one[step], apart[step], 1e-3);
}

TEST(PooledStep, RowsThatDoNotSayWhoseTheyAreAreRefused) {
  Rows rows{1, {}, {}};
  for (int i = 0; i < 10; ++i) rows.add(0, 1);
  auto spec = linear_spec(1, 1, 0.5, 1, 1);
  spec = pooled(spec, {{0.5, 0, threshold(0.5)}, {1, 0, threshold(0.5)}});
  auto workers = Workers::start(1).take();
  for (const std::vector<uint64_t>& parts :
       std::vector<std::vector<uint64_t>>{{}, {10}, {5, 4}, {5, 6}, {4, 3, 3}}) {
    auto run = TrainingRun::create(
        spec, {Features(std::span<const float>(rows.features)), rows.labels, parts},
        testing::root_of(1), *workers);
    ASSERT_FALSE(run);
    EXPECT_EQ(run.error().code(), Code::kMalformed);
  }
}

TEST(PooledStep, EachClaimIsComparedWithItsOwnCost) {
  Rows rows{1, {}, {}};
  for (int i = 0; i < 10; ++i) rows.add(0, 1);
  const std::vector<uint64_t> parts = {5, 5};
  auto workers = Workers::start(1).take();
  auto ask = [&](double first_claim, double second_claim) {
    auto spec = linear_spec(1, 50, 0.5, 1, 1);
    spec.privacy->delta_pico = 10'000'000;
    auto micro = [](double epsilon) { return static_cast<int64_t>(epsilon * 1e6); };
    spec.privacy->pool = {{0.25, micro(first_claim), threshold(0.0625)},
                          {1, micro(second_claim), threshold(0.5)}};
    spec.privacy->epsilon_micro = micro(std::max(first_claim, second_claim));
    return TrainingRun::create(
        spec, {Features(std::span<const float>(rows.features)), rows.labels, parts},
        testing::root_of(1), *workers);
  };
  EXPECT_TRUE(ask(0.7, 40));
  EXPECT_EQ(ask(0.1, 40).error().code(), Code::kRefused);  // its own cost is above
  EXPECT_EQ(ask(40, 0.7).error().code(), Code::kRefused);  // the other's claim is no help
}

// ---- constants --------------------------------------------------------------------

TEST(PrivateStep, IsDividedByTheContractsConstantWhateverWasDrawn) {
  // Everybody is drawn, each row is clipped to one: what comes out is their number over `batch`.
  for (uint32_t batch : {1U, 7U, 4096U}) {
    for (uint64_t count : {0U, 1U, 10U, 33U}) {
      auto spec = linear_spec(1, 1, 1, 1, 0.02);
      spec.sampling_threshold = count == 0 ? 1 : UINT64_MAX;  // nobody; everybody
      spec.batch = batch;
      Rows rows{1, {}, {}};
      for (uint64_t i = 0; i < std::max<uint64_t>(count, 1); ++i) rows.add(0, 50);
      // released() multiplies by `batch`: the sum, and not a mean over what was drawn.
      EXPECT_NEAR(released(spec, rows, 4)[0], static_cast<double>(count) * (1 - kClipMargin), 0.12);
    }
  }
}

TEST(PrivateStep, RateBatchAndClipAreThoseOfTheSpecificationWhateverTheRows) {
  // The same rows but for one that counts as nothing, or is enormous: each other row's part of
  // the sum is the same to the bit, so no constant was taken from the rows.
  auto spec = linear_spec(2, 30, 0.4, 0.5, 0.02);
  Rows rows{2, {}, {}};
  for (int i = 0; i < 50; ++i) rows.add(0, 0.01 * i);
  rows.add(1, 1);
  auto before = released(spec, rows, 6);
  for (float size : {0.0F, 1e-6F, 1e6F}) {
    auto other = rows;
    other.features.back() = size;
    auto after = released(spec, other, 6);
    for (size_t i = 0; i < after.size(); i += 2) ASSERT_EQ(after[i], before[i]) << size << " " << i;
  }
}

// ---- noise ------------------------------------------------------------------------

TEST(PrivateStep, NoNoiseValueIsEverUsedWithTwoDifferentBatches) {
  // Three streams of noise wide. Every step draws another batch of rows whose sum is known; what
  // is left of the release without it is the noise, on its grid.
  constexpr uint32_t kWidth = 9000, kSteps = 60, kRows = 40;
  const double sigma = 1.5;
  auto spec = linear_spec(kWidth, kSteps, 0.5, 1, sigma);
  Rows rows{kWidth, {}, {}};
  for (uint32_t i = 0; i < kRows; ++i) rows.add(i * 223 % kWidth, 0.5);
  auto seen = released(spec, rows, 8, {}, 2);
  // Who was in which batch, by the specification's own words.
  std::vector<std::vector<uint64_t>> batches(kSteps);
  for (uint32_t step = 0; step < kSteps; ++step) {
    poisson_batch(derive_key(testing::root_of(8), "sample", step), kRows, spec.sampling_threshold,
                  batches[step]);
    for (uint64_t row : batches[step])
      seen[step * uint64_t{kWidth} + row * 223 % kWidth] -= 0.5 * (1 - 0x1p-22);
  }
  EXPECT_EQ(std::adjacent_find(batches.begin(), batches.end()), batches.end());
  // Sixteen neighbours of the noise, wherever in the run they are, stand nowhere else in it.
  using Block = std::array<int64_t, 16>;
  std::vector<Block> blocks;
  for (size_t at = 0; at + 16 <= seen.size(); at += 16) {
    Block block;
    for (size_t i = 0; i < 16; ++i) block[i] = std::llround(seen[at + i] * 4096);
    blocks.push_back(block);
  }
  std::sort(blocks.begin(), blocks.end());
  EXPECT_EQ(std::adjacent_find(blocks.begin(), blocks.end()), blocks.end());
  // Nor is one step's noise a multiple of another's, at any of the first places of each stream.
  for (uint32_t a = 0; a < kSteps; ++a) {
    for (uint32_t b = a + 1; b < kSteps; ++b) {
      double dot = 0;
      for (uint32_t i = 0; i < kWidth; ++i)
        dot += seen[a * uint64_t{kWidth} + i] * seen[b * uint64_t{kWidth} + i];
      ASSERT_LT(std::abs(dot) / (sigma * sigma), 6 * std::sqrt(double{kWidth})) << a << " " << b;
    }
  }
}

TEST(PrivateStep, AStepIsTakenOnceAndAFailedRunTakesNoMore) {
  Rows rows{4, {}, {}};
  for (int i = 0; i < 10; ++i) rows.add(0, 1);
  auto spec = linear_spec(4, 2, 0.5, 1, 1);
  auto workers = Workers::start(1).take();
  auto run =
      TrainingRun::create(spec, {Features(std::span<const float>(rows.features)), rows.labels},
                          testing::root_of(1), *workers);
  ASSERT_TRUE(run);
  uint32_t seen = 0;
  run->watch_releases([&](uint64_t, std::span<const float>) {
    if (++seen == 2) throw std::bad_alloc();  // after the second step's noise was drawn
  });
  EXPECT_TRUE(run->step());
  EXPECT_FALSE(run->step());
  for (int again = 0; again < 3; ++again) {
    auto status = run->step();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), Code::kBroken);
  }
  EXPECT_EQ(seen, 2U);  // nothing was released again
  EXPECT_EQ(run->finish().error().code(), Code::kBroken);
}

}  // namespace
}  // namespace souk::trainer
