#include "policy/privacy/accountant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "policy/privacy/bounds.h"
#include "policy/privacy/renyi.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kMaxSteps = uint64_t{1} << 32;
constexpr size_t kMaxEvents = 4096;
constexpr uint64_t kMostUnits = 240'000'000;  // of one calibration (work.h)

Status check(const Event& event) {
  bool fits = event.q >= 0 && event.q <= 1 && event.sigma > 0 && std::isfinite(event.sigma) &&
              event.steps <= kMaxSteps && event.records >= 1 &&
              event.records <= 4096;  // false for NaN
  if (!fits)
    return Error(Code::kMalformed,
                 "privacy event: expected q in [0, 1], sigma > 0, steps <= 2^32, 1 to 4096 rows of "
                 "a person");
  return Done{};
}

Status check(std::span<const Event> events, double delta) {
  if (!(delta > 0 && delta < 1))
    return Error(Code::kMalformed, "delta: expected a number between 0 and 1");
  if (events.size() > kMaxEvents)
    return Error(Code::kMalformed, "privacy events: expected at most 4096");
  for (const Event& event : events) TRY(check(event));
  return Done{};
}

// Dense where the best order of usual runs lies, sparse beyond.
std::vector<uint32_t> conversion_orders(bool closed_form) {
  if (!closed_form) return {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64};
  std::vector<uint32_t> orders;
  for (uint32_t order = 2; order <= 64; ++order) orders.push_back(order);
  for (uint32_t order = 72; order <= 4096; order += std::max(8u, order / 8))
    orders.push_back(order);
  return orders;
}

bool spends(const Event& event) {
  return event.steps > 0 && event.q > 0;
}

std::vector<Event> spending(std::span<const Event> events) {
  std::vector<Event> out;
  for (const Event& event : events) {
    if (spends(event)) out.push_back(event);
  }
  return out;
}

// Canonne, Kamath, Steinke 2020 (2004.00010), Proposition 12, minimised over the orders.
double ideal_epsilon_by_renyi(std::span<const Event> events, double delta) {
  if (events.empty()) return 0;
  double best = kInfinity;
  bool closed_form = std::all_of(events.begin(), events.end(),
                                 [](const Event& event) { return event.records == 1; });
  for (uint32_t order : conversion_orders(closed_form)) {
    double divergence = 0;
    for (const Event& event : events) {
      divergence += static_cast<double>(event.steps) * rdp_of_step(event, order);
    }
    double a = order;
    double epsilon = divergence + std::log1p(-1 / a) - (std::log(delta) + std::log(a)) / (a - 1);
    best = std::min(best, epsilon);
  }
  return std::max(0.0, best) * (1 + 1e-12) + 1e-14;
}

}  // namespace

Mechanism mechanism_of(const Event& event) {
  if (event.records > 1) {
    return {Mechanism::Kind::kSampledUser, event.q, event.sigma, event.steps, event.records};
  }
  return {Mechanism::Kind::kSampledGaussian, event.q, event.sigma, event.steps};
}

double rate_from_threshold(uint64_t threshold) {
  double q = std::ldexp(static_cast<double>(threshold), -64);
  // The conversion rounds to nearest: undo a step down. 2^64 itself came from above.
  double back = std::ldexp(q, 64);
  if (back < 0x1p64 && static_cast<uint64_t>(back) < threshold) q = std::nextafter(q, 2.0);
  return std::min(q, 1.0);
}

double rdp_of_step(const Event& event, uint32_t order) {
  if (event.records == 1) return rdp_subsampled_gaussian(event.q, event.sigma, order);
  if (event.q == 0) return 0;
  Mechanism step = mechanism_of(event);
  step.steps = 1;
  // Right to 1e-10, relatively (pair.h).
  double divergence = renyi_of_step(step, Adjacency::kAddRemove, order);
  return std::isnan(divergence) ? kInfinity : divergence * (1 + 1e-9);
}

