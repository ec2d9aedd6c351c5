#include "policy/privacy/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ledger/base/result.h"
#include "policy/privacy/quadrature.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
constexpr double kUnseen = 0x1p-60;  // of the greatest term: all others beyond are less together
constexpr double kWeightError = 2e-15;
constexpr double kNobodys = 1e-300;  // a mass that no outcome need have

// What evaluating so many terms costs, in units of work.h.
uint64_t units_of(size_t terms) {
  return 4 + terms / 4;
}

}  // namespace

Mixture::Mixture(double sigma, uint32_t first, std::vector<double> weights)
    : sigma_(sigma),
      inverse_(1 / (sigma * sigma)),
      first_(first),
      weight_(std::move(weights)),
      log_weight_(weight_.size()) {
  const size_t n = weight_.size();
  CHECK(n >= 3);
  WorkBudget::pay(4 * n);
  for (auto* table : {&ratio_, &up_, &down_, &turn_}) table->resize(n - 1);
  fall_.resize(n);
  drop_.resize(n);
  const long double precision = 1 / (static_cast<long double>(sigma) * sigma);
  for (size_t i = 0; i < n; ++i) {
    log_weight_[i] = std::log(weight_[i]);
    fall_[i] = std::exp(static_cast<double>(-precision * i));
    drop_[i] = std::expm1(static_cast<double>(-precision * i));
    usual_ += weight_[i] * mean(i);
    if (i > 0) rest_ += weight_[i];
  }
  for (size_t i = 0; i + 1 < n; ++i) {
    ratio_[i] = weight_[i + 1] / weight_[i];
    up_[i] = ratio_[i] / ratio_[0];
    down_[i] = 1 / up_[i];
    turn_[i] = mean(i) + 0.5 - sigma * sigma * std::log(ratio_[i]);
  }
  log_base_ = std::log(ratio_[0]);
  mode_ = static_cast<size_t>(std::max_element(weight_.begin(), weight_.end()) - weight_.begin());
}

size_t Mixture::top_at(double x) const {
  return static_cast<size_t>(std::upper_bound(turn_.begin(), turn_.end(), x) - turn_.begin());
}

// Term i is weight i times exp(m (x - m / 2) / sigma^2), m its mean. Term i + 1 over it is weight
// over weight times exp((x - m - 1/2) / sigma^2), which falls as i grows: by both factors. So what
// lies beyond a term t, the last ratio being f < 1, is less than t f / (1 - f).
template <class Visit>
size_t Mixture::walk(size_t least, size_t top, double off, Visit&& visit) const {
  const size_t n = weight_.size();
  size_t count = 1;
  visit(0.0, 1.0);
  if (top + 1 < n) {
    const double first = std::exp(log_base_ + (off - 0.5) * inverse_);
    double term = 1, i = 1;
    for (size_t l = 0; top + l + 1 < n; ++l, ++i) {
      const double factor = first * (up_[top + l] * fall_[l]);
      term *= factor;
      visit(i, term);
      ++count;
      if (term * factor <= kUnseen * (1 - factor)) break;
    }
  }
  if (top > least) {
    const double first = std::exp(-log_base_ - (off + 0.5) * inverse_);
    double term = 1, i = -1;
    for (size_t l = 0; top > least + l; ++l, --i) {
      const double factor = first * (down_[top - l - 1] * fall_[l]);
      term *= factor;
      visit(i, term);
      ++count;
      if (term * factor <= kUnseen * (1 - factor)) break;
    }
  }
  return count;
}

// Over the greatest term: sums of the others, and of the first two moments of how far away they
// are.
struct Mixture::Sums {
  double others = 0, first = 0, second = 0;
  double all() const { return 1 + others; }
  double mean() const { return first / all(); }
  double variance() const { return std::max(0.0, second / all() - mean() * mean()); }
};

Mixture::Sums Mixture::sums(size_t least, size_t top, double off) const {
  Sums out;
  WorkBudget::pay(units_of(walk(least, top, off, [&](double i, double term) {
    out.others += term;
    out.first += i * term;
    out.second += i * i * term;
  })));
  out.others -= 1;
  return out;
}

Mixture::Ratio Mixture::ratio(double x) const {
  const size_t top = top_at(x);
  const double m = mean(top), log_top = log_weight_[top] + m * (x - 0.5 * m) * inverse_;
  if (log_top <= 0 && usual_ * (sigma_ + std::abs(x)) * inverse_ < 1) return near_one(x);
  Sums others;
  WorkBudget::pay(units_of(walk(0, top, x - m, [&](double i, double term) {
    if (i == 0) return;
    others.others += term;
    others.first += i * term;
    others.second += i * i * term;
  })));
  return {log_top + std::log1p(others.others), (m + others.mean()) * inverse_,
          others.variance() * inverse_ * inverse_};
}

