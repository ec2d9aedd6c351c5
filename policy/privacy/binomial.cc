#include "policy/privacy/binomial.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

// log(n!) less Stirling's (n + 1/2) log n - n + log(2 pi) / 2.
double stirling_rest(double n) {
  if (n == 0) return 0.5 * std::log(2 * std::numbers::pi);  // with 0 log 0 = 0
  if (n < 16) {
    return std::lgamma(n + 1) - (n + 0.5) * std::log(n) + n - 0.5 * std::log(2 * std::numbers::pi);
  }
  const double s = 1 / (n * n);
  return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - (1.0 / 1188) * s) * s) * s) * s) / n;
}

// x log(x / mean) + mean - x, not negative.
double deviance(double x, double mean) {
  if (x == 0) return mean;
  if (std::abs(x - mean) >= 0.1 * (x + mean)) return x * std::log(x / mean) + mean - x;
  const double v = (x - mean) / (x + mean);
  double sum = (x - mean) * v, term = 2 * x * v;
  for (int j = 1; j < 1000; ++j) {
    term *= v * v;
    const double next = sum + term / (2 * j + 1);
    if (next == sum) break;
    sum = next;
  }
  return sum;
}

// Pr[Bin(n, q) = k], 0 < q < 1, 0 <= k <= n.
double mass(double n, double q, double k) {
  if (k == 0) return std::exp(n * std::log1p(-q));
  if (k == n) return std::exp(n * std::log(q));
  const double exponent = stirling_rest(n) - stirling_rest(k) - stirling_rest(n - k) -
                          deviance(k, n * q) - deviance(n - k, n * (1 - q));
  return std::exp(exponent) * std::sqrt(n / (2 * std::numbers::pi * k * (n - k)));
}

}  // namespace

double binomial_at_least(uint64_t n, double q, uint64_t k) {
  if (k == 0) return 1;
  if (k > n || q == 0) return 0;
  if (q == 1) return 1;
  const auto count = static_cast<double>(n), mean = count * q;
  // Sums the tail that does not hold the mean, from its largest term outwards.
  const double odds = q / (1 - q), start = static_cast<double>(k);
  if (start > mean) {
    double term = mass(count, q, start), sum = 0;
    uint64_t terms = 0;
    for (double j = start; j <= count && term > sum * 1e-18; ++j) {
      if (++terms % 4096 == 0) WorkBudget::pay(1024);
      sum += term;
      term *= odds * (count - j) / (j + 1);
    }
    return std::min(1.0, sum);
  }
  double j = start - 1, term = mass(count, q, j), sum = 0;
  uint64_t terms = 0;
  for (; j >= 0 && term > sum * 1e-18; --j) {
    if (++terms % 4096 == 0) WorkBudget::pay(1024);
    sum += term;
    term *= j / (odds * (count - j + 1));
  }
  return std::max(0.0, 1 - sum);
}

std::vector<double> binomial_masses(uint32_t n, double q) {
  std::vector<double> out(n + 1, 0.0);
  if (q == 1) {
    out[n] = 1;
    return out;
  }
  std::vector<long double> over(n + 1, 0.0L);  // the greatest
  const long double odds = static_cast<long double>(q) / (1 - static_cast<long double>(q));
  const auto top = static_cast<uint32_t>(std::min<double>(n, std::floor((n + 1.0) * q)));
  over[top] = 1;
  for (uint32_t j = top; j < n; ++j) over[j + 1] = over[j] * odds * (n - j) / (j + 1);
  for (uint32_t j = top; j > 0; --j) over[j - 1] = over[j] * j / (odds * (n - j + 1));
  long double sum = 0;
  for (long double mass : over) sum += mass;
  for (uint32_t j = 0; j <= n; ++j) out[j] = static_cast<double>(over[j] / sum);
  return out;
}

}  // namespace souk::policy
