#include "policy/privacy/circle.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "policy/privacy/compensated.h"
#include "policy/privacy/power.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kUnit = 0x1p-53;
constexpr double kMostAfresh = 2e7, kMostAfreshWhole = 1e6;  // terms

constexpr size_t kMostRoots = 1 << 16;
constexpr size_t kAtOnce = 4;  // places whose sums are made side by side

int64_t wrapped(int64_t at, int64_t modulus) {
  return ((at % modulus) + modulus) % modulus;
}

// The spectra of both sides of one step at the places that its power survives, summed one by one.
class Afresh {
 public:
  Afresh(const Transform& transform, const TiltedStep& step, const std::vector<size_t>& slots,
         double count, bool less, double least)
      : transform_(transform),
        step_(step),
        slots_(slots),
        count_(count),
        less_(less),
        least_(least),
        roots_(transform.size() <= kMostRoots ? transform.size() : 0) {
    // By how much the masses add up to more than 1. Its rounding is a factor of all values alike,
    // but for what they differ from 1: of the inflation.
    CompensatedSums<2> beyond;
    beyond.add({-1, -1});
    for (size_t k = 0; k < slots.size(); ++k) beyond.add({step.upper[k], step.lower[k]});
    beyond_upper_ = beyond.value[0];
    beyond_lower_ = beyond.value[1];
    for (size_t turn = 0; turn < roots_.size(); ++turn) roots_[turn] = root_of(turn);
  }

  struct Pair {
    Power upper, lower;
  };
  // Their powers at these places of the transform.
  std::vector<Pair> powers(const std::vector<size_t>& places) const {
    std::vector<Pair> out;
    out.reserve(places.size());
    for (size_t first = 0; first < places.size(); first += kAtOnce) {
      const size_t many = std::min(kAtOnce, places.size() - first);
      size_t frequencies[kAtOnce] = {};
      for (size_t j = 0; j < many; ++j) frequencies[j] = transform_.frequency(places[first + j]);
      add_powers(frequencies, many, out);
    }
    return out;
  }

 private:
  void add_powers(const size_t (&frequencies)[kAtOnce], size_t many, std::vector<Pair>& out) const {
    CompensatedSums<kAtOnce> sums[4];
    double sizes[2][kAtOnce] = {};
    const size_t n = transform_.size();
    for (size_t k = 0; k < slots_.size(); ++k) {
      double re[kAtOnce], im[kAtOnce];
      for (size_t j = 0; j < kAtOnce; ++j) {
        const size_t turn = (frequencies[j] * slots_[k]) & (n - 1);
        const Root root = roots_.empty() ? root_of(turn) : roots_[turn];
        re[j] = root.re, im[j] = root.im;
      }
      const double upper = step_.upper[k], lower = step_.lower[k];
      if (less_) {
        for (size_t j = 0; j < kAtOnce; ++j) {
          const double size = std::abs(re[j]) + std::abs(im[j]);
          sizes[0][j] += upper * size;
          sizes[1][j] += lower * size;
        }
      }
      double terms[4][kAtOnce];
      for (size_t j = 0; j < kAtOnce; ++j) {
        terms[0][j] = upper * re[j];
        terms[1][j] = upper * im[j];
        terms[2][j] = lower * re[j];
        terms[3][j] = lower * im[j];
      }
      for (size_t i = 0; i < 4; ++i) sums[i].add(terms[i]);
    }
    for (size_t j = 0; j < many; ++j)
      out.push_back({raised(sums[0].value[j], sums[1].value[j], beyond_upper_, sizes[0][j]),
                     raised(sums[2].value[j], sums[3].value[j], beyond_lower_, sizes[1][j])});
  }

  // Roots, products and compensated sums, both parts.
  Power raised(double x, double y, double beyond, double size) const {
    return less_ ? power_near_one(beyond + x, y, count_, 17 * kUnit * size, least_)
                 : power(x, y, count_, 9 * kUnit, least_);
  }

