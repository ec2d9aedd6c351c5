#include "policy/privacy/renyi.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "policy/privacy/accountant.h"
#include "policy/privacy/bounds.h"
#include "tests/policy/privacy/tables.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove;

TEST(Renyi, QuadratureIsTheFiniteSumAndTheClosedForms) {
  for (double q : {0.001, 0.05, 0.7}) {
    for (double sigma : {0.5, 1.3, 20.0}) {
      for (uint32_t order : {2u, 3u, 8u, 24u}) {
        Mechanism m{Mechanism::Kind::kSampledGaussian, q, sigma, 1};
        EXPECT_NEAR(renyi_of_step(m, kAddRemove, order) / rdp_subsampled_gaussian(q, sigma, order),
                    1, 3e-10);
      }
    }
  }
  double e = 0.2, a = 3.5;
  double laplace =
      std::log(a / (2 * a - 1) * std::exp((a - 1) * e) + (a - 1) / (2 * a - 1) * std::exp(-a * e)) /
      (a - 1);
  EXPECT_NEAR(renyi_of_step({Mechanism::Kind::kLaplace, 1, 5, 1}, kAddRemove, a) / laplace, 1,
              1e-9);
  double pure = std::log((std::exp(a * e) + std::exp((1 - a) * e)) / (1 + std::exp(e))) / (a - 1);
  EXPECT_NEAR(renyi_of_step({Mechanism::Kind::kPure, 1, e, 1}, kAddRemove, a) / pure, 1, 1e-9);
  // Where masses are less than a double holds, nothing is lost: a pure loss costs itself.
  for (double loss : {8.0, 40.0, 800.0, 5000.0}) {
    EXPECT_NEAR(renyi_of_step({Mechanism::Kind::kPure, 1, loss, 1}, kAddRemove, 4096) / loss, 1,
                1e-2);
    EXPECT_NEAR(renyi_of_step({Mechanism::Kind::kLaplace, 1, 1 / loss, 1}, kAddRemove, 4096) / loss,
                1, 1e-2);
    std::string text = "lap:b=" + std::to_string(1 / loss);
    auto list = parse_mechanisms(text)->all;
    EXPECT_GE(*epsilon_by_renyi(list, kAddRemove, 1e-6) * (1 + 1e-5),
              epsilon_bounds(list, kAddRemove, 1e-6)->worst().lower);
  }
  EXPECT_NEAR(renyi_of_step({Mechanism::Kind::kGaussian, 1, 4, 1}, Adjacency::kReplaceOne, 5) /
                  (5 * 4 / 32.0),
              1, 1e-12);
}

TEST(Renyi, LittleNoiseIsNeverCheap) {
  // e^loss does not fit a double here; the bound is still above the proven lower one, and rises.
  double before = 0;
  for (double sigma : {0.3, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 1e-4, 1e-6}) {
    Mechanism run;
    run.q = 0.05;
    run.scale = sigma;
    run.steps = 2000;
    auto renyi = *epsilon_by_renyi(std::span(&run, 1), Adjacency::kAddRemove, 1e-5);
    auto bounds = epsilon_bounds(std::span(&run, 1), Adjacency::kAddRemove, 1e-5)->worst();
    EXPECT_GT(renyi, before) << sigma;
    EXPECT_GE(renyi, bounds.lower) << sigma;
    EXPECT_GE(bounds.upper, bounds.lower) << sigma;
    before = renyi;
  }
}

// The tables under SOUK_SHARED.

TEST(RenyiTables, EveryStepIsRightToNineDigits) {
  auto rows = tables::read("rdp_step.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    Mechanism m{Mechanism::Kind::kSampledGaussian, std::stod(row["q"]), std::stod(row["sigma"]), 1};
    double exact = std::stod(row["rho"]);
    EXPECT_NEAR(renyi_of_step(m, kAddRemove, std::stod(row["alpha"])), exact, 1e-9 * exact);
  }
}

}  // namespace
}  // namespace souk::policy
