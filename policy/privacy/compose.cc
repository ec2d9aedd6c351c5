#include "policy/privacy/compose.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "policy/privacy/moments.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kMostInflation = 0.5;  // of masses, by roundings: beyond, nothing is certified
constexpr double kMostWhole = 2e6;      // above this spectra are summed less 1
constexpr double kUsualTail = -23;
constexpr double kMostTail = -7;  // log of what may lie outside a window at either end

// What is added up over the steps of a run.
struct Totals {
  double count = 0, log_finite = 0;
  bool finite = true;  // no step is all but certain to be infinite
  void add(const StepLoss& step) {
    count += step.count;
    if (step.infinite < 1) {
      log_finite += step.count * std::log1p(-step.infinite);
    } else {
      finite = false;
    }
  }
  double infinite() const { return -std::expm1(log_finite) * (1 + 1e-9); }
};

std::optional<double> asked_epsilon(const Target& target) {
  return target.epsilon ? target.epsilon : target.near;
}

double log_of(const std::optional<double>& delta) {
  return delta ? std::log(*delta) : 0;
}

// Where a composition is tilted, and how far its upper side reaches then.
struct Tilting {
  double c = 0, moment = 0, log_tail = 0, origin = 0;
  Window window{0, kInfinity};
};

std::optional<Tilting> tilting_for(const Steps& guide, const Totals& about, double grid,
                                   const Target& target) {
  Tilting out;
  const Moments upper(guide, true);
  if (target.tilt) {
    out.c = *target.tilt, out.moment = upper(out.c), out.log_tail = kUsualTail;
    out.origin = target.near.value_or(0);
    out.window = window(upper, out.c, out.moment, out.log_tail, grid);
    return out;
  }
  const double finite_delta = target.delta ? *target.delta * (1 - 1e-12) - about.infinite() : 1;
  if (!(finite_delta > 0)) return std::nullopt;
  const auto asked = asked_epsilon(target);
  const double log_delta = std::log(finite_delta), saddle = best_tilt(upper, asked, log_delta);
  out.origin = asked ? *asked : epsilon_at(upper, saddle, log_delta);
  const double log_target = target.delta ? log_delta : log_delta_at(upper, saddle, *asked);
  if (!std::isfinite(out.origin) || std::isnan(log_target)) return std::nullopt;

  // The narrowest window among the tilts that keep the pad small: what lies outside wraps
  // around and counts like an error of the transform.
  const double log_rounding = std::log(3e-13 + std::min(about.count * 5e-15, 2e-7));
  for (double f : {1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1}) {
    double tilt = saddle * f, m = upper(tilt);
    double allowed = log_target + target.log_pad - log_most(tilt) - m + tilt * out.origin;
    if (f < 1 && allowed < log_rounding + 1) continue;
    allowed = std::clamp(allowed - 0.7, -39.0, kMostTail);
    Window w = window(upper, tilt, m, allowed, grid);
    if (w.width() < out.window.width())
      out.window = w, out.c = tilt, out.moment = m, out.log_tail = allowed;
  }
  if (out.c == 0) return std::nullopt;
  return out;
}

}  // namespace

double ComposedLoss::epsilon_estimate(const Steps& steps, double delta) {
  const Moments upper(steps, true);
  const double log_delta = std::log(delta);
  return epsilon_at(upper, best_tilt(upper, std::nullopt, log_delta), log_delta);
}

double ComposedLoss::log_delta_estimate(const Steps& steps, double epsilon) {
  const Moments upper(steps, true);
  return std::min(0.0, log_delta_at(upper, best_tilt(upper, epsilon, 0), epsilon));
}

double ComposedLoss::epsilon_bound(const Steps& steps, const Steps& guide, double delta) {
  const double c = best_tilt(Moments(guide, true), std::nullopt, std::log(delta));
  Totals all;
  double moment = 0, size = 0, loss_scale = 0;
  steps.for_each([&](size_t, const StepLoss& step) {
    all.add(step);
    const double own = step.count * moment_of(step.upper, c);
    moment += own, size += std::abs(own);
    double mean = 0;
    for (size_t k = 0; k < step.at.size(); ++k)
      mean += step.upper.mass[k] * std::abs(step.upper.loss[k]);
    loss_scale += step.count * mean;
  });
  const double finite = delta * (1 - 1e-12) - all.infinite();
  if (!all.finite || !(finite > 0)) return kInfinity;
  // The roundings as of a transform (make()).
  const double relative = 1e-12 + 8 * kUnit * (size + 2 * all.count);
  const double epsilon = (moment + relative + log_most(c) - std::log(finite)) / c;
  return std::max(0.0, epsilon) * (1 + 1e-12) + 8 * kUnit * loss_scale + 1e-12;
}

