// The moments of a run's privacy loss: what chooses the tilt of its composition and how far the
// tilted sum reaches, by Chernoff. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <array>
#include <cmath>
#include <optional>

#include "policy/privacy/steps.h"

namespace souk::policy {

// log E[e^{c L}] of one step.
double moment_of(const StepLoss::Side& side, double c);

// The moment function of a composition: sum over steps of count * log E[e^{c L}].
class Moments {
 public:
  Moments(const Steps& steps, bool upper) : steps_(steps), upper_(upper) {}

  double operator()(double c) const {
    double sum = 0;
    steps_.for_each([&](size_t, const StepLoss& step) {
      sum += step.count * moment_of(upper_ ? step.upper : step.lower, c);
    });
    return sum;
  }

 private:
  const Steps& steps_;
  bool upper_;
};

// log of c^c / (1+c)^(1+c): what one unit of tilted mass can add to delta at most, at x = eps.
double log_most(double c);

struct Window {
  double low = 0, high = 0;
  double width() const { return high - low; }
};

// How far from a tilt moments are asked for a window.
inline constexpr size_t kReaches = 5;
using Reaches = std::array<double, kReaches>;
Reaches reaches_of(const Moments& moments, double c, double moment, double grid);

struct Around {
  double moment = 0;
  Reaches above{}, below{};  // the moments that far above and below the tilt
};
// Chernoff: outside of it the tilted sum has at most e^log_tail on each side.
Window window(const Around& around, const Reaches& reaches, double log_tail);
Window window(const Moments& moments, double c, double moment, double log_tail, double grid);

// Where `f` is least between `left` and `right`, by golden sections.
template <class F>
double argmin(F&& f, double left, double right, double precision) {
  constexpr double kGolden = 0.6180339887498949;
  double x1 = right - kGolden * (right - left), x2 = left + kGolden * (right - left);
  double f1 = f(x1), f2 = f(x2);
  while (right - left > precision) {
    if (f1 <= f2 || !std::isfinite(f2)) {
      right = x2, x2 = x1, f2 = f1;
      x1 = right - kGolden * (right - left);
      f1 = f(x1);
    } else {
      left = x1, x1 = x2, f1 = f2;
      x2 = left + kGolden * (right - left);
      f2 = f(x2);
    }
  }
  return 0.5 * (left + right);
}

// Chernoff's bounds at a tilt c, log_moment(c) being that of the whole run: of delta(epsilon), its
// logarithm, and of the epsilon where that is delta.
template <class LogMoment>
double log_delta_at(LogMoment&& log_moment, double c, double epsilon) {
  return log_moment(c) - c * epsilon + log_most(c);
}
template <class LogMoment>
double epsilon_at(LogMoment&& log_moment, double c, double log_delta) {
  return (log_moment(c) + log_most(c) - log_delta) / c;
}

// The tilt where they are least: the saddle point, roughly. Of the first with an epsilon, else of
// the second.
template <class LogMoment>
double best_tilt(LogMoment&& log_moment, std::optional<double> epsilon, double log_delta,
                 double precision = 0.05) {
  constexpr double kLeast = -11.5, kMost = 13.8;  // logs: from 1e-5 to 1e6
  return std::exp(argmin(
      [&](double log_c) {
        const double c = std::exp(log_c);
        return epsilon ? log_delta_at(log_moment, c, *epsilon)
                       : epsilon_at(log_moment, c, log_delta);
      },
      kLeast, kMost, precision));
}

}  // namespace souk::policy
