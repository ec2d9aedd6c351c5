#include <algorithm>
#include <cmath>
#include <vector>

#include "policy/privacy/bounds.h"
#include "policy/privacy/closed_form.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

// Of one search (work.h).
uint64_t search_units(size_t kinds) {
  return 360'000'000 + 4'000'000 * uint64_t{kinds - 1};
}

// Where to look first: with this much noise the central limit of the sampled steps alone (Bu, Dong,
// Long, Su 2020, Theorem 5) has that epsilon. 1 where there is no such limit.
double first_guess(const Mechanism& m, Adjacency adjacency, double epsilon, double delta) {
  const bool gaussian = m.kind == Mechanism::Kind::kGaussian;
  if (m.kind == Mechanism::Kind::kLaplace || m.kind == Mechanism::Kind::kPure) return 1;
  double low = kLeastMu, high = 1e4;  // mu of a Gaussian with this epsilon, by its logarithm
  for (int i = 0; i < 40; ++i) {
    const double mu = std::sqrt(low * high);
    (gaussian_epsilon(mu, delta).upper > epsilon ? high : low) = mu;
  }
  double sensitivity = adjacency == Adjacency::kReplaceOne ? 2 : 1;
  if (m.kind == Mechanism::Kind::kSampledUser) sensitivity *= static_cast<double>(m.records);
  const double of_step = low / std::sqrt(static_cast<double>(m.steps)) / (gaussian ? 1 : m.q);
  const double guess =
      sensitivity / (gaussian ? of_step : std::sqrt(std::log1p(of_step * of_step)));
  return std::isfinite(guess) ? std::clamp(guess, 1e-3, 1e6) : 1;
}

}  // namespace

Result<double> least_noise(std::vector<Mechanism> mechanisms, size_t unknown, Adjacency adjacency,
                           double epsilon, double delta) {
  CHECK(unknown < mechanisms.size());
  if (!(epsilon > 0 && std::isfinite(epsilon)))
    return Error(Code::kMalformed, "epsilon: expected a positive number");
  constexpr double kLeast = 1e-6, kMost = 1e7, kClose = 1e-4, kLittleNoise = 1;
  const auto no_noise = [] {
    return Error(Code::kRefused, "no noise multiplier up to 1e7 reaches this epsilon");
  };
  std::vector<Mechanism> rest = mechanisms;
  rest.erase(rest.begin() + static_cast<ptrdiff_t>(unknown));
  mechanisms[unknown].scale = 1;
  TRY(check(mechanisms));
  TRY(check_delta(delta));
  if (rest = normalised(rest);
      !rest.empty() && rough_epsilon(rest, adjacency, Direction::kRemove, delta).lower > epsilon)
    return no_noise();
  // How far the bound is above what is wanted, in logarithms, kept finite.
  auto excess = [&](double scale) {
    mechanisms[unknown].scale = scale;
    // Its arguments were checked.
    auto bounds = epsilon_bounds(mechanisms, adjacency, delta, Effort::kUsual);
    return std::clamp(std::log(bounds->worst().upper / epsilon), -30.0, 30.0);
  };
  // How far to go. Epsilon falls at least as 1 / scale; of little noise on samples, which is seen
  // in rare outcomes, as e^{1 / scale^2}.
  const bool sampled = mechanisms[unknown].q < 1;
  auto step = [&](double scale, double by) {
    return std::clamp(std::exp(1.1 * by), 1.01, sampled && scale < kLittleNoise ? 1.3 : 16.0);
  };
  double kept = 0;  // keeps the promise
  bool refused = false, asked_rest = false;
  const bool done = WorkBudget::within(search_units(mechanisms.size()), [&] {
    double high = first_guess(mechanisms[unknown], adjacency, epsilon, delta);
    double high_excess = excess(high), low = high, low_excess = high_excess;
    while (high_excess > 0) {
      low = high, low_excess = high_excess;
      if (high >= kMost) {
        refused = true;
        return;
      }
      high = std::min(kMost, high * step(high, high_excess));
      high_excess = excess(high);
      if (high_excess > 0 && !rest.empty() && !asked_rest) {
        asked_rest = true;
        if (epsilon_bounds(rest, adjacency, delta, Effort::kUsual)->worst().lower > epsilon) {
          refused = true;
          return;
        }
      }
    }
    kept = high;
    while (low_excess <= 0) {
      kept = high = low, high_excess = low_excess;
      if (low <= kLeast) return;
      low = std::max(kLeast, low / step(low, -low_excess));
      low_excess = excess(low);
    }
    // Regula falsi (Illinois) on logarithms; `high` always keeps the promise.
    double low_weight = low_excess, high_weight = high_excess;
    int side = 0;
    for (int i = 0; i < 60 && high / low - 1 > kClose; ++i) {
      double x0 = std::log(low), x1 = std::log(high), t = low_weight / (low_weight - high_weight);
      if (i > 12 || low_weight >= 30 || high_weight <= -30) t = 0.5;
      // Aim a little above the root, so that the safe end closes in too.
      double margin = std::min(0.3 * kClose, 0.25 * (x1 - x0));
      double x = std::clamp(x0 + t * (x1 - x0) + (side == 1 ? -0.5 : 0.5) * kClose, x0 + margin,
                            x1 - margin);
      double scale = std::exp(x), value = excess(scale);
      if (value <= 0) {
        kept = high = scale, high_weight = value;
        if (side == 1) low_weight *= 0.5;
        side = 1;
      } else {
        low = scale, low_weight = value;
        if (side == -1) high_weight *= 0.5;
        side = -1;
      }
    }
  });
  if (refused) return no_noise();
  // What was found so far keeps the promise, though less noise might do.
  if (!done && !(kept > 0)) {
    return Error(Code::kMalformed,
                 "these numbers are too extreme for a noise multiplier to be found: expected fewer "
                 "or less extreme mechanisms");
  }
  return kept;
}

}  // namespace souk::policy