double ComposedLoss::gap_estimate(const Steps& steps, const Target& target) {
  const Moments upper(steps, true), lower(steps, false);
  const double c = best_tilt(upper, asked_epsilon(target), log_of(target.delta), 0.1);
  const double gap = upper(c) - lower(c);
  return target.epsilon ? gap : gap / c;
}

std::optional<ComposedLoss> ComposedLoss::make(const Steps& steps, const Steps& guide, double grid,
                                               const Target& target, double* too_wide,
                                               size_t most) {
  ComposedLoss out;
  out.grid_ = grid;
  Totals about;
  guide.for_each([&](size_t, const StepLoss& step) { about.add(step); });
  if (!about.finite || about.count * 8 * kUnit > kMostInflation) return std::nullopt;
  const Moments upper(guide, true), lower(guide, false);

  const auto tilting = tilting_for(guide, about, grid, target);
  if (!tilting) return std::nullopt;
  const double c = tilting->c, log_tail = tilting->log_tail;
  double moment = tilting->moment;
  Window best = tilting->window;
  out.origin_ = tilting->origin;
  double lower_moment = 0, count = about.count;
  Window lower_best;
  if (&steps == &guide) {
    out.infinite_ = about.infinite();
    lower_moment = lower(c);
    lower_best = window(lower, c, lower_moment, log_tail, grid);
  } else {
    // What is too wide for those few is not asked of all.
    const double about_span = best.width() / grid + 4;
    if (std::isfinite(about_span) && about_span > 1.02 * static_cast<double>(most)) {
      *too_wide = about_span / static_cast<double>(most);
      return std::nullopt;
    }
    // Exactly, and of all steps in one go.
    const Reaches reaches = reaches_of(upper, c, moment, grid);
    Around of_upper, of_lower;
    Totals all;
    steps.for_each([&](size_t, const StepLoss& step) {
      all.add(step);
      auto take = [&](const StepLoss::Side& side, Around& around) {
        around.moment += step.count * moment_of(side, c);
        for (size_t i = 0; i < kReaches; ++i) {
          around.above[i] += step.count * moment_of(side, c + reaches[i]);
          around.below[i] += step.count * moment_of(side, c - reaches[i]);
        }
      };
      take(step.upper, of_upper);
      take(step.lower, of_lower);
    });
    if (!all.finite || all.count * 8 * kUnit > kMostInflation) return std::nullopt;
    out.infinite_ = all.infinite();
    count = all.count, moment = of_upper.moment, lower_moment = of_lower.moment;
    best = window(of_upper, reaches, log_tail);
    lower_best = window(of_lower, reaches, log_tail);
  }
  const double span = std::max(best.width(), lower_best.width()) / grid + 4;
  // Moments that are rounded by as much as they differ say nothing.
  if (!(span >= 4)) return std::nullopt;
  if (!(span < static_cast<double>(most))) {
    *too_wide = span / static_cast<double>(most);
    return std::nullopt;
  }
  const size_t n = std::bit_ceil(std::max<size_t>(64, static_cast<size_t>(span)));
  out.tilt_ = c;
  out.upper_.log_scale = moment;
  out.lower_.log_scale = lower_moment;
  const Transform transform(n);
  Circle circle(transform, steps.size() == 1);
  double loss_scale = std::abs(best.low) + std::abs(best.high), shifts[2] = {0, 0};
  steps.for_each([&](size_t, const StepLoss& step) {
    out.loss_error_ += step.count * step.loss_error;
    shifts[0] += step.count * step.upper.offset;
    shifts[1] += step.count * step.lower.offset;
    double mean = 0;
    for (size_t k = 0; k < step.at.size(); ++k)
      mean += step.upper.mass[k] * std::abs(step.upper.loss[k]);
    loss_scale += step.count * mean;
    circle.multiply(tilted(step, c, moment_of(step.upper, c), moment_of(step.lower, c)), step.count,
                    step.count > kMostWhole ? Circle::Powers::kLessOne : Circle::Powers::kWhole);
  });
  Circle::Masses masses = std::move(circle).composed();
  out.upper_.eta = out.lower_.eta = 2 * std::exp(log_tail) + masses.error;
  // Exponents c * loss carry relative roundings; logs of moments absolute ones.
  double relative = 1e-12 +
                    8 * kUnit *
                        (std::abs(moment) + std::abs(c * out.origin_) +
                         c * (std::abs(best.low) + std::abs(best.high))) +
                    count * 16 * kUnit;
  if (!(relative < kMostInflation)) return std::nullopt;
  out.upper_.inflation = out.lower_.inflation = std::expm1(relative);
  out.slack_ = 8 * kUnit * loss_scale + 1e-13;
  out.cut(std::move(masses), {best.low, lower_best.low}, shifts);
  return out;
}

