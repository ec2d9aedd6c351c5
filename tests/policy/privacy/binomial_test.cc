#include "policy/privacy/binomial.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace souk::policy {
namespace {

TEST(Binomial, TailsAreRightWhereFactorialsCancel) {
  // By the sum of all terms, in long double.
  for (uint64_t n : {1U, 7U, 40U, 900U}) {
    for (double q : {1e-6, 0.01, 0.3, 0.5, 0.97}) {
      std::vector<long double> at_least(n + 2, 0);
      long double log_binomial = 0;
      std::vector<long double> mass;
      for (uint64_t k = 0; k <= n; ++k) {
        if (k > 0)
          log_binomial +=
              std::log(static_cast<long double>(n - k + 1) / static_cast<long double>(k));
        mass.push_back(std::exp(
            log_binomial + static_cast<long double>(k) * std::log(static_cast<long double>(q)) +
            static_cast<long double>(n - k) * std::log1p(-static_cast<long double>(q))));
      }
      for (uint64_t k = n + 1; k-- > 0;) at_least[k] = at_least[k + 1] + mass[k];
      for (uint64_t k = 0; k <= n; k += 1 + n / 13) {
        const auto exact = static_cast<double>(at_least[k]);
        EXPECT_NEAR(binomial_at_least(n, q, k), exact, 1e-11 * exact + 1e-300) << n << q << k;
      }
    }
  }
  // About half of it lies on each side of the mean, also where log n! has no digits behind the
  // point.
  for (uint64_t n : {1'000'000'000ULL, 1'000'000'000'000'000ULL}) {
    const double q = 1e6 / static_cast<double>(n);  // nearly a Poisson of mean 1e6
    EXPECT_NEAR(binomial_at_least(n, q, 1'000'000), 0.5, 1e-3);
    EXPECT_NEAR(binomial_at_least(n, q, 1'005'000) / 2.934e-7, 1, 0.02);  // five deviations
  }
}

TEST(Binomial, MassesAreTheirOwnLogarithmsAndAddUp) {
  for (uint32_t n : {2u, 30u, 700u, 4096u}) {
    for (double q : {1e-100, 1e-9, 0.004, 0.5, 0.93, 1 - 1e-12, 1.0}) {
      const auto masses = binomial_masses(n, q);
      ASSERT_EQ(masses.size(), n + 1);
      long double sum = 0;
      for (uint32_t j = 0; j <= n; ++j) {
        sum += masses[j];
        if (masses[j] < 1e-300 || q == 1) continue;
        const long double log = std::lgamma(n + 1.0L) - std::lgamma(j + 1.0L) -
                                std::lgamma(n - j + 1.0L) +
                                j * std::log(static_cast<long double>(q)) +
                                (n - j) * std::log1p(-static_cast<long double>(q));
        EXPECT_NEAR(masses[j] / static_cast<double>(std::exp(log)), 1, 3e-14) << n << q << j;
      }
      EXPECT_NEAR(static_cast<double>(sum - 1), 0, 1e-15 * n);
    }
  }
}

}  // namespace
}  // namespace souk::policy