  struct Root {
    double re, im;
  };
  // That many places of a turn further, less 1 if that is asked.
  Root root_of(size_t turn) const {
    const size_t n = transform_.size();
    Root root{};
    // By the angle next to zero, where the sine is right relatively.
    const bool back = less_ && turn > n / 2;
    transform_.root(back ? n - turn : turn, &root.re, &root.im);
    if (back) root.im = -root.im;
    if (less_) root.re = root.re > 0 ? -root.im * root.im / (1 + root.re) : root.re - 1;  // cos - 1
    return root;
  }

  const Transform& transform_;
  const TiltedStep& step_;
  const std::vector<size_t>& slots_;
  const double count_;
  const bool less_;
  const double least_;
  std::vector<Root> roots_;  // of each turn, where they are not too many
  double beyond_upper_ = 0, beyond_lower_ = 0;
};

}  // namespace

TiltedStep tilted(const StepLoss& step, double c, double log_upper, double log_lower) {
  auto masses = [c](const StepLoss::Side& side, double log_moment) {
    std::vector<double> out(side.mass.size());
    for (size_t k = 0; k < out.size(); ++k) {
      if (!(side.mass[k] > 0)) continue;
      const double exponent = c * side.loss[k] - log_moment;
      out[k] = exponent < 600 ? side.mass[k] * std::exp(exponent)
                              : std::exp(std::log(side.mass[k]) + exponent);
    }
    return out;
  };
  return {step.at, masses(step.upper, log_upper), masses(step.lower, log_lower)};
}

Circle::Circle(const Transform& transform, bool alone)
    : transform_(transform),
      n_(transform.size()),
      units_(Transform::error_units(n_) * kUnit),
      half_(alone ? 0 : n_ / 2 + 1),
      re_(n_),
      im_(n_),
      upper_{std::vector<double>(half_, 1.0), std::vector<double>(half_, 0.0)},
      lower_(upper_),
      error_(half_, 0.0) {
  // Transforms there and back, and per step one there and a power of each value.
  WorkBudget::pay(n_ * (std::bit_width(n_) / 4 + 4));
}

template <class Visit>
void Circle::for_each_pair(Visit&& visit) const {
  visit(size_t{0}, size_t{0}, size_t{0});
  visit(size_t{1}, size_t{1}, size_t{1});
  size_t at = 2;
  for (size_t block = 2; block < n_; block *= 2) {
    for (size_t p = block; p < block + block / 2; ++p) visit(p, Transform::mirror(p), at++);
  }
}

// Both spectra at p and mirror(p) as what is to be transformed back.
void Circle::put(size_t p, size_t m, double ur, double ui, double vr, double vi, double erring) {
  double size = std::hypot(ur, ui) + std::hypot(vr, vi), both = m == p ? 1 : 2;
  size_square_ += both * size * size;
  error_square_ += both * std::pow(2 * erring, 2);
  // Z[k] = U[k] + i V[k], Z[-k] = conj U[k] + i conj V[k].
  re_[p] = ur - vi;
  im_[p] = ui + vr;
  re_[m] = ur + vi;
  im_[m] = -ui + vr;
}

