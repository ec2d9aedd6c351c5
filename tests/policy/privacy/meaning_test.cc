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
  EXPECT_NEAR(certainty_after(1, 0.5), std::exp(1.0) / (1 + std::exp(1.0)), 1e-15);
  EXPECT_EQ(certainty_after(3, 0), 0);
  EXPECT_EQ(certainty_after(3, 1), 1);
  EXPECT_NEAR(most_advantage(1, 0), certainty_after(1, 0.5) - 0.5, 1e-15);
  // The line of equal errors touches the trade-off there.
  double alarms = 0.5 - most_advantage(0.7, 1e-3);
  EXPECT_NEAR(most_recognised(0.7, 1e-3, alarms), 1 - alarms, 1e-12);
}

double normal_above(double x) {
  return std::erfc(x / std::sqrt(2.0)) / 2;
}

// One Gaussian of sensitivity 1: the loss is normal, with mean 1 / 2 sigma^2 and deviation
// 1 / sigma where the record was used (Balle and Wang 2018).
struct Gaussian {
  double sigma;
  double loss_above(double loss) const { return normal_above((loss - mean()) * sigma); }
  double loss_above_unused(double loss) const { return normal_above((loss + mean()) * sigma); }
  double delta(double epsilon) const {
    return loss_above(epsilon) - std::exp(epsilon) * loss_above_unused(epsilon);
  }
  double mean() const { return 1 / (2 * sigma * sigma); }
};

TEST(Meaning, HowOftenCertaintyIsPassedHoldsForTheExactLossesOfGaussians) {
  double nearest = 0;
  for (double sigma : {0.3, 1.0, 4.0, 20.0}) {
    const Gaussian gaussian{sigma};
    for (double deviations : {-1.0, 0.0, 1.0, 2.0, 4.0}) {
      const double epsilon = gaussian.mean() + deviations / sigma;
      if (epsilon < 0) continue;
      const double delta = gaussian.delta(epsilon);
      ASSERT_GT(delta, 0) << sigma << " " << deviations;
      for (double excess : {0.01, 0.1, std::log(2.0), 3.0, 10.0}) {
        const double limit = rarely_passed(delta, excess),
                     used = gaussian.loss_above(epsilon + excess),
                     unused = gaussian.loss_above_unused(epsilon + excess);
        EXPECT_LE(used, limit) << sigma << " " << deviations << " " << excess;
        EXPECT_LE(unused, used * std::exp(-epsilon - excess) * (1 + 1e-9)) << sigma;
        nearest = std::max(nearest, used / limit);
      }
    }
  }
  EXPECT_GT(nearest, 0.5);
  EXPECT_NEAR(rarely_passed(1e-5, std::log(2.0)), 2e-5, 1e-20);
  EXPECT_EQ(rarely_passed(0.6, std::log(2.0)), 1);
  EXPECT_EQ(rarely_passed(0, 0.1), 0);
}

TEST(Meaning, DeltaItselfIsNoLimitOnHowOftenEpsilonIsPassed) {
  // A Gaussian at delta 1e-5: five times delta.
  const Gaussian gaussian{1};
  double low = 0, high = 20;
  while (high - low > 1e-13) {
    const double middle = (low + high) / 2;
    (gaussian.delta(middle) > 1e-5 ? low : high) = middle;
  }
  EXPECT_NEAR(low, 4.37718, 1e-5);
  EXPECT_GT(gaussian.loss_above(low), 5.2e-5);
  EXPECT_LE(gaussian.loss_above(low + std::log(2.0)), 2e-5);

  // Randomised response a little above epsilon: seven runs in ten.
  const double own = 1.00001, epsilon = 1, used = std::exp(own) / (1 + std::exp(own)),
               delta = used * -std::expm1(epsilon - own);
  EXPECT_NEAR(delta, 7.3e-6, 2e-8);
  EXPECT_NEAR(used, 0.73, 0.002);
  for (double prior : {0.01, 0.5, 0.9}) {
    const double posterior =
        prior * used / (prior * used + (1 - prior) * (1 - used));  // by Bayes, of that answer
    EXPECT_GT(posterior, certainty_after(epsilon, prior));
    EXPECT_NEAR(posterior, certainty_after(own, prior), 1e-12);
    EXPECT_LT(posterior, certainty_after(epsilon + std::log(2.0), prior));
  }
  // There the limit is what happens: it cannot be less for the same excess.
  for (double excess : {9.99e-6, 9e-6, 1e-6})
    EXPECT_GE(rarely_passed(delta, excess), used) << excess;
  EXPECT_LT(rarely_passed(delta, 9.999e-6), 1.001 * used);
}

}  // namespace
}  // namespace souk::policy
