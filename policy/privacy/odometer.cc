#include "policy/privacy/odometer.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace souk::policy {

double certified_epsilon(const Charges& charges, double delta) {
  if (charges == Charges{}) return 0;
  double certified = std::numeric_limits<double>::infinity();
  const double log_share = std::log(delta / static_cast<double>(kOrders.size()));
  for (size_t i = 0; i < kOrders.size(); ++i) {
    if (charges[i] >= kChargeCeiling) continue;
    double a = kOrders[i];
    double epsilon = static_cast<double>(charges[i]) * 1e-9 + std::log1p(-1 / a) -
                     (log_share + std::log(a)) / (a - 1);
    certified = std::min(certified, std::max(0.0, epsilon) * (1 + 1e-14));
  }
  return certified;
}

Result<Odometer> odometer(std::span<const Event> runs, const Charges& charges, int64_t delta_pico) {
  if (delta_pico <= 0 || delta_pico >= 1'000'000'000'000) {
    return Error(Code::kMalformed, "delta: expected 1 to 10^12 - 1 units of 10^-12");
  }
  const double delta = static_cast<double>(delta_pico) * 1e-12;
  Odometer out;
  auto exact = epsilon_upper(runs, delta);
  out.exact = exact ? *exact : std::numeric_limits<double>::infinity();
  out.certified = certified_epsilon(charges, delta);
  return out;
}

}  // namespace souk::policy