double rdp_subsampled_gaussian(double q, double sigma, uint32_t order) {
  CHECK(order >= 2);
  CHECK(q >= 0 && q <= 1 && sigma > 0);
  if (q == 0) return 0;
  const double a = order;
  const double s2 = sigma * sigma;
  if (s2 == 0) return kInfinity;
  if (q == 1) return a / (2 * s2) * (1 + 1e-11);
  WorkBudget::pay(8 * uint64_t{order});
  // E_Q[(P/Q)^a] - 1 = sum over k >= 2 of C(a,k) (1-q)^(a-k) q^k (e^{(k^2-k)/2s^2} - 1): all
  // terms are positive, so nothing cancels. Binomials in long double keep the error of the
  // exponents below 1e-12, which the last factor covers.
  const double log_q = std::log(q), log_rest = std::log1p(-q);
  std::vector<double> logs;
  logs.reserve(order);
  long double log_binomial = 0;
  for (uint32_t k = 1; k <= order; ++k) {
    log_binomial +=
        std::log(static_cast<long double>(order - k + 1)) - std::log(static_cast<long double>(k));
    if (k < 2) continue;
    double x = 0.5 * k * (k - 1.0) / s2;
    double log_growth = x > 36 ? x : std::log(std::expm1(x));  // e^x - 1 rounded up
    logs.push_back(static_cast<double>(log_binomial) + (a - k) * log_rest + k * log_q + log_growth);
  }
  double top = *std::max_element(logs.begin(), logs.end());
  if (!std::isfinite(top)) return top > 0 ? kInfinity : 0x1p-1000;
  double sum = 0;
  for (double value : logs) sum += std::exp(value - top);
  double log_sum = top + std::log(sum);
  double log_moment = log_sum > 30 ? log_sum + std::exp(-log_sum) : std::log1p(std::exp(log_sum));
  return log_moment / (a - 1) * (1 + 1e-11);
}

Result<double> epsilon_by_renyi(std::span<const Event> events, double delta) {
  TRY(check(events, delta));
  auto live = spending(events);
  if (live.empty()) return 0.0;
  double epsilon = ideal_epsilon_by_renyi(live, delta);
  if (!std::isfinite(epsilon)) return Error(Code::kExhausted, "no finite epsilon bounds this run");
  return epsilon + kSamplerSlack;
}

Result<double> epsilon_upper(std::span<const Event> events, double delta) {
  TRY(check(events, delta));
  auto live = spending(events);
  if (live.empty()) return 0.0;
  std::vector<Mechanism> mechanisms;
  for (const Event& event : live) mechanisms.push_back(mechanism_of(event));
  double epsilon = ideal_epsilon_by_renyi(live, delta);
  auto bounds = TRY(epsilon_bounds(mechanisms, Adjacency::kAddRemove, delta, Effort::kUsual));
  epsilon = std::min(epsilon, bounds.worst().upper);
  if (!std::isfinite(epsilon)) return Error(Code::kExhausted, "no finite epsilon bounds this run");
  return epsilon + kSamplerSlack;
}

Result<double> epsilon_upper(const Event& event, double delta) {
  return epsilon_upper(std::span<const Event>(&event, 1), delta);
}

int64_t epsilon_micro_up(double epsilon) {
  constexpr double kCeiling = 9007199254740991.0;                          // 2^53 - 1
  if (!(epsilon < kCeiling / 1e6)) return static_cast<int64_t>(kCeiling);  // NaN too
  if (epsilon <= 0) return 0;
  double micro = std::ceil(std::nextafter(epsilon * 1e6, kInfinity));
  // A decimal such as 0.1 must not cost a whole unit more than it says.
  double nearest = std::nearbyint(epsilon * 1e6);
  if (nearest / 1e6 >= epsilon) micro = std::min(micro, nearest);
  return static_cast<int64_t>(std::min(micro, kCeiling));
}

int64_t epsilon_micro_down(double epsilon) {
  constexpr double kCeiling = 9007199254740991.0;  // 2^53 - 1
  if (!(epsilon > 0)) return 0;                    // NaN too
  return static_cast<int64_t>(std::min(kCeiling, std::floor(epsilon * 1e6)));
}