void Circle::multiply(const TiltedStep& step, double count, Powers powers) {
  WorkBudget::pay(n_ * (std::bit_width(n_) / 4 + 4));
  std::fill(re_.begin(), re_.end(), 0.0);
  std::fill(im_.begin(), im_.end(), 0.0);
  std::vector<size_t> slots(step.at.size());
  for (size_t k = 0; k < slots.size(); ++k) {
    slots[k] = static_cast<size_t>(wrapped(step.at[k], static_cast<int64_t>(n_)));
    re_[slots[k]] += step.upper[k];
    im_[slots[k]] += step.lower[k];
  }
  transform_.forward(re_.data(), im_.data());
  // A high power multiplies the transform's error; where few values survive it, they are
  // summed afresh, one by one.
  const double least = std::exp(std::log(kNegligible) / count), faint = least * least;
  auto survives = [&](size_t p, size_t m) {
    double a = re_[p] + re_[m], b = im_[p] - im_[m], x = im_[p] + im_[m], y = re_[m] - re_[p];
    return 0.25 * std::max(a * a + b * b, x * x + y * y) > 0.5 * faint;
  };
  auto before_at = [&](size_t at) {
    auto size = [at](const Half& x) {
      return std::sqrt(x.re[at] * x.re[at] + x.im[at] * x.im[at]);
    };
    return half_ != 0 ? std::max(size(upper_), size(lower_)) : 1;
  };
  size_t surviving = 0;
  if (count >= 16) for_each_pair([&](size_t p, size_t m, size_t) { surviving += survives(p, m); });
  const double most = powers == Powers::kTransformed ? 0
                      : powers == Powers::kLessOne   ? kMostAfresh
                                                     : kMostAfreshWhole;
  const bool afresh =
      count >= 16 && static_cast<double>(surviving) * static_cast<double>(slots.size()) < most;
  std::vector<Afresh::Pair> sums;
  if (afresh) {
    std::vector<size_t> places;
    for_each_pair([&](size_t p, size_t m, size_t at) {
      if (survives(p, m) && !(before_at(at) < kNegligible)) places.push_back(p);
    });
    WorkBudget::pay((powers == Powers::kLessOne ? 1 : 4) * slots.size() * places.size());
    sums = Afresh(transform_, step, slots, count, powers == Powers::kLessOne, least).powers(places);
  }
  auto next = sums.begin();
  for_each_pair([&](size_t p, size_t m, size_t at) {
    const double before = before_at(at);
    if (half_ != 0 && before < kNegligible) {
      // Never mind what it still loses: factors are at most 1 but for roundings.
      upper_.re[at] = upper_.im[at] = 0;
      lower_.re[at] = lower_.im[at] = 0;
      error_[at] += 2 * kNegligible;
      return;
    }
    Power u, v;
    // What has not come to nothing before: powers of two, each of a sum if that is made afresh.
    if (count > kMostMultiplied) WorkBudget::pay(24);
    if (afresh && survives(p, m)) {
      u = next->upper, v = next->lower;
      ++next;
    } else {
      // U = (Z[k] + conj Z[-k]) / 2, V = (Z[k] - conj Z[-k]) / 2i.
      const double value_error = 2 * units_;
      u = power(0.5 * (re_[p] + re_[m]), 0.5 * (im_[p] - im_[m]), count, value_error, least);
      v = power(0.5 * (im_[p] + im_[m]), 0.5 * (re_[m] - re_[p]), count, value_error, least);
    }
    const double largest = std::max(u.most, v.most),
                 erring = std::max(u.error, v.error) + 4 * kUnit * largest;
    if (half_ == 0) {
      put(p, m, u.re, u.im, v.re, v.im, erring);
      return;
    }
    auto times = [at](Half& x, const Power& y) {
      double r = x.re[at] * y.re - x.im[at] * y.im;
      x.im[at] = x.re[at] * y.im + x.im[at] * y.re;
      x.re[at] = r;
    };
    times(upper_, u);
    times(lower_, v);
    error_[at] = error_[at] * largest + before * erring;
  });
}

Circle::Masses Circle::composed() && {
  if (half_ != 0) {
    for_each_pair([&](size_t p, size_t m, size_t at) {
      put(p, m, upper_.re[at], upper_.im[at], lower_.re[at], lower_.im[at], error_[at]);
    });
  }
  upper_ = lower_ = {};
  transform_.inverse(re_.data(), im_.data());
  const double scale = 1 / static_cast<double>(n_);
  for (auto* masses : {&re_, &im_}) {
    for (double& mass : *masses) mass = std::max(0.0, mass * scale);
  }
  // The absolute errors of n values add up to at most sqrt(n) times their Euclidean norm, and
  // that is the spectrum's over sqrt(n) (Parseval); the transform itself errs in that norm by
  // `units` (Higham 2002, Theorem 24.2).
  return {std::move(re_), std::move(im_),
          std::sqrt(error_square_) + units_ * std::sqrt(size_square_)};
}

void Circle::turn(std::vector<double>& masses, int64_t first) {
  std::rotate(
      masses.begin(),
      masses.begin() + static_cast<ptrdiff_t>(wrapped(first, static_cast<int64_t>(masses.size()))),
      masses.end());
}

}  // namespace souk::policy
