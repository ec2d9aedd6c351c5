#include "policy/privacy/accountant.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "tests/policy/privacy/tables.h"

namespace souk::policy {
namespace {

// Exact values by contour integration of the moment function, about 11 digits.
struct Exact {
  double q, sigma;
  uint64_t steps;
  double delta, epsilon;
};
constexpr Exact kExact[] = {
    {0.01, 4.0, 10000, 1e-5, 0.9468668007643},
    {0.004266666666666667, 1.1, 14062, 1e-5, 2.381596921425},
    {0.04, 1.5, 2250, 1e-5, 6.768780393417},
    {0.001, 0.8, 20000, 1e-6, 1.285922712804},
    {1.0, 10.0, 100, 1e-5, 4.377178095681},
    {0.02, 1.0, 1, 1e-6, 0.7205756589631},
    {0.2, 0.8, 100, 1e-6, 24.32262019485},
    {0.3, 30.0, 2000, 1e-9, 2.587239165944},
    {0.01, 1.0, 500, 1e-3, 0.7941876960634},
};

Event event(const Exact& row) {
  return {row.q, row.sigma, row.steps};
}

// delta of the Gaussian mechanism of mean mu (Balle and Wang 2018, Theorem 8).
double gaussian_delta(double mu, double epsilon) {
  auto below = [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); };
  return below(mu / 2 - epsilon / mu) - std::exp(epsilon) * below(-mu / 2 - epsilon / mu);
}

TEST(Accountant, IsNeverBelowTheExactEpsilonAndAtMostATenthOfAPercentAbove) {
  for (const auto& row : kExact) {
    auto epsilon = epsilon_upper(event(row), row.delta);
    ASSERT_TRUE(epsilon);
    EXPECT_GE(*epsilon, row.epsilon) << row.q << " " << row.sigma;
    EXPECT_LE(*epsilon, row.epsilon * 1.001 + kSamplerSlack) << row.q << " " << row.sigma;
  }
}

TEST(Accountant, StaysSoundAtDeltasBelowTheRoundingOfAPlainTransform) {
  for (double delta : {1e-10, 1e-12, 1e-14}) {
    double epsilon = *epsilon_upper(Event{1, 8, 25}, delta);
    EXPECT_LE(gaussian_delta(5.0 / 8, epsilon), delta);
    EXPECT_GE(gaussian_delta(5.0 / 8, epsilon * 0.998 - 2 * kSamplerSlack), delta);
  }
}

TEST(Accountant, RenyiBoundIsAboveTheTighterOne) {
  for (const auto& row : kExact) {
    Event e = event(row);
    EXPECT_GE(*epsilon_by_renyi({&e, 1}, row.delta) + 1e-12, *epsilon_upper(e, row.delta));
  }
}

TEST(Accountant, SpendsMoreWithMoreStepsHigherRateLessNoiseAndSmallerDelta) {
  Event base{0.01, 1.2, 1000};
  double epsilon = *epsilon_upper(base, 1e-5);
  EXPECT_GT(*epsilon_upper(Event{0.01, 1.2, 1200}, 1e-5), epsilon);
  EXPECT_GT(*epsilon_upper(Event{0.012, 1.2, 1000}, 1e-5), epsilon);
  EXPECT_GT(*epsilon_upper(Event{0.01, 1.1, 1000}, 1e-5), epsilon);
  EXPECT_GT(*epsilon_upper(base, 1e-6), epsilon);
  EXPECT_EQ(*epsilon_upper(Event{0.01, 1.2, 0}, 1e-5), 0);
  EXPECT_EQ(*epsilon_upper(Event{0, 1.2, 1000}, 1e-5), 0);
}

TEST(Accountant, NeverFallsAsStepsAreAdded) {
  for (double delta : {1e-3, 1e-5, 1e-10}) {
    for (Event e : {Event{0.01, 1.1, 0}, Event{0.2, 3, 0}, Event{0.001, 0.7, 0}, Event{1, 20, 0}}) {
      double before = 0;
      for (uint64_t steps : std::initializer_list<uint64_t>{1, 2, 5, 30, 1000}) {
        e.steps = steps;
        double epsilon = *epsilon_upper(e, delta);
        // Each value is at most 0.1 % above the truth, which does not fall.
        EXPECT_GE(epsilon * 1.001, before) << e.q << " " << steps << " " << delta;
        before = epsilon;
      }
    }
  }
}

TEST(Accountant, TwoRunsCostAtLeastEachAndAtMostTheirSum) {
  Event runs[] = {{0.01, 1.1, 2000}, {0.02, 1.5, 1500}};
  double both = *epsilon_upper(runs, 1e-5);
  EXPECT_GE(both, 3.353465584657);  // exact
  EXPECT_LE(both, 3.353465584657 * 1.001 + kSamplerSlack);
  EXPECT_GT(both, *epsilon_upper(runs[0], 1e-5));
  EXPECT_LT(both, *epsilon_upper(runs[0], 5e-6) + *epsilon_upper(runs[1], 5e-6));
  Event halves[] = {{0.01, 1.1, 1000}, {0.01, 1.1, 1000}};
  EXPECT_NEAR(*epsilon_upper(halves, 1e-5), *epsilon_upper(runs[0], 1e-5), 1e-6);
}

TEST(Accountant, RefusesNumbersThatMeanNothing) {
  double nan = std::numeric_limits<double>::quiet_NaN();
  for (Event e : {Event{-0.1, 1, 1}, Event{1.1, 1, 1}, Event{nan, 1, 1}, Event{0.1, 0, 1},
                  Event{0.1, -1, 1}, Event{0.1, nan, 1}, Event{0.1, 1, (uint64_t{1} << 32) + 1}}) {
    EXPECT_FALSE(epsilon_upper(e, 1e-5));
  }
  for (double delta : {0.0, 1.0, -1e-5, nan}) EXPECT_FALSE(epsilon_upper(Event{0.1, 1, 1}, delta));
}

TEST(Accountant, NoiseTooSmallToMeanAnythingHasNoFiniteBoundOrAHugeOne) {
  auto epsilon = epsilon_upper(Event{0.5, 1e-3, 1000}, 1e-5);
  if (epsilon) {
    EXPECT_GT(*epsilon, 1e6);
  } else {
    EXPECT_EQ(epsilon.error().code(), Code::kExhausted);
  }
}

TEST(Accountant, MicroUnitsRoundUpOnce) {
  EXPECT_EQ(epsilon_micro_up(0), 0);
  EXPECT_EQ(epsilon_micro_up(0.1), 100000);
  EXPECT_EQ(epsilon_micro_up(1), 1000000);
  EXPECT_EQ(epsilon_micro_up(1.0000001), 1000001);
  EXPECT_EQ(epsilon_micro_up(1e-12), 1);
  EXPECT_EQ(epsilon_micro_up(std::numeric_limits<double>::infinity()), (int64_t{1} << 53) - 1);
  EXPECT_EQ(epsilon_micro_up(std::numeric_limits<double>::quiet_NaN()), (int64_t{1} << 53) - 1);
}

TEST(Accountant, RatesOfThresholdsAreNeverBelowTheFraction) {
  EXPECT_EQ(rate_from_threshold(uint64_t{1} << 63), 0.5);
  EXPECT_EQ(rate_from_threshold(0), 0);
  EXPECT_EQ(rate_from_threshold(1), 0x1p-64);
  EXPECT_EQ(rate_from_threshold(UINT64_MAX), 1);
  uint64_t odd = (uint64_t{1} << 60) + 1;
  EXPECT_GT(rate_from_threshold(odd), 0x1p-4);
  for (uint64_t threshold :
       {odd, odd + 254, UINT64_MAX / 3, UINT64_MAX / 7, uint64_t{12345678901234567}}) {
    auto q = static_cast<long double>(rate_from_threshold(threshold));
    auto exact = std::ldexp(static_cast<long double>(threshold), -64);  // 64 bits: exact
    EXPECT_GE(q, exact);
    EXPECT_LE(q, exact * (1 + 0x1p-52L));
  }
}

TEST(Accountant, CalibratedNoiseKeepsThePromiseAndIsNearlyTheLeast) {
  struct Case {
    double epsilon, delta, q;
    uint64_t steps;
    double exact;
  };
  for (auto c : {Case{1, 1e-5, 0.01, 10000, 3.812816830701},
                 Case{3, 1e-5, 0.017066666666666667, 2344, 1.364991624684},
                 Case{8, 1e-6, 0.001, 50000, 0.5369073607621}}) {
    auto sigma = calibrate_noise(c.epsilon, c.delta, c.q, c.steps);
    ASSERT_TRUE(sigma);
    EXPECT_GE(*sigma, c.exact);
    EXPECT_LE(*sigma, c.exact * 1.001);
    EXPECT_LE(*epsilon_upper(Event{c.q, *sigma, c.steps}, c.delta), c.epsilon);
    EXPECT_GT(*epsilon_upper(Event{c.q, *sigma * (1 - 1.5e-4), c.steps}, c.delta), c.epsilon);
  }
  EXPECT_EQ(calibrate_noise(1e-4, 1e-6, 1, 1000000).error().code(), Code::kRefused);
  EXPECT_EQ(calibrate_noise(0, 1e-6, 1, 10).error().code(), Code::kMalformed);
}

TEST(Accountant, NoiseCalibratedForAPersonIsThatOfTheBinomialMixture) {
  struct Case {
    double epsilon, delta, q;
    uint64_t steps;
    uint32_t records;
  };
  for (auto c : {Case{3, 1e-5, 0.01, 2000, 4}, Case{1, 1e-6, 0.02, 300, 2}}) {
    auto sigma = calibrate_noise(c.epsilon, c.delta, c.q, c.steps, c.records);
    ASSERT_TRUE(sigma);
    EXPECT_LE(*epsilon_upper(Event{c.q, *sigma, c.steps, c.records}, c.delta), c.epsilon);
    EXPECT_GT(*epsilon_upper(Event{c.q, *sigma * (1 - 1e-3), c.steps, c.records}, c.delta),
              c.epsilon);
    // More than a row needs; less than k rows that would always be drawn together.
    EXPECT_GT(*sigma, *calibrate_noise(c.epsilon, c.delta, c.q, c.steps) * 1.05);
    EXPECT_LT(*sigma, c.records * *calibrate_noise(c.epsilon, c.delta, c.q, c.steps));
  }
  EXPECT_EQ(calibrate_noise(5e-5, 1e-6, 0.1, 10, 2).error().code(), Code::kRefused);
  EXPECT_EQ(calibrate_noise(1, 1e-6, 0.1, 10, 0).error().code(), Code::kMalformed);
  EXPECT_EQ(calibrate_noise(1, 1e-6, 0.1, 10, 5000).error().code(), Code::kMalformed);
}

TEST(Accountant, OneStepOfTheWholeDatasetIsThePlainGaussian) {
  EXPECT_NEAR(rdp_subsampled_gaussian(1, 10, 8), 0.04, 1e-12);
  EXPECT_EQ(rdp_subsampled_gaussian(0, 1, 2), 0);
  // Order 2 in closed form: log(1 + q^2 (e^{1/s^2} - 1)).
  EXPECT_NEAR(rdp_subsampled_gaussian(0.01, 1.1, 2), std::log1p(1e-4 * std::expm1(1 / 1.21)),
              1e-14);
}

TEST(AccountantTables, WholeRunsLieInTheBand) {
  auto rows = tables::read("reference.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  int judged = 0;
  for (auto& row : rows) {
    auto events = tables::events(row["events"]);
    if (!events || row["adjacency"] != "add_remove") continue;
    double low = std::stod(row["accept_lo"]), high = std::stod(row["accept_hi"]);
    if (row["query"] == "eps") {
      double epsilon = *epsilon_upper(*events, std::stod(row["delta"]));
      EXPECT_GE(epsilon, low) << row["id"];
      EXPECT_LE(epsilon, high + kSamplerSlack) << row["id"];
      double renyi = *epsilon_by_renyi(*events, std::stod(row["delta"]));
      EXPECT_GE(renyi, low) << row["id"];
    } else if (row["query"] == "sigma") {
      auto& e = events->front();
      double sigma =
          *calibrate_noise(std::stod(row["eps_target"]), std::stod(row["delta"]), e.q, e.steps);
      EXPECT_GE(sigma, low) << row["id"];
      EXPECT_LE(sigma, high) << row["id"];
    } else {
      continue;
    }
    ++judged;
  }
  EXPECT_GE(judged, 15);
}

TEST(AccountantTables, OneStepDivergencesAreTheExactOnesRoundedUp) {
  auto rows = tables::read("rdp_step.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    double order = std::stod(row["alpha"]), exact = std::stod(row["rho"]);
    if (order != std::floor(order)) continue;
    double rho = rdp_subsampled_gaussian(std::stod(row["q"]), std::stod(row["sigma"]),
                                         static_cast<uint32_t>(order));
    EXPECT_GE(rho, exact);
    EXPECT_LE(rho, exact * (1 + 1e-10));
  }
}

TEST(AccountantTables, OneStepAtItsOwnDeltaNeedsAtLeastItsEpsilon) {
  auto rows = tables::read("onestep.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    double delta = std::stod(row["delta"]);
    if (!(delta > 0)) continue;
    double exact = std::stod(row["eps"]);
    Event e{std::stod(row["q"]), std::stod(row["sigma"]), 1};
    EXPECT_GE(*epsilon_upper(e, delta), exact)
        << row["q"] << " " << row["eps"] << " " << row["direction"];
  }
}

}  // namespace
}  // namespace souk::policy
