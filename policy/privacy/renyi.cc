#include "policy/privacy/renyi.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/tilted.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

using Kind = Mechanism::Kind;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double renyi_of_step(const Mechanism& mechanism, Adjacency adjacency, double alpha) {
  CHECK(alpha > 1);
  auto live = normalised(std::span<const Mechanism>(&mechanism, 1));
  if (live.empty()) return 0;
  const Mechanism& m = live[0];
  if (m.kind == Kind::kGaussian) {
    // One step of what may have been several.
    double sensitivity = adjacency == Adjacency::kReplaceOne ? 2 : 1;
    double precision = 1 / (m.scale * m.scale) / static_cast<double>(mechanism.steps);
    return 0.5 * alpha * precision * sensitivity * sensitivity * (1 + 1e-14);
  }
  double remove = renyi_divergence(dominating_pair(m, adjacency, Direction::kRemove), alpha);
  if (symmetric(live, adjacency)) return remove * (1 + 1e-10);
  // Sampling one record, the removal is never the smaller (Mironov, Talwar, Zhang 2019, Theorem 5).
  if (m.kind == Kind::kSampledGaussian) return remove * (1 + 1e-10);
  return std::max(remove, renyi_divergence(dominating_pair(m, adjacency, Direction::kAdd), alpha)) *
         (1 + 1e-10);
}

Result<double> epsilon_by_renyi(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                double delta) {
  TRY(check(mechanisms));
  TRY(check_delta(delta));
  auto live = normalised(mechanisms);
  if (live.empty()) return 0.0;
  double best = kInfinity;
  auto of_order = [&](double a) {
    double divergence = 0;
    for (const auto& m : live)
      divergence +=
          static_cast<double>(m.steps) *
          renyi_of_step({m.kind, m.q, m.scale, 1, m.records, m.population, m.batch}, adjacency, a);
    const double epsilon =
        divergence + std::log1p(-1 / a) - (std::log(delta) + std::log(a)) / (a - 1);
    return std::isnan(epsilon) ? kInfinity : epsilon;
  };
  // The bound falls, then rises with the order: a golden section on log(a - 1).
  double left = std::log(0.02), right = std::log(4096.0), x1 = 0, x2 = 0;
  auto at = [&](double x) {
    const double value = of_order(1 + std::exp(x));
    best = std::min(best, value);
    return value;
  };
  constexpr double kGolden = 0.6180339887498949;
  // Each order's is a bound: where the work ends, the best of those that were asked.
  WorkBudget::within(question_units(live.size()), [&] {
    x1 = right - kGolden * (right - left), x2 = left + kGolden * (right - left);
    double f1 = at(x1), f2 = at(x2);
    while (right - left > 0.01) {
      if (f1 <= f2 || !std::isfinite(f2)) {
        right = x2, x2 = x1, f2 = f1, x1 = right - kGolden * (right - left), f1 = at(x1);
      } else {
        left = x1, x1 = x2, f1 = f2, x2 = left + kGolden * (right - left), f2 = at(x2);
      }
    }
  });
  return std::max(0.0, best) * (1 + 1e-12);
}

}  // namespace souk::policy