// Cuts the windows, which begin at `lows`, out of the circle, where place 0 is the loss `shifts`. A
// window too far away to be numbered (noise that is next to none) stands where it promises least.
void ComposedLoss::cut(Circle::Masses&& masses, const double (&lows)[2],
                       const double (&shifts)[2]) {
  auto side = [&](std::vector<double>& from, double low, double shift, Side& to, double far) {
    double slot = std::floor((low - shift) / grid_) - 1;
    if (!(std::abs(slot) < 0x1p52)) slot = far;
    const auto first = static_cast<int64_t>(slot);
    Circle::turn(from, first);
    to.mass = std::move(from);
    to.start = static_cast<double>(first) * grid_ + shift;
  };
  side(masses.upper, lows[0], shifts[0], upper_, 0x1p52);
  side(masses.lower, lows[1], shifts[1], lower_, -0x1p52);
}

std::optional<ComposedLoss> ComposedLoss::of_blocks(Blocks& blocks, const Steps& guide,
                                                    const Target& target, size_t points) {
  ComposedLoss out;
  Totals about;
  double least = kInfinity;  // of the guide's grids
  guide.for_each([&](size_t, const StepLoss& step) {
    about.add(step);
    for (size_t k = 1; k < step.at.size(); ++k)
      least = std::min(least, step.upper.loss[k] - step.upper.loss[k - 1]);
  });
  if (!about.finite || about.count * 8 * kUnit > kMostInflation) return std::nullopt;
  const auto tilting = tilting_for(guide, about, least, target);
  if (!tilting || !std::isfinite(tilting->window.width())) return std::nullopt;
  const double c = tilting->c;
  out.tilt_ = c;
  out.origin_ = tilting->origin;
  // Blocks are a little wider than what they are made of.
  out.grid_ = 1.1 * tilting->window.width() / static_cast<double>(points);
  const double deviation = 1.5 / reaches_of(Moments(guide, true), c, tilting->moment, least)[0];
  Extent extent(deviation, c);
  Circle circle(blocks.transform(points), false);
  double shifts[2] = {0, 0}, log_finite = 0, loss_scale = 0, relative = 1e-12, error = 0,
         shrink = 0;
  for (size_t kind = 0; kind < blocks.size(); ++kind) {
    const auto parts = blocks.parts(kind, out.grid_, c, tilting->log_tail);
    if (blocks.loose() && blocks.size() == 1) return std::nullopt;
    for (const auto& [unit, count] : parts) {
      extent.add(unit, out.grid_, count);
      circle.multiply(unit.step, count, blocks.powers());
      out.upper_.log_scale += count * unit.upper.log_moment;
      out.lower_.log_scale += count * unit.lower.log_moment;
      out.loss_error_ += count * unit.loss_error;
      shifts[0] += count * unit.upper.offset;
      shifts[1] += count * unit.lower.offset;
      log_finite += count * unit.log_finite;
      loss_scale += count * unit.loss_scale;
      relative += count * unit.relative;
      error += count * unit.error;
      shrink += count * unit.shrink;
    }
  }
  // The circle is as long as it is: what it leaves outside is what it has to.
  double log_tail = tilting->log_tail;
  Window upper, lower;
  for (const double longest = (static_cast<double>(points) - 4) * out.grid_;; log_tail += 1) {
    if (log_tail > kMostTail) return std::nullopt;
    upper = extent.upper(log_tail), lower = extent.lower(log_tail);
    if (upper.width() <= longest && lower.width() <= longest) break;
  }
  out.infinite_ = -std::expm1(log_finite) * (1 + 1e-9);
  Circle::Masses masses = std::move(circle).composed();
  out.upper_.eta = out.lower_.eta =
      2 * std::exp(log_tail) + masses.error + 2 * std::expm1(error) * std::exp(shrink);
  const double size = std::abs(upper.low) + std::abs(upper.high);
  relative += 8 * kUnit * (std::abs(out.upper_.log_scale) + std::abs(c * out.origin_) + c * size);
  if (!(relative < kMostInflation && out.upper_.eta < 1)) return std::nullopt;
  out.upper_.inflation = out.lower_.inflation = std::expm1(relative);
  out.slack_ = 8 * kUnit * (size + loss_scale) + 1e-13;
  out.cut(std::move(masses), {upper.low, lower.low}, shifts);
  return out;
}

double ComposedLoss::log_pad() const {
  return log_most(tilt_) + std::log(upper_.eta);
}

