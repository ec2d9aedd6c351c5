#include "policy/privacy/compose.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "policy/privacy/fft.h"
#include "policy/privacy/moments.h"
#include "policy/privacy/power.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kLeastTilt = -11.5, kMostTilt = 13.8;  // logs: tilts from 1e-5 to 1e6
constexpr double kMostInflation = 0.5;  // of masses, by roundings: beyond, nothing is certified
constexpr double kMostWhole = 2e6;      // above this spectra are summed less 1

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

// Kahan's compensated sum.
struct Sum {
  double value = 0, rest = 0;
  void add(double term) {
    double y = term - rest, t = value + y;
    rest = (t - value) - y;
    value = t;
  }
};

}  // namespace

double ComposedLoss::epsilon_estimate(const Steps& steps, double delta) {
  const Moments upper(steps, true);
  auto bound = [&](double log_c) {
    double c = std::exp(log_c);
    return (upper(c) + log_most(c) - std::log(delta)) / c;
  };
  return bound(argmin(bound, kLeastTilt, kMostTilt, 0.05));
}

double ComposedLoss::epsilon_bound(const Steps& steps, const Steps& guide, double delta) {
  const Moments about(guide, true);
  const double c = std::exp(argmin(
      [&](double log_c) {
        const double tilt = std::exp(log_c);
        return (about(tilt) + log_most(tilt) - std::log(delta)) / tilt;
      },
      kLeastTilt, kMostTilt, 0.05));
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
  const auto at = target.epsilon ? target.epsilon : target.near;
  auto bound = [&](double log_c) {
    const double c = std::exp(log_c);
    return at ? upper(c) - c * *at + log_most(c)
              : (upper(c) + log_most(c) - std::log(*target.delta)) / c;
  };
  const double c = std::exp(argmin(bound, kLeastTilt, kMostTilt, 0.1));
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

  // The saddle point, roughly, for the question that will be asked.
  double finite_delta = target.delta ? *target.delta * (1 - 1e-12) - about.infinite() : 0;
  if (target.delta && !(finite_delta > 0)) return std::nullopt;
  const auto asked = target.epsilon ? target.epsilon : target.near;
  auto log_bound = [&](double log_c) {  // log of delta(epsilon) at most, at this tilt
    double c = std::exp(log_c);
    return upper(c) - c * *asked + log_most(c);
  };
  auto epsilon_bound = [&](double log_c) {
    double c = std::exp(log_c);
    return (upper(c) + log_most(c) - std::log(finite_delta)) / c;
  };
  double log_c = asked ? argmin(log_bound, kLeastTilt, kMostTilt, 0.05)
                       : argmin(epsilon_bound, kLeastTilt, kMostTilt, 0.05);
  const double saddle = std::exp(log_c);
  out.origin_ = asked ? *asked : epsilon_bound(log_c);
  const double log_target = target.delta ? std::log(finite_delta) : log_bound(log_c);
  if (!std::isfinite(out.origin_) || std::isnan(log_target)) return std::nullopt;

  // The narrowest window among the tilts that keep the pad small: what lies outside wraps
  // around and counts like an error of the transform.
  const double log_rounding = std::log(3e-13 + std::min(about.count * 5e-15, 2e-7));
  double c = 0, moment = 0, log_tail = 0;
  Window best{0, kInfinity};
  for (double f : {1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1}) {
    double tilt = saddle * f, m = upper(tilt);
    double allowed = log_target + target.log_pad - log_most(tilt) - m + tilt * out.origin_;
    if (f < 1 && allowed < log_rounding + 1) continue;
    allowed = std::clamp(allowed - 0.7, -39.0, -7.0);
    Window w = window(upper, tilt, m, allowed, grid);
    if (w.width() < best.width()) best = w, c = tilt, moment = m, log_tail = allowed;
  }
  if (c == 0) return std::nullopt;
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
  const auto modulus = static_cast<int64_t>(n);
  out.tilt_ = c;
  out.upper_.log_scale = moment;
  out.lower_.log_scale = lower_moment;

  // Upper distribution in the real part, lower in the imaginary: one transform for both.
  // Slot 0 is loss 0; the window is cut out at the end.
  // Transforms there and back, and per step one there and a power of each value.
  WorkBudget::pay(n * (std::bit_width(n) / 4 + 4));
  const Transform transform(n);
  const double units = Transform::error_units(n) * kUnit;
  std::vector<double> re(n), im(n);
  // Both spectra are Hermitian: half of each is kept, at the places p <= mirror(p).
  struct Half {
    std::vector<double> re, im;
  };
  // Of one kind of step alone the spectra go where its transform was.
  const size_t half = steps.size() == 1 ? 0 : n / 2 + 1;
  Half product_upper{std::vector<double>(half, 1.0), std::vector<double>(half, 0.0)};
  Half product_lower = product_upper;
  std::vector<double> error(half, 0.0);  // of the larger of the two
  auto for_each_pair = [&](auto&& visit) {
    visit(size_t{0}, size_t{0}, size_t{0});
    visit(size_t{1}, size_t{1}, size_t{1});
    size_t at = 2;
    for (size_t block = 2; block < n; block *= 2) {
      for (size_t p = block; p < block + block / 2; ++p) visit(p, Transform::mirror(p), at++);
    }
  };
  double error_square = 0, size_square = 0;
  // Both spectra at p and mirror(p) as what is to be transformed back.
  auto put = [&](size_t p, size_t m, double ur, double ui, double vr, double vi, double erring) {
    double size = std::hypot(ur, ui) + std::hypot(vr, vi), both = m == p ? 1 : 2;
    size_square += both * size * size;
    error_square += both * std::pow(2 * erring, 2);
    // Z[k] = U[k] + i V[k], Z[-k] = conj U[k] + i conj V[k].
    re[p] = ur - vi;
    im[p] = ui + vr;
    re[m] = ur + vi;
    im[m] = -ui + vr;
  };
  double loss_scale = std::abs(best.low) + std::abs(best.high), shifts[2] = {0, 0};
  steps.for_each([&](size_t, const StepLoss& step) {
    WorkBudget::pay(n * (std::bit_width(n) / 4 + (step.count <= kMostMultiplied ? 4 : 16)));
    out.loss_error_ += step.count * step.loss_error;
    shifts[0] += step.count * step.upper.offset;
    shifts[1] += step.count * step.lower.offset;
    double mean = 0;
    for (size_t k = 0; k < step.at.size(); ++k)
      mean += step.upper.mass[k] * std::abs(step.upper.loss[k]);
    loss_scale += step.count * mean;
    std::fill(re.begin(), re.end(), 0.0);
    std::fill(im.begin(), im.end(), 0.0);
    double own_upper = moment_of(step.upper, c), own_lower = moment_of(step.lower, c);
    std::vector<size_t> slots(step.at.size());
    std::vector<double> weights_upper(step.at.size()), weights_lower(step.at.size());
    for (size_t k = 0; k < step.at.size(); ++k) {
      auto slot = static_cast<size_t>(((step.at[k] % modulus) + modulus) % modulus);
      auto tilted = [&](const StepLoss::Side& side, double own) {
        double exponent = c * side.loss[k] - own;
        if (!(side.mass[k] > 0)) return 0.0;
        return exponent < 600 ? side.mass[k] * std::exp(exponent)
                              : std::exp(std::log(side.mass[k]) + exponent);
      };
      slots[k] = slot;
      re[slot] += weights_upper[k] = tilted(step.upper, own_upper);
      im[slot] += weights_lower[k] = tilted(step.lower, own_lower);
    }
    transform.forward(re.data(), im.data());
    // A high power multiplies the transform's error; where few values survive it, they are
    // summed afresh, one by one.
    const double least = std::exp(std::log(kNegligible) / step.count), faint = least * least;
    auto survives = [&](size_t p, size_t m) {
      double a = re[p] + re[m], b = im[p] - im[m], x = im[p] + im[m], y = re[m] - re[p];
      return 0.25 * std::max(a * a + b * b, x * x + y * y) > 0.5 * faint;
    };
    size_t surviving = 0;
    if (step.count >= 16)
      for_each_pair([&](size_t p, size_t m, size_t) { surviving += survives(p, m); });
    const bool afresh = step.count >= 16 &&
                        static_cast<double>(surviving) * static_cast<double>(slots.size()) < 1e6;
    // By how much the weights add up to more than 1. Its rounding is a factor of all values alike,
    // but for what they differ from 1: of the inflation.
    Sum beyond_upper, beyond_lower;
    if (afresh) {
      WorkBudget::pay(4 * surviving * slots.size());
      beyond_upper.add(-1);
      beyond_lower.add(-1);
      for (size_t k = 0; k < slots.size(); ++k) {
        beyond_upper.add(weights_upper[k]);
        beyond_lower.add(weights_lower[k]);
      }
    }
    for_each_pair([&](size_t p, size_t m, size_t at) {
      double before = 0;
      if (half != 0) {
        auto size = [at](const Half& x) {
          return std::sqrt(x.re[at] * x.re[at] + x.im[at] * x.im[at]);
        };
        before = std::max(size(product_upper), size(product_lower));
        if (before < kNegligible) {
          // Never mind what it still loses: factors are at most 1 but for roundings.
          product_upper.re[at] = product_upper.im[at] = 0;
          product_lower.re[at] = product_lower.im[at] = 0;
          error[at] += 2 * kNegligible;
          return;
        }
      }
      // U = (Z[k] + conj Z[-k]) / 2, V = (Z[k] - conj Z[-k]) / 2i.
      double ur = 0.5 * (re[p] + re[m]), ui = 0.5 * (im[p] - im[m]);
      double vr = 0.5 * (im[p] + im[m]), vi = 0.5 * (re[m] - re[p]);
      const double value_error = 2 * units;
      Power u, v;
      if (afresh && survives(p, m)) {
        Sum sums[4];
        double sizes[2] = {0, 0};
        const size_t frequency = transform.frequency(p);
        // Of very high powers less 1, from which what survives them differs by little.
        const bool less = step.count > kMostWhole;
        for (size_t k = 0; k < slots.size(); ++k) {
          double root_re = 0, root_im = 0;
          size_t turn = (frequency * slots[k]) & (n - 1);
          if (less) {
            // By the angle next to zero, where the sine is right relatively.
            const bool back = turn > n / 2;
            transform.root(back ? n - turn : turn, &root_re, &root_im);
            if (back) root_im = -root_im;
            root_re = root_re > 0 ? -root_im * root_im / (1 + root_re) : root_re - 1;  // cos - 1
            const double size = std::abs(root_re) + std::abs(root_im);
            sizes[0] += weights_upper[k] * size;
            sizes[1] += weights_lower[k] * size;
          } else {
            transform.root(turn, &root_re, &root_im);
          }
          sums[0].add(weights_upper[k] * root_re);
          sums[1].add(weights_upper[k] * root_im);
          sums[2].add(weights_lower[k] * root_re);
          sums[3].add(weights_lower[k] * root_im);
        }
        // Roots, products and compensated sums, both parts.
        auto raised = [&](double x, double y, double beyond, double size) {
          return less ? power_near_one(beyond + x, y, step.count, 17 * kUnit * size, least)
                      : power(x, y, step.count, 9 * kUnit, least);
        };
        u = raised(sums[0].value, sums[1].value, beyond_upper.value, sizes[0]);
        v = raised(sums[2].value, sums[3].value, beyond_lower.value, sizes[1]);
      } else {
        u = power(ur, ui, step.count, value_error, least);
        v = power(vr, vi, step.count, value_error, least);
      }
      double largest = std::max(u.most, v.most);
      if (half == 0) {
        put(p, m, u.re, u.im, v.re, v.im, std::max(u.error, v.error) + 4 * kUnit * largest);
        return;
      }
      auto times = [at](Half& x, const Power& y) {
        double r = x.re[at] * y.re - x.im[at] * y.im;
        x.im[at] = x.re[at] * y.im + x.im[at] * y.re;
        x.re[at] = r;
      };
      times(product_upper, u);
      times(product_lower, v);
      error[at] = error[at] * largest + before * (std::max(u.error, v.error) + 4 * kUnit * largest);
    });
  });
  if (half != 0) {
    for_each_pair([&](size_t p, size_t m, size_t at) {
      put(p, m, product_upper.re[at], product_upper.im[at], product_lower.re[at],
          product_lower.im[at], error[at]);
    });
  }
  product_upper = product_lower = {};
  transform.inverse(re.data(), im.data());
  // The absolute errors of n values add up to at most sqrt(n) times their Euclidean norm, and
  // that is the spectrum's over sqrt(n) (Parseval); the transform itself errs in that norm by
  // `units` (Higham 2002, Theorem 24.2).
  const double eta =
      2 * std::exp(log_tail) + std::sqrt(error_square) + units * std::sqrt(size_square);
  out.upper_.eta = out.lower_.eta = eta;
  // Exponents c * loss carry relative roundings; logs of moments absolute ones.
  double relative = 1e-12 +
                    8 * kUnit *
                        (std::abs(moment) + std::abs(c * out.origin_) +
                         c * (std::abs(best.low) + std::abs(best.high))) +
                    count * 16 * kUnit;
  if (!(relative < kMostInflation)) return std::nullopt;
  out.upper_.inflation = out.lower_.inflation = std::expm1(relative);
  out.slack_ = 8 * kUnit * loss_scale + 1e-13;

  // Cuts the windows out of the circle: slot 0 is the sum of the offsets. A window too far away to
  // be numbered (noise that is next to none) stands where it promises least: `far`.
  const double scale = 1 / static_cast<double>(n);
  auto cut = [&](std::vector<double>& masses, double low, double shift, Side& side, double far) {
    double slot = std::floor((low - shift) / grid) - 1;
    if (!(std::abs(slot) < 0x1p52)) slot = far;
    const auto first = static_cast<int64_t>(slot);
    for (double& mass : masses) mass = std::max(0.0, mass * scale);
    std::rotate(masses.begin(),
                masses.begin() + static_cast<ptrdiff_t>(((first % modulus) + modulus) % modulus),
                masses.end());
    side.mass = std::move(masses);
    side.start = static_cast<double>(first) * grid + shift;
  };
  cut(re, best.low, shifts[0], out.upper_, 0x1p52);
  cut(im, lower_best.low, shifts[1], out.lower_, -0x1p52);
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
