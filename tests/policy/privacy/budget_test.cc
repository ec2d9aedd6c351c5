#include "policy/privacy/budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <vector>

#include "tests/policy/privacy/tables.h"

namespace souk::policy {
namespace {

const Event kRun{0.004266666666666667, 1.3, 3515};

size_t admitted(const Charges& caps, const std::vector<Event>& stream) {
  Charges spent{};
  for (size_t count = 0;; ++count) {
    Charges charge = charges_for(stream[count % stream.size()]);
    if (!admits(caps, spent, charge) || count > 100000) return count;
    spent = add(spent, charge);
  }
}

TEST(Budget, ChargesAreTheDivergencesRoundedUpWithTheSamplersShare) {
  Charges charges = charges_for(kRun);
  for (size_t i = 0; i < kOrders.size(); ++i) {
    double exact = 3515 * rdp_subsampled_gaussian(kRun.q, kRun.sigma, kOrders[i]) * 1e9;
    EXPECT_GE(static_cast<double>(charges[i]), exact + 1e4);
    EXPECT_LE(static_cast<double>(charges[i]), exact * (1 + 1e-12) + 1e4 + 2);
  }
}

// E_Q[(P/Q)^a] of a person with k rows, as the finite sum over how many of them a copies of the
// run draw: every term is positive. An oracle of its own, in extended precision; terms are held as
// logarithms of their size, since e^(s^2 / 2 sigma^2) outgrows every float.
double divergence_of_a_person(const Event& event, uint32_t order) {
  using Terms = std::vector<long double>;
  const uint32_t k = event.records;
  const long double q = event.q, s2 = static_cast<long double>(event.sigma) * event.sigma;
  Terms one(k + 1), plain(k + 1);
  long double binomial = 1;
  for (uint32_t j = 0; j <= k; ++j) {
    plain[j] = binomial * std::pow(q, static_cast<long double>(j)) *
               std::pow(1 - q, static_cast<long double>(k - j));
    one[j] = plain[j] * std::exp(-static_cast<long double>(j) * j / (2 * s2));
    binomial = binomial * (k - j) / (j + 1);
  }
  auto times = [](const Terms& a, const Terms& b) {
    Terms out(a.size() + b.size() - 1);
    for (size_t i = 0; i < a.size(); ++i) {
      for (size_t j = 0; j < b.size(); ++j) out[i + j] += a[i] * b[j];
    }
    return out;
  };
  Terms all = one, whole = plain;
  for (uint32_t copy = 1; copy < order; ++copy) {
    all = times(all, one);
    whole = times(whole, plain);
  }
  // Where any term is large, the excess is the sum; where none is, its cancellation is harmless.
  long double largest = 0;
  for (size_t s = 0; s < all.size(); ++s)
    largest = std::max(largest, std::log(all[s]) + static_cast<long double>(s) * s / (2 * s2));
  long double excess = 0;
  for (size_t s = 0; s < all.size(); ++s) {
    long double term =
        std::exp(std::log(all[s]) + static_cast<long double>(s) * s / (2 * s2) - largest);
    excess += term - whole[s] * std::exp(-largest);
  }
  // largest is 0 unless a term is above 1
  long double log_moment =
      largest > 40 ? largest + std::log(excess) : std::log1p(excess * std::exp(largest));
  return static_cast<double>(log_moment / (order - 1));
}

TEST(Budget, APersonsChargeIsThatOfTheBinomialMixtureAndNeverBelowIt) {
  for (uint32_t k : {2u, 4u, 9u}) {
    for (double q : {0.001, 0.01, 0.2}) {
      for (double sigma : {1.1, 2.0, 8.0}) {
        Event event{q, sigma, 1000, k};
        Charges charges = charges_for(event);
        for (size_t i = 0; i < kOrders.size(); ++i) {
          double remove = 1000 * divergence_of_a_person(event, kOrders[i]) * 1e9;
          EXPECT_GE(static_cast<double>(charges[i]), remove * (1 - 1e-9)) << k << " " << q;
          // The removal is the larger direction here.
          EXPECT_LE(static_cast<double>(charges[i]), remove * (1 + 1e-6) + 1e4 + 2)
              << k << " " << q << " " << sigma << " " << kOrders[i];
        }
      }
    }
  }
}

TEST(Budget, APersonOfMoreRowsCostsMoreThanARowAndTheOracleAgreesForOneRow) {
  Event row{0.01, 2, 2000};
  for (size_t i = 0; i < kOrders.size(); ++i) {
    double exact = 2000 * divergence_of_a_person(row, kOrders[i]) * 1e9;
    EXPECT_NEAR(static_cast<double>(charges_for(row)[i]), exact + 1e4, exact * 1e-9 + 3);
  }
  Charges before = charges_for(row);
  for (uint32_t k : {2u, 3u, 8u}) {
    Charges more = charges_for({0.01, 2, 2000, k});
    for (size_t i = 0; i < kOrders.size(); ++i) EXPECT_GT(more[i], before[i]);
    before = more;
  }
  // The research note's figure: q = 0.01, sigma = 2, T = 2000, k = 4.
  auto epsilon = epsilon_upper(Event{0.01, 2, 2000, 4}, 1e-5);
  ASSERT_TRUE(epsilon);
  EXPECT_NEAR(*epsilon, 4.25, 0.02);
}

TEST(Budget, NothingRunCostsNothing) {
  EXPECT_EQ(charges_for(Event{0.1, 1, 0}), Charges{});
  EXPECT_EQ(charges_for(Event{0, 1, 10}), Charges{});
}

TEST(Budget, CapsAreNeverAboveTheFormula) {
  Charges caps = caps_for(3'000'000, 1'000'000);
  for (size_t i = 0; i < kOrders.size(); ++i) {
    double a = kOrders[i];
    double bound = 3 - std::log((a - 1) / a) + (std::log(1e-6 / 8) + std::log(a)) / (a - 1);
    if (bound <= 0) {
      EXPECT_EQ(caps[i], -1);
    } else {
      EXPECT_LE(static_cast<double>(caps[i]), bound * 1e9);
      EXPECT_GE(static_cast<double>(caps[i]), bound * 1e9 - 3);
    }
  }
  EXPECT_EQ(caps[0], -1);
  EXPECT_GT(caps[7], 0);
}

TEST(Budget, DeadOrdersAndEmptyBudgetsAdmitNothing) {
  Charges dead;
  dead.fill(-1);
  EXPECT_EQ(caps_for(0, 1'000'000), dead);
  EXPECT_EQ(caps_for(1'000'000, 0), dead);
  EXPECT_EQ(caps_for(-1, 1'000'000), dead);
  EXPECT_FALSE(admits(dead, Charges{}, Charges{}));
}

TEST(Budget, OneUnitOverTheCapIsRefused) {
  Charges caps;
  caps.fill(-1);
  caps[3] = 100;
  Charges spent{};
  spent[3] = 60;
  Charges charge;
  charge.fill(40);
  EXPECT_TRUE(admits(caps, spent, charge));
  charge[3] = 41;
  EXPECT_FALSE(admits(caps, spent, charge));
}

TEST(Budget, OneOrderWithRoomIsEnough) {
  Charges caps;
  caps.fill(10);
  Charges charge;
  charge.fill(11);
  EXPECT_FALSE(admits(caps, Charges{}, charge));
  charge[7] = 10;
  EXPECT_TRUE(admits(caps, Charges{}, charge));
}

TEST(Budget, SumsSaturateAndASaturatedSumNeverFits) {
  Charges full;
  full.fill(kChargeCeiling);
  EXPECT_EQ(add(full, full), full);
  EXPECT_FALSE(admits(full, full, Charges{}));
  EXPECT_EQ(charges_for(Event{0.5, 1e-3, 1000000})[7], kChargeCeiling);
  Charges negative{};
  negative[0] = -1;
  EXPECT_DEATH(add(negative, full), "bug");
}

TEST(Budget, LargerBudgetsAdmitMore) {
  EXPECT_EQ(admitted(caps_for(3'000'000, 1'000'000), {kRun}), 5u);
  EXPECT_GT(admitted(caps_for(8'000'000, 1'000'000), {kRun}), 5u);
  EXPECT_LT(admitted(caps_for(2'000'000, 1'000'000), {kRun}), 5u);
}

TEST(Budget, ASmallNoiseRunDoesNotCloseTheLedgerForTheOthers) {
  std::vector<Event> stream = {kRun, {0.05, 4.0, 600}, {0.001, 0.7, 10000}};
  EXPECT_EQ(admitted(caps_for(8'000'000, 1'000'000), stream), 23u);
}

TEST(BudgetTables, MixtureAdmitsAsManyAsTheTable) {
  auto rows = tables::read("ledger.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  int judged = 0;
  for (auto& row : rows) {
    if (row["rule"] != "renyi_mixture8") continue;
    std::vector<Event> stream;
    std::stringstream parts(row["stream (cycled; q,sigma,T per contract)"]);
    std::string part;
    while (std::getline(parts, part, ';')) {
      auto cells = tables::split_csv(part);
      stream.push_back({std::stod(cells[0]), std::stod(cells[1]), std::stoull(cells[2])});
    }
    auto caps = caps_for(std::llround(std::stod(row["eps_G"]) * 1e6),
                         std::llround(std::stod(row["delta_G"]) * 1e12));
    EXPECT_EQ(admitted(caps, stream), std::stoull(row["admitted"]));
    ++judged;
  }
  EXPECT_GE(judged, 3);
}

}  // namespace
}  // namespace souk::policy
