// Very many steps, and many kinds of them, composed block by block.
#include "policy/privacy/blocks.h"

#include <gtest/gtest.h>

#include <cmath>

#include "policy/privacy/bounds.h"
#include "policy/privacy/composition.h"
#include "policy/privacy/moments.h"
#include "tests/policy/privacy/contour_oracle.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove;
constexpr auto kReplaceOne = Adjacency::kReplaceOne;
using Kind = Mechanism::Kind;

constexpr double kOracle = 1e-5;  // what the contour integral is right to, here

void expect_exact_between(const std::vector<Mechanism>& list, Adjacency adjacency, double delta,
                          double width) {
  const auto bounds = *epsilon_bounds(list, adjacency, delta);
  const double worst = bounds.worst().upper;
  ASSERT_TRUE(std::isfinite(worst));
  for (const bool remove : {true, false}) {
    const Bounds& own = remove ? bounds.remove : bounds.add;
    EXPECT_LE(oracle::delta(list, adjacency, remove, own.upper), delta * (1 + kOracle)) << remove;
    if (own.lower == 0) continue;
    EXPECT_GE(oracle::delta(list, adjacency, remove, own.lower), delta * (1 - kOracle)) << remove;
  }
  EXPECT_LE(worst, bounds.worst().lower * (1 + width) + 1e-4);
}

std::vector<Mechanism> list_of(const char* text) {
  return parse_mechanisms(text)->all;
}

TEST(Blocks, OfABillionStepsHoldTheContourIntegralBetweenThem) {
  expect_exact_between(list_of("psg:q=1e-5,sigma=1,T=1000000007"), kAddRemove, 1e-6, 1.1e-3);
  expect_exact_between(list_of("psg:q=1e-5,sigma=4,T=890539301"), kReplaceOne, 2.58e-14, 1.1e-3);
  expect_exact_between(list_of("psg:q=0.001,sigma=1.2,T=30000001"), kAddRemove, 1e-9, 1.1e-3);
  expect_exact_between(list_of("psgu:q=1e-6,sigma=4,T=999999937,k=7"), kAddRemove, 1e-6, 1.1e-3);
}

TEST(Blocks, OfABillionStepsAmongOthersHoldTheContourIntegralBetweenThem) {
  expect_exact_between(
      list_of("psg:q=1e-5,sigma=1,T=1000000000;gauss:sigma=9,T=2;lap:b=8,T=1;pure:eps=0.01,T=9"),
      kAddRemove, 1e-6, 1.1e-3);
  expect_exact_between(list_of("lap:b=100000,T=1000000000;pure:eps=0.00001,T=100000000"),
                       kAddRemove, 1e-6, 1e-2);
}

TEST(Blocks, OfDeltaHoldTheContourIntegralBetweenThem) {
  const auto list = list_of("psg:q=1e-5,sigma=3,T=1000000000");
  for (const double epsilon : {0.3, 1.0, 2.0}) {
    const auto bounds = *delta_bounds(list, kAddRemove, epsilon);
    for (const bool remove : {true, false}) {
      const double exact = oracle::delta(list, kAddRemove, remove, epsilon);
      EXPECT_GE((remove ? bounds.remove : bounds.add).upper, exact * (1 - kOracle)) << epsilon;
      EXPECT_LE((remove ? bounds.remove : bounds.add).lower, exact * (1 + kOracle)) << epsilon;
    }
    EXPECT_LE(bounds.worst().upper, 1.02 * bounds.worst().lower) << epsilon;
  }
}

TEST(Blocks, OfManyKindsOfManyStepsHoldTheContourIntegralBetweenThem) {
  std::vector<Mechanism> list;
  for (int i = 0; i < 50; ++i) {
    const double share = i / 50.0;
    list.push_back({Kind::kSampledGaussian, 1e-4 * std::exp(4 * share), 0.9 + 3 * (1 - share),
                    static_cast<uint64_t>(20 + 97 * i)});
  }
  for (int i = 0; i < 10; ++i) {
    list.push_back({Kind::kGaussian, 1, 200.0 + 30 * i, static_cast<uint64_t>(1 + 3 * i)});
    list.push_back({Kind::kLaplace, 1, 120.0 + 40 * i, static_cast<uint64_t>(1 + 5 * i)});
    list.push_back({Kind::kPure, 1, 0.001 + 2e-4 * i, static_cast<uint64_t>(1 + 2 * i)});
  }
  expect_exact_between(list, kAddRemove, 1e-6, 6e-3);
}

TEST(Blocks, CountAllSteps) {
  // A count that no block divides costs what its neighbours cost.
  const Bounds
      fewer = epsilon_bounds(list_of("psg:q=1e-5,sigma=1,T=999999999"), kAddRemove, 1e-6)->worst(),
      more = epsilon_bounds(list_of("psg:q=1e-5,sigma=1,T=1000000001"), kAddRemove, 1e-6)->worst(),
      half = epsilon_bounds(list_of("psg:q=1e-5,sigma=1,T=500000000;"
                                    "psg:q=1.00000001e-5,sigma=1,T=500000000"),
                            kAddRemove, 1e-6)
                 ->worst();
  EXPECT_LE(fewer.lower, more.upper);
  EXPECT_GE(more.upper, half.lower);
  EXPECT_LE(more.lower, half.upper);
}

// Both directions are looked at as closely, at whatever place the end of the support lies.
TEST(Steps, AreAsTightFromBelowAsFromAboveInBothDirections) {
  for (const double q : {1e-4, 1e-3, 0.01}) {
    for (const double sigma : {0.7, 1.0, 2.0}) {
      for (const Direction direction : {Direction::kRemove, Direction::kAdd}) {
        const Mechanism mechanism{Kind::kSampledGaussian, q, sigma, 1};
        const LossPair pair = dominating_pair(mechanism, kAddRemove, direction);
        for (double kappa = 0.01; kappa < 0.2; kappa *= 1.3) {
          const StepLoss step = discretise(pair, 1, {kappa * pair.spread, 0.005, 10});
          const double upper = moment_of(step.upper, 4), lower = moment_of(step.lower, 4);
          EXPECT_LE(lower, upper);
          EXPECT_GE(lower, upper * (0.99 - 4 * kappa * kappa))
              << q << " " << sigma << " " << kappa << " " << static_cast<int>(direction);
        }
      }
    }
  }
}

TEST(Steps, LoseNoProbabilityWhereTheirRareEndsAreCutOff) {
  const Mechanism mechanism{Kind::kSampledGaussian, 0.01, 0.8, 1};
  for (const Direction direction : {Direction::kRemove, Direction::kAdd}) {
    StepLoss step =
        discretise(dominating_pair(mechanism, kAddRemove, direction), 1, {1e-3, 0.02, 20});
    const StepLoss whole = step;
    trim(step, 1e-7, 1e-5);
    EXPECT_LT(step.at.size(), whole.at.size());
    EXPECT_LT(step.upper.loss.back(), whole.upper.loss.back());
    double before = whole.infinite, after = step.infinite, lower_before = 0, lower_after = 0;
    for (const double mass : whole.upper.mass) before += mass;
    for (const double mass : step.upper.mass) after += mass;
    for (const double mass : whole.lower.mass) lower_before += mass;
    for (const double mass : step.lower.mass) lower_after += mass;
    EXPECT_NEAR(after, before, 1e-14);
    EXPECT_LE(step.infinite - whole.infinite, 1e-7);
    EXPECT_LE(lower_after, lower_before);
    EXPECT_GE(lower_after, lower_before - 1.1e-5);
  }
}

}  // namespace
}  // namespace souk::policy
