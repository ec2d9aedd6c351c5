#include "policy/privacy/odometer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "policy/privacy/budget.h"

namespace souk::policy {
namespace {

TEST(Odometer, CertifiesWhatTheFilterLetInAndIsNeverBelowTheExactComposition) {
  Event run{0.004266666666666667, 1.3, 3515};
  Charges spent{};
  std::vector<Event> runs;
  double before = 0;
  auto caps = caps_for(3'000'000, 1'000'000);
  while (admits(caps, spent, charges_for(run))) {
    spent = add(spent, charges_for(run));
    runs.push_back(run);
    auto reading = *odometer(runs, spent, 1'000'000);
    EXPECT_GE(reading.certified, reading.exact);
    EXPECT_GT(reading.certified, before);
    EXPECT_LE(reading.certified, 3.0);  // what the budget promises
    before = reading.certified;
  }
  EXPECT_EQ(runs.size(), 5u);
  EXPECT_GT(odometer(runs, add(spent, charges_for(run)), 1'000'000)->certified, 3.0);
  EXPECT_EQ(odometer({}, Charges{}, 1'000'000)->certified, 0);
  spent.fill(kChargeCeiling);
  EXPECT_TRUE(std::isinf(odometer({}, spent, 1'000'000)->certified));
  EXPECT_FALSE(odometer({}, Charges{}, 0));
}

}  // namespace
}  // namespace souk::policy
