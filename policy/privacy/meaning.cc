#include "policy/privacy/meaning.h"

#include <algorithm>
#include <cmath>

#include "ledger/base/result.h"

namespace souk::policy {

double most_recognised(double epsilon, double delta, double false_alarms) {
  CHECK(epsilon >= 0 && delta >= 0 && delta < 1 && false_alarms >= 0 && false_alarms <= 1);
  double by_removal = std::exp(std::min(epsilon, 700.0)) * false_alarms + delta;
  double by_addition = 1 - std::exp(-epsilon) * (1 - delta - false_alarms);
  return std::clamp(std::min(by_removal, by_addition), false_alarms, 1.0);
}

double certainty_after(double loss, double prior) {
  CHECK(loss >= 0 && prior >= 0 && prior <= 1);
  if (prior == 0) return 0;
  return 1 / (1 + (1 - prior) / prior * std::exp(-loss));
}

double rarely_passed(double delta, double excess) {
  CHECK(delta >= 0 && delta < 1 && excess > 0);
  return std::min(1.0, delta / -std::expm1(-excess));
}

double most_advantage(double epsilon, double delta) {
  CHECK(epsilon >= 0 && delta >= 0 && delta < 1);
  // The line TPR = 1 - FPR meets the trade-off at FPR (1 - delta) / (1 + e^epsilon).
  return 0.5 - (1 - delta) / (1 + std::exp(std::min(epsilon, 700.0)));
}

}  // namespace souk::policy