namespace {

// A person's rows: the bound is dear, so the search is that of the ideal mechanism.
Result<double> calibrate_for_person(double epsilon, double delta, const Event& event) {
  constexpr double kLeast = 1e-3, kMost = 1e4;
  auto keeps = [&](double sigma) {
    auto value = epsilon_upper({event.q, sigma, event.steps, event.records}, delta);
    return value && *value <= epsilon;
  };
  auto refused = [] {
    return Error(Code::kRefused, "no noise multiplier up to 10000 reaches this epsilon");
  };
  if (!(epsilon > kSamplerSlack)) return refused();
  auto found =
      least_noise({mechanism_of(event)}, 0, Adjacency::kAddRemove, epsilon - kSamplerSlack, delta);
  if (!found) return refused();
  double kept = 0;
  WorkBudget::within(kMostUnits, [&] {
    double sigma = std::max(kLeast, *found);
    for (int i = 0; i < 100 && sigma <= kMost; ++i, sigma *= 1 + 1e-6) {
      if (!keeps(sigma)) continue;
      kept = sigma;
      return;
    }
  });
  if (!(kept > 0)) return refused();
  return kept;
}

}  // namespace

Result<double> calibrate_noise(double epsilon, double delta, double q, uint64_t steps,
                               uint32_t records) {
  constexpr double kTolerance = 5e-5;
  if (!(epsilon > 0 && std::isfinite(epsilon)))
    return Error(Code::kMalformed, "epsilon: expected a positive number");
  TRY(check(Event{q, 1, steps, records}));
  if (!(delta > 0 && delta < 1))
    return Error(Code::kMalformed, "delta: expected a number between 0 and 1");
  constexpr double kLeast = 1e-3, kMost = 1e4;
  if (steps == 0 || q == 0) return kLeast;
  if (records > 1) return calibrate_for_person(epsilon, delta, {q, 1, steps, records});
  auto by_renyi = [&](double sigma) {
    Event event{q, sigma, steps};
    return ideal_epsilon_by_renyi(std::span<const Event>(&event, 1), delta) + kSamplerSlack;
  };
  auto exact = [&](double sigma) {
    auto value = epsilon_upper(Event{q, sigma, steps}, delta);
    return value ? *value : kInfinity;
  };
  // Keeps the promise; where the work ends, less noise might do.
  double kept = 0;
  WorkBudget::within(kMostUnits, [&] {
    // The Renyi bound is cheap and on the safe side: it gives the upper end of the bracket.
    double high = 1;
    while (by_renyi(high) > epsilon) {
      high *= 2;
      if (high > kMost) {
        high = kMost;
        if (exact(high) > epsilon) return;
        break;
      }
    }
    kept = high;
    double low = high / 2;
    while (low > kLeast && by_renyi(low) <= epsilon) {
      high = low;
      low /= 2;
    }
    for (int i = 0; i < 12; ++i) {
      double middle = std::sqrt(low * high);
      (by_renyi(middle) <= epsilon ? high : low) = middle;
    }
    kept = high;
    double high_excess = std::log(exact(high) / epsilon);
    low = std::max(kLeast, high / 1.15);
    double low_excess = std::log(exact(low) / epsilon);
    while (low_excess <= 0) {
      kept = high = low;
      high_excess = low_excess;
      if (low <= kLeast) return;
      low = std::max(kLeast, low / 1.15);
      low_excess = std::log(exact(low) / epsilon);
    }
    // Regula falsi (Illinois) on log sigma, falling back to halving where epsilon is infinite.
    // `high` never exceeds epsilon; `low` always does.
    double low_weight = low_excess, high_weight = high_excess;
    int side = 0;
    for (int i = 0; i < 60 && high / low - 1 > kTolerance; ++i) {
      double x0 = std::log(low), x1 = std::log(high);
      double t = std::isfinite(low_weight) && low_weight > high_weight
                     ? low_weight / (low_weight - high_weight)
                     : 0.5;
      // Aim a little above the root, so that the safe end closes in too.
      double x = x0 + t * (x1 - x0) + (i % 2 == 0 ? 0.4 * kTolerance : 0.0);
      double margin = std::min(0.3 * kTolerance, 0.25 * (x1 - x0));
      x = std::clamp(x, x0 + margin, x1 - margin);
      if (i > 20) x = 0.5 * (x0 + x1);
      double sigma = std::exp(x);
      double excess = std::log(exact(sigma) / epsilon);
      if (excess <= 0) {
        kept = high = sigma;
        high_weight = excess;
        if (side == 1) low_weight *= 0.5;
        side = 1;
      } else {
        low = sigma;
        low_weight = excess;
        if (side == -1) high_weight *= 0.5;
        side = -1;
      }
    }
  });
  if (!(kept > 0))
    return Error(Code::kRefused, "no noise multiplier up to 10000 reaches this epsilon");
  return kept;
}

}  // namespace souk::policy