double ComposedLoss::tail(const Side& side, double epsilon) const {
  double sum = 0;
  for (size_t k = side.mass.size(); k-- > 0;) {
    double x = side.start + static_cast<double>(k) * grid_;
    if (x <= epsilon) break;
    double mass = side.mass[k];
    if (mass > 0)
      sum += mass * std::exp(std::clamp(-tilt_ * (x - epsilon), -745.0, 0.0)) *
             -std::expm1(epsilon - x);
  }
  return sum;
}

double ComposedLoss::delta_upper(double epsilon) const {
  double at = epsilon - slack_;
  double front = upper_.log_scale - tilt_ * at;
  double sum = tail(upper_, at) * (1 + upper_.inflation) + std::exp(log_pad());
  double delta = sum > 0 ? std::exp(std::min(700.0, front + std::log(sum))) : 0;
  return std::min(1.0, delta + infinite_);
}

double ComposedLoss::delta_of_errors(double epsilon) const {
  return std::exp(std::min(700.0, upper_.log_scale - tilt_ * (epsilon - slack_) + log_pad()));
}

double ComposedLoss::delta_lower(double epsilon) const {
  double at = epsilon + slack_ + loss_error_;
  double front = lower_.log_scale - tilt_ * at;
  double sum = tail(lower_, at) * (1 - lower_.inflation) - std::exp(log_pad());
  return sum > 0 ? std::min(1.0, std::exp(std::min(700.0, front + std::log(sum)))) : 0;
}

// Where the bound of delta passes `delta`, from the top of the window down; the end of the
// last bracket on the sound side. Everything is measured from where the walk stands, so that
// nothing leaves the range of a double however wide the window is, and only positive terms are
// added.
double ComposedLoss::crossing(const Side& side, double delta, bool upper) const {
  const double pad = (upper ? 1 : -1) * std::exp(log_pad());
  // What the recurrences below may round in all.
  const double rounding = 16 * kUnit * static_cast<double>(side.mass.size());
  const double factor = upper ? (1 + side.inflation) * (1 + rounding)
                              : std::max(0.0, 1 - side.inflation) * (1 - rounding);
  // delta in units of e^{log_scale - c x}.
  auto wanted_at = [&](double x) { return std::exp(std::log(delta) - side.log_scale + tilt_ * x); };
  // Above the window the errors alone may be more than is wanted: up to where they are not.
  const double top = side.start + static_cast<double>(side.mass.size()) * grid_;
  if (upper && pad >= wanted_at(top)) {
    const double log_most_wanted = std::log(pad) + side.log_scale - std::log(delta);
    return std::max(0.0, log_most_wanted / tilt_ + 1e-12 * std::abs(log_most_wanted) / tilt_);
  }
  // Over the masses at x + grid and above, seen from there: mass e^{-c d}, and (1 - e^{-d}) of it,
  // d being how far away it is.
  double sum = 0, counted = 0;
  const double fall = std::exp(-tilt_ * grid_), keep = std::exp(-grid_), gain = -std::expm1(-grid_);
  double wanted = 0;
  for (auto k = static_cast<int64_t>(side.mass.size()) - 1; k >= 0; --k) {
    const double x = side.start + static_cast<double>(k) * grid_;
    // Exponentials step by step, afresh every 32: rounding stays below 1e-14.
    const bool anew =
        k % 32 == 31 || k + 1 == static_cast<int64_t>(side.mass.size()) || !(fall > 0.01);
    wanted = anew ? wanted_at(x) : wanted * fall;
    const double here = fall * (keep * counted + gain * sum);
    if (factor * here + pad > wanted) {
      double a = 0, b = grid_;  // below x + grid
      for (int i = 0; i < 60; ++i) {
        const double middle = 0.5 * (a + b);
        const double value =
            std::exp(-tilt_ * middle) * (std::exp(-middle) * counted - std::expm1(-middle) * sum);
        (factor * value + pad > wanted_at(x + grid_ - middle) ? b : a) = middle;
      }
      return std::max(0.0, x + grid_ - (upper ? a : b));
    }
    if (x <= 0) return 0;
    counted = here;
    sum = fall * sum + side.mass[static_cast<size_t>(k)];
  }
  return upper ? std::max(0.0, side.start) : 0;
}

double ComposedLoss::epsilon_upper(double delta) const {
  double finite = delta * (1 - 1e-12) - infinite_;
  if (!(finite > 0)) return kInfinity;
  double epsilon = crossing(upper_, finite, true);
  return epsilon > 0 ? epsilon * (1 + 1e-12) + slack_ : 0;
}

double ComposedLoss::epsilon_lower(double delta) const {
  double epsilon = crossing(lower_, delta * (1 + 1e-12), false);
  return std::max(0.0, epsilon * (1 - 1e-12) - slack_ - loss_error_);
}

}  // namespace souk::policy
