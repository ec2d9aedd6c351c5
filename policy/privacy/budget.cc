#include "policy/privacy/budget.h"

#include <algorithm>
#include <cmath>

namespace souk::policy {
namespace {

constexpr double kNano = 1e9;
// The noise generator's finite precision, in nano-units for each contract (SPEC.md).
constexpr double kSamplerCharge = 1e4;

int64_t saturated(double nano) {
  if (!(nano < static_cast<double>(kChargeCeiling))) return kChargeCeiling;  // NaN too
  return static_cast<int64_t>(nano);
}

}  // namespace

Charges charges_for(const Event& event) {
  Charges charges{};
  if (event.steps == 0 || event.q == 0) return charges;
  for (size_t i = 0; i < kOrders.size(); ++i) {
    double divergence = static_cast<double>(event.steps) * rdp_of_step(event, kOrders[i]);
    charges[i] = saturated(std::ceil(divergence * kNano * (1 + 1e-14)) + kSamplerCharge);
  }
  return charges;
}

Charges caps_for(int64_t epsilon_micro, int64_t delta_pico) {
  Charges caps;
  caps.fill(-1);
  if (epsilon_micro <= 0 || delta_pico <= 0 || delta_pico >= 1'000'000'000'000) return caps;
  double epsilon = static_cast<double>(epsilon_micro) / 1e6;
  double log_share =
      std::log(static_cast<double>(delta_pico) / 1e12 / static_cast<double>(kOrders.size()));
  for (size_t i = 0; i < kOrders.size(); ++i) {
    double a = kOrders[i];
    double bound = epsilon - std::log1p(-1 / a) + (log_share + std::log(a)) / (a - 1);
    double nano = std::floor(bound * kNano - 1 - std::abs(bound) * kNano * 1e-14);
    if (nano > 0) caps[i] = saturated(nano);
  }
  return caps;
}

Charges add(const Charges& a, const Charges& b) {
  Charges sum{};
  for (size_t i = 0; i < sum.size(); ++i) {
    CHECK(a[i] >= 0 && b[i] >= 0 && a[i] <= kChargeCeiling && b[i] <= kChargeCeiling);
    sum[i] = std::min(a[i] + b[i], kChargeCeiling);
  }
  return sum;
}

bool admits(const Charges& caps, const Charges& committed_plus_reserved, const Charges& charge) {
  Charges sum = add(committed_plus_reserved, charge);
  for (size_t i = 0; i < sum.size(); ++i) {
    if (caps[i] >= 0 && sum[i] <= caps[i] && sum[i] < kChargeCeiling) return true;
  }
  return false;
}

}  // namespace souk::policy
