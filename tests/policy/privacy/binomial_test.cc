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

}  // namespace
}  // namespace souk::policy