// Where the usual terms are about what they are at zero, the sum of weight times expm1 of the
// exponent: from the greatest weight outwards, e^{a + d} - 1 = (e^a - 1) + (e^d - 1) e^a. The
// exponents are concave in i, so what cancels was no larger than what it is added to in the end,
// and a rounding on the way counts no more than one of x or sigma.
Mixture::Ratio Mixture::near_one(double x) const {
  const size_t n = weight_.size();
  const double m = mean(mode_);
  double sum = 0, first = 0, second = 0;  // of weight e^exponent: moments about zero
  auto take = [&](size_t i, double beyond) {
    const double grown = weight_[i] * (1 + beyond), at = mean(i);
    sum += weight_[i] * beyond;
    first += at * grown;
    second += at * at * grown;
  };
  const double start = std::expm1(m * (x - 0.5 * m) * inverse_);
  take(mode_, start);
  size_t count = 1;
  // Beyond, terms and weights fall at least as fast as here.
  auto seen = [&](size_t i, double beyond, double factor, double rise) {
    const double fall = factor * std::max(1.0, 1 + rise);
    const double least = kUnseen * std::max(std::abs(sum), first * inverse_ * sigma_);
    return !(fall < 1 && weight_[i] * (2 + beyond) * fall <= least * (1 - fall));
  };
  auto rise_by = [&](double whole, size_t l) {
    return whole <= 1 ? whole + drop_[l] * (1 + whole) : (1 + whole) * fall_[l] - 1;
  };
  double whole = std::expm1((x - m - 0.5) * inverse_), beyond = start;
  for (size_t i = mode_; i + 1 < n; ++i, ++count) {
    const double rise = rise_by(whole, i - mode_);
    beyond += rise * (1 + beyond);
    take(i + 1, beyond);
    if (!seen(i + 1, beyond, ratio_[i], rise)) break;
  }
  whole = std::expm1(-(x - m + 0.5) * inverse_), beyond = start;
  for (size_t i = mode_; i > 0; --i, ++count) {
    const double rise = rise_by(whole, mode_ - i);
    beyond += rise * (1 + beyond);
    take(i - 1, beyond);
    if (!seen(i - 1, beyond, 1 / ratio_[i - 1], rise)) break;
  }
  WorkBudget::pay(units_of(2 * count));
  const double mean = first / (1 + sum);
  return {std::log1p(sum), mean * inverse_,
          std::max(0.0, second / (1 + sum) - mean * mean) * inverse_ * inverse_};
}

double Mixture::log_density(double x) const {
  const double z = x / sigma_;
  return ratio(x).log - 0.5 * z * z - 0.9189385332046727 - std::log(sigma_);
}

// With a term of mean 0, which does not depend on x, by log of the sum of all others: convex, and
// its slope is between that of one row and that of all. Without, by log of the whole sum.
double Mixture::where(double value, Place& near) const {
  const size_t least = first_ == 0 ? 1 : 0;
  double wanted = value;
  if (least == 1) {
    if (value > 30) {
      wanted += std::log1p(-weight_[0] * std::exp(-value));
    } else {
      const double t = value < -0.5 ? std::exp(value) - weight_[0] : std::expm1(value) + rest_;
      if (!(t > 0)) return -kInfinity;
      wanted = std::log(t);
    }
  }
  double x = near.x;
  Ratio of = near.of;
  for (int i = 0; i < 200; ++i) {
    if (i > 0 || !near.known) {
      const size_t top = std::max(least, top_at(x));
      const double m = mean(top);
      const Sums found = sums(least, top, x - m);
      of = {log_weight_[top] + m * (x - 0.5 * m) * inverse_ + std::log1p(found.others),
            (m + found.mean()) * inverse_, found.variance() * inverse_ * inverse_};
    }
    const double off = wanted - of.log;
    double step = off / of.slope;
    // Halley's where the slope changes by less than itself; of a convex function either closes in.
    const double bent = of.bend / of.slope * step;
    if (std::abs(bent) < 1) step /= 1 + 0.5 * bent;
    const bool fresh = i > 0 || !near.known;
    near = {x, of, true};
    x += step;
    // What is left after a short step, by the third derivative: it is below the second times the
    // spread of the terms.
    const double left =
        std::abs(step * bent) * (std::abs(bent) + std::abs(step) * (inverse_ + std::sqrt(of.bend)));
    const bool brief = std::abs(step) * std::max(inverse_, 1 / sigma_) < 1e-3;
    if (fresh && brief && left <= 4e-16 * (sigma_ + std::abs(x))) break;
    if (fresh && std::abs(off) <= 2e-16) break;
  }
  return x;
}

// Of a short piece: what each term gives, over the greatest, is the series
//   width * sum of He_2n(z) h^2n / (2n + 1)!,  h half the width and z the middle from its mean, in
// deviations, here as a polynomial of z^2 to n = 6. With all signs positive He_2n is H_2n, which is
// no less than |He_2n|: H_{2n+2} <= (z^2 + 4n + 1) H_2n, so that for h <= 1/4 and |z| <= 46, beyond
// which no term is seen, the rest is less than twice what n = 7 gives, and H_14 <= (z^2 + 13)^7.
struct Mixture::Piece {
  double value = 0, error = 0;  // the latter absolute
};

