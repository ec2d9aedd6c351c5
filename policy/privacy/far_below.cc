#include "policy/privacy/far_below.h"

#include <algorithm>
#include <cmath>

#include "policy/privacy/compensated.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kUnit = 0x1p-53;
constexpr double kOfLogs = 3e-14;    // rounding of a sum of those of all kinds, relatively
constexpr double kGreatestTilt = 8;  // over the deviation of the sum
constexpr double kLeastTilt = 20;    // over how far below zero it is asked

struct Expectation {
  double less_one = 0, error = 0;
};

// E[e^{tilt loss}] - 1 of one step: no more is lost than what roundings of its terms come to.
Expectation expectation(const StepLoss::Side& side, double tilt) {
  WorkBudget::pay(2 * side.mass.size());
  CompensatedSums<1> sum;
  sum.add({-1});
  double size = 0, erring = 0;
  for (size_t k = 0; k < side.mass.size(); ++k) {
    const double mass = side.mass[k], exponent = tilt * side.loss[k];
    if (!(mass > 0)) continue;
    sum.add({mass});
    if (exponent == 0) continue;
    const double grown = std::expm1(exponent);
    sum.add({mass * grown});
    size += mass * std::abs(grown);
    erring += mass * std::abs(exponent) * (1 + grown);
  }
  // Compensated, of terms that are right to 4 units, and whose exponents are to one.
  return {sum.value[0], kUnit * (5 + 8 * size + 2 * erring)};
}

}  // namespace

FarBelow::FarBelow(const Steps& steps, double below) {
  double variance = 0, log_finite = 0, loss_scale = 0;
  auto moment = [&](bool upper, double tilt) {
    Moment out;
    steps.for_each([&](size_t, const StepLoss& step) {
      const auto [less_one, error] = expectation(upper ? step.upper : step.lower, tilt);
      const double log = std::log1p(less_one);
      out.log += step.count * log;
      out.error += step.count * (error / (1 + less_one) + kOfLogs * std::abs(log));
    });
    out.error = out.error * (1 + 1e-6) + 1e-15;
    return out;
  };
  steps.for_each([&](size_t, const StepLoss& step) {
    double mean = 0, square = 0;
    for (size_t k = 0; k < step.at.size(); ++k) {
      const double size = std::abs(step.upper.loss[k]);
      mean += step.upper.mass[k] * size;
      square += step.upper.mass[k] * size * size;
    }
    variance += step.count * square;
    loss_scale += step.count * mean;
    log_finite += step.count * std::log1p(-step.infinite);
    loss_error_ += step.count * step.loss_error;
  });
  infinite_ = -std::expm1(log_finite) * (1 + 1e-9);
  slack_ = 8 * kUnit * loss_scale + 1e-13;
  upper_ = {moment(true, 0), moment(true, -1)};
  lower_ = {moment(false, 0), moment(false, -1)};
  const double least = kLeastTilt / below;
  double tilt = variance > 0 ? std::max(least, kGreatestTilt / std::sqrt(variance)) : least;
  do {
    const Moment found = moment(true, -1 - tilt);
    if (std::isfinite(found.log)) chernoff_.push_back({1 + tilt, found.log + found.error});
    tilt *= 0.5;
  } while (tilt > least);
}

// The mean of 1 - e^{epsilon - loss} where that is more than nothing is its mean and how much less
// than nothing it is elsewhere: e^{tilt (epsilon - loss)} at most, for any tilt from 1 on.
double FarBelow::delta_upper(double epsilon) const {
  const double depth = slack_ - epsilon;
  if (!(depth > 0) || !std::isfinite(upper_.p.log) || !std::isfinite(upper_.q.log)) return 1;
  double log_less = 0;
  for (const auto& [tilt, log_moment] : chernoff_) {
    const double most = log_moment - tilt * depth;
    log_less = std::min(log_less, most + kOfLogs * (std::abs(log_moment) + tilt * depth));
  }
  const double p = std::expm1(upper_.p.log + upper_.p.error),
               q = std::expm1(upper_.q.log - upper_.q.error - depth);
  const double sum = p - q + std::exp(log_less) * (1 + 1e-14) + infinite_;
  return std::min(1.0, sum + 1e-15 * (std::abs(p) + std::abs(q)));
}

double FarBelow::delta_lower(double epsilon) const {
  const double depth = -epsilon - slack_ - loss_error_;
  if (!(depth > 0)) return 0;
  const double p = std::expm1(lower_.p.log - lower_.p.error),
               q = std::expm1(lower_.q.log + lower_.q.error - depth);
  return std::max(0.0, p - q - 1e-15 * (std::abs(p) + std::abs(q)));
}

}  // namespace souk::policy
