// Lists of many different mechanisms: answered by composition, at a cost that grows with the list.
#include <gtest/gtest.h>

#include <cmath>

#include "policy/privacy/bounds.h"
#include "policy/privacy/renyi.h"
#include "policy/privacy/work.h"
#include "tests/policy/privacy/contour_oracle.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove;
using Kind = Mechanism::Kind;

// `count` different sampled Gaussians: rates from q to (1 + wide) q, in a scattered order.
std::vector<Mechanism> sampled(size_t count, double q, double wide, double sigma, uint64_t steps) {
  std::vector<Mechanism> out;
  for (size_t i = 0; i < count; ++i) {
    const double share = static_cast<double>((i * 7919) % count) / static_cast<double>(count);
    out.push_back({Kind::kSampledGaussian, q * (1 + wide * share), sigma, steps + i % 3});
  }
  return out;
}

#ifdef SOUK_SANITIZED
constexpr uint32_t kShorter = 5;  // lists: each takes five times as long
#else
constexpr uint32_t kShorter = 1;
#endif

uint64_t units_of(const std::vector<Mechanism>& list) {
  constexpr uint64_t kPlenty = 1'000'000'000'000;
  WorkBudget budget(kPlenty);
  EXPECT_TRUE(budget.run([&] { EXPECT_TRUE(epsilon_bounds(list, kAddRemove, 1e-6)); }));
  return kPlenty - budget.left();
}

TEST(Lists, OfHalfAHundredDifferentKindsHoldTheContourIntegralBetweenThem) {
  std::vector<Mechanism> list = sampled(40, 0.002, 3, 0.8, 4);
  for (int i = 0; i < 10; ++i) {
    list.push_back({Kind::kSampledUser, 0.003, 2 + 0.1 * i, 5, 3});
    list.push_back({Kind::kLaplace, 1, 20.0 + i, 1});
    list.push_back({Kind::kPure, 1, 0.01 + 0.003 * i, 2});
  }
  constexpr double kDelta = 1e-5;
  const Bounds bounds = epsilon_bounds(list, kAddRemove, kDelta)->worst();
  EXPECT_LE(oracle::delta(list, kAddRemove, true, bounds.upper), kDelta * (1 + 1e-6));
  EXPECT_GE(oracle::delta(list, kAddRemove, true, bounds.lower), kDelta * (1 - 1e-6));
  EXPECT_LT(bounds.upper, 1.02 * bounds.lower);
}

// A larger rate dominates a smaller one, so the list lies between as many equal runs.
TEST(Lists, OfAThousandNearlyEqualRatesLieBetweenTheSmallestAndTheLargest) {
  for (double sigma : {0.7, 3.0}) {
    auto list = sampled(1000, 0.004, 1e-3, sigma, 2);
    auto all = [&](double q) {
      uint64_t steps = 0;
      for (const auto& m : list) steps += m.steps;
      return epsilon_bounds(std::vector<Mechanism>{{Kind::kSampledGaussian, q, sigma, steps}},
                            kAddRemove, 1e-6)
          ->worst();
    };
    const Bounds bounds = epsilon_bounds(list, kAddRemove, 1e-6)->worst();
    EXPECT_LE(bounds.lower, all(0.004 * 1.001).upper) << sigma;
    EXPECT_GE(bounds.upper, all(0.004).lower) << sigma;
    EXPECT_LT(bounds.upper, 1.004 * all(0.004 * 1.001).upper + 1e-4) << sigma;
    EXPECT_GT(bounds.lower, 0.98 * all(0.004).lower) << sigma;
  }
}

TEST(Lists, OfThousandsOfDifferentKindsAreAnsweredAndCostInProportion) {
  const auto list = sampled(3000 / kShorter, 0.001, 400, 1.5, 1);
  const Bounds bounds = epsilon_bounds(list, kAddRemove, 1e-6)->worst();
  EXPECT_TRUE(std::isfinite(bounds.upper));
  EXPECT_LT(bounds.upper, 1.05 * bounds.lower);
  const auto some = sampled(300 / kShorter, 0.01, 9, 2, 2),
             more = sampled(900 / kShorter, 0.01, 9, 2, 2);
  EXPECT_LT(units_of(more), 5 * units_of(some));
}

// Persons of some hundred rows: within the work of the question, and tighter than by Renyi.
TEST(Lists, OfHundredsOfDifferentPersonsAreAnsweredByComposition) {
  for (const auto& [rows, count] :
       {std::pair(100u, 200u / kShorter), std::pair(1000u, 70u / kShorter)}) {
    std::vector<Mechanism> list;
    for (uint32_t i = 0; i < count; ++i) {
      const double share = (i * 79 % count) / (1.0 * count);
      list.push_back({Kind::kSampledUser, 0.001 * (1 + 9 * share), 8 + 30 * share * share,
                      1 + i * 31 % 300, rows + i % 11});
    }
    const Bounds bounds = epsilon_bounds(list, kAddRemove, 1e-6)->worst();
    EXPECT_LT(bounds.upper, 1.05 * bounds.lower) << rows;
    EXPECT_LT(bounds.upper, *epsilon_by_renyi(list, kAddRemove, 1e-6)) << rows;
  }
}

TEST(Lists, OfOneLoudKindAmongManyQuietOnesCostAtLeastTheLoudOne) {
  auto list = sampled(500, 1e-4, 1, 2, 1);
  const Mechanism loud{Kind::kSampledGaussian, 0.02, 0.5, 3};
  list.push_back(loud);
  const Bounds bounds = epsilon_bounds(list, kAddRemove, 1e-6)->worst(),
               alone = epsilon_bounds(std::vector<Mechanism>{loud}, kAddRemove, 1e-6)->worst();
  EXPECT_GE(bounds.upper, alone.lower);
  EXPECT_LT(bounds.upper, 1.02 * alone.upper + 0.02);
  EXPECT_GT(bounds.lower, 0.97 * alone.lower);
}

}  // namespace
}  // namespace souk::policy