Mixture::Piece Mixture::piece(double from, double to) const {
  const size_t top = top_at(0.5 * (from + to));
  const double a = from - mean(top), b = to - mean(top), per = 1 / sigma_;
  const double off = 0.5 * (a + b), z0 = off * per, h = 0.5 * (to - from) * per;
  const double v = h * h, c1 = v / 6, c2 = c1 * v / 20, c3 = c2 * v / 42, c4 = c3 * v / 72,
               c5 = c4 * v / 110, c6 = c5 * v / 156;
  const double p0 = 1 - c1 + 3 * c2 - 15 * c3 + 105 * c4 - 945 * c5 + 10395 * c6,
               p1 = c1 - 6 * c2 + 45 * c3 - 420 * c4 + 4725 * c5 - 62370 * c6,
               p2 = c2 - 15 * c3 + 210 * c4 - 3150 * c5 + 51975 * c6,
               p3 = c3 - 28 * c4 + 630 * c5 - 13860 * c6, p4 = c4 - 45 * c5 + 1485 * c6,
               p5 = c5 - 66 * c6, p6 = c6;
  double sum = 0, beyond = 0, away = 0;
  const size_t count = walk(0, top, off, [&](double i, double term) {
    const double z = z0 - i * per, s = z * z, w = s + 13, w2 = w * w;
    sum += term * (p0 + s * (p1 + s * (p2 + s * (p3 + s * (p4 + s * (p5 + s * p6))))));
    beyond += term * (w2 * w2 * w2 * w);
    away += std::abs(i) * term;
  });
  WorkBudget::pay(units_of(2 * count));
  // A ratio of terms: its exponent is rounded as its summands are, and then come six roundings.
  const double first = std::abs(log_base_ + off * inverse_), summands = std::abs(z0) * per;
  const double scale = weight_[top] * normal_density(z0) * 2 * h;
  Piece out{scale * sum, 0};
  out.error = scale * (2 * c6 * v / 210 * beyond +
                       kUnit * (away * (12 + 5 * summands + 2 * std::min(first, 50.0)) +
                                sum * (30 + 6 * z0 * z0 + static_cast<double>(count))));
  return out;
}

Mixture::Mass Mixture::between(double from, double to) const {
  const double middle = 0.5 * (from + to), width = (to - from) / sigma_;
  if (width < 4) {
    // So many pieces that what their series leave out is below 1e-15 of the greatest term.
    const double z = (middle - mean(top_at(middle))) / sigma_;
    const double pieces =
        std::ceil(std::max(2 * width, 0.5 * width * std::sqrt((z * z + 13) / 0.35)));
    if (pieces <= 16 && std::abs(z) < 37) {
      double value = 0, error = 0, at = from;
      for (double i = 1; i <= pieces; ++i) {
        const double next = i == pieces ? to : from + (to - from) * (i / pieces);
        const Piece part = piece(at, next);
        value += part.value, error += part.error, at = next;
      }
      error = error / value + pieces * kUnit;
      if (error < 1e-12) return {value, error + kWeightError};
    }
  }
  return term_by_term(from, to);
}

// Masses of the terms are log-concave in i, as the weights and a normal's masses are (Prekopa
// 1973): past the greatest their ratios fall.
Mixture::Mass Mixture::term_by_term(double from, double to) const {
  const size_t n = weight_.size();
  double sum = 0, off = 0;
  size_t count = 0;
  auto take = [&](size_t i) {
    const double a = (from - mean(i)) / sigma_, b = (to - mean(i)) / sigma_;
    const double mass = weight_[i] * normal_between(a, b, (to - from) / sigma_);
    const double z = std::max({0.0, a, -b});  // where most of it is
    sum += mass;
    off += mass * (8e-15 + 5e-16 * z * z);
    ++count;
    return mass;
  };
  const size_t start = std::clamp(mode_, top_at(from), top_at(to));
  const double greatest = take(start);
  auto last = [&](double before, double mass) {
    const double fall = mass / before;
    if (!(mass > kNobodys)) return true;
    return fall < 1 && mass * fall <= kUnseen * sum * (1 - fall);
  };
  double before = greatest;
  for (size_t i = start + 1; i < n; ++i) {
    const double mass = take(i);
    if (last(before, mass)) break;
    before = mass;
  }
  before = greatest;
  for (size_t i = start; i-- > 0;) {
    const double mass = take(i);
    if (last(before, mass)) break;
    before = mass;
  }
  WorkBudget::pay(6 * count);
  if (!(sum > 0)) return {};
  return {sum, off / sum + kWeightError + static_cast<double>(count) * kUnit};
}

}  // namespace souk::policy
