#include "policy/privacy/moments.h"

#include <algorithm>
#include <limits>

#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

double moment_of(const StepLoss::Side& side, double c) {
  const auto &mass = side.mass, &loss = side.loss;
  WorkBudget::pay(2 * mass.size());
  double top = std::max(c * loss.back(), c * loss.front());
  double total = 0, sum = 0;
  if (top < 50) {
    for (size_t k = 0; k < mass.size(); ++k) {
      if (mass[k] == 0) continue;
      sum += mass[k] * std::expm1(c * loss[k]);
      total += mass[k];
    }
    return std::log1p(sum + (total - 1));
  }
  double peak = -kInfinity;
  for (size_t k = 0; k < mass.size(); ++k) {
    if (mass[k] > 0) peak = std::max(peak, std::log(mass[k]) + c * loss[k]);
  }
  for (size_t k = 0; k < mass.size(); ++k) {
    if (mass[k] > 0) sum += std::exp(std::log(mass[k]) + c * loss[k] - peak);
  }
  return peak + std::log(sum);
}

double log_most(double c) {
  return c * std::log(c) - (1 + c) * std::log1p(c);
}

Reaches reaches_of(const Moments& moments, double c, double moment, double grid) {
  const double h0 = 1e-3 * c;
  double curvature = (moments(c + h0) - 2 * moment + moments(c - h0)) / (h0 * h0);
  double deviation = std::max(std::sqrt(std::max(curvature, 0.0)), grid);
  return {1.5 / deviation, 4 / deviation, 6.5 / deviation, 0.15 * c, 0.4 * c};
}

Window window(const Around& around, const Reaches& reaches, double log_tail) {
  Window w{-kInfinity, kInfinity};
  for (size_t i = 0; i < kReaches; ++i) {
    w.high = std::min(w.high, (around.above[i] - around.moment - log_tail) / reaches[i]);
    w.low = std::max(w.low, -(around.below[i] - around.moment - log_tail) / reaches[i]);
  }
  return w;
}

Window window(const Moments& moments, double c, double moment, double log_tail, double grid) {
  const Reaches reaches = reaches_of(moments, c, moment, grid);
  Around around{moment};
  for (size_t i = 0; i < kReaches; ++i) {
    around.above[i] = moments(c + reaches[i]);
    around.below[i] = moments(c - reaches[i]);
  }
  return window(around, reaches, log_tail);
}

}  // namespace souk::policy
