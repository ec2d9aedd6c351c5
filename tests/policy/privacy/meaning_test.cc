#include "policy/privacy/meaning.h"

#include <gtest/gtest.h>

#include <cmath>

namespace souk::policy {
namespace {

TEST(Meaning, IsTheTradeOffOfTheGuarantee) {
  EXPECT_NEAR(most_recognised(0, 0, 0.05), 0.05, 1e-15);
  EXPECT_NEAR(most_recognised(1, 0, 0.01), 0.01 * std::exp(1.0), 1e-15);
  EXPECT_NEAR(most_recognised(1, 0, 0.9), 1 - 0.1 * std::exp(-1.0), 1e-15);
  EXPECT_EQ(most_recognised(800, 0, 0.5), 1);
  EXPECT_NEAR(most_certainty(1, 0.5), std::exp(1.0) / (1 + std::exp(1.0)), 1e-15);
  EXPECT_EQ(most_certainty(3, 0), 0);
  EXPECT_EQ(most_certainty(3, 1), 1);
  EXPECT_NEAR(most_advantage(1, 0), most_certainty(1, 0.5) - 0.5, 1e-15);
  // The line of equal errors touches the trade-off there.
  double alarms = 0.5 - most_advantage(0.7, 1e-3);
  EXPECT_NEAR(most_recognised(0.7, 1e-3, alarms), 1 - alarms, 1e-12);
}

}  // namespace
}  // namespace souk::policy
