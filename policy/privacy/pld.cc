#include "policy/privacy/pld.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <vector>

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kRounding = 0x1p-53;
constexpr double kTail = 1e-17;        // tilted mass allowed outside the window, each side
constexpr size_t kMaxPoints = size_t{1} << 21;
constexpr double kMassRounding = 2e-14;  // relative error of an interval's mass, with margin

enum class Direction { kRemove, kAdd };

double normal_below(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

// Mass of N(mean, sigma^2) in (from, to], taken on the side of the mean where nothing cancels.
double normal_between(double from, double to, double mean, double sigma) {
  double a = (from - mean) / sigma, b = (to - mean) / sigma;
  return b <= 0 ? normal_below(b) - normal_below(a) : normal_below(-a) - normal_below(-b);
}

// One step's losses: P-mass `mass[i]` at the loss `at[i] * grid`, and `infinite` above all.
struct Step {
  std::vector<int64_t> at;
  std::vector<double> loss, mass, log_mass;
  double total = 0, infinite = 0;
  double count = 0;  // how many such steps
};

// log(1 + q (e^m - 1)) without overflow.
double mixture_loss(double q, double m) { return m > 30 ? m + std::log(q + std::exp(-m) * (1 - q)) : std::log1p(q * std::expm1(m)); }

// Spacing 1 for |k| <= fine, growing by 2 % a point beyond.
std::vector<int64_t> graded(int64_t first, int64_t last, int64_t fine) {
  auto beyond = [&](int64_t limit) {
    std::vector<int64_t> out;
    for (int64_t k = fine; k < limit;) {
      k = std::min(limit, k + std::max<int64_t>(1, static_cast<int64_t>(0.02 * static_cast<double>(k))));
      out.push_back(k);
    }
    return out;
  };
  std::vector<int64_t> points;
  auto below = beyond(-first);
  for (auto k = below.rbegin(); k != below.rend(); ++k) {
    if (-*k < std::min(last, -fine)) points.push_back(-*k);
  }
  for (int64_t k = std::max(first, -fine); k <= std::min(last, fine); ++k) points.push_back(k);
  for (int64_t k : beyond(last)) {
    if (points.empty() || k > points.back()) points.push_back(k);
  }
  return points;
}

// Where mixture_loss((2x - 1) / 2 sigma^2) reaches `loss`; -infinity below its range.
double where_loss_is(double loss, double q, double sigma) {
  double s2 = sigma * sigma;
  if (loss > 30) return s2 * (loss + std::log1p(-(1 - q) * std::exp(-loss)) - std::log(q)) + 0.5;
  double t = std::expm1(loss) + q;
  return t > 0 ? s2 * (std::log(t) - std::log(q)) + 0.5 : -kInfinity;
}

Step one_step(const Event& event, Direction direction, double grid, double highest) {
  constexpr double kReach = 38;  // deviations: beyond, erfc underflows
  const double q = event.q, sigma = event.sigma, s2 = sigma * sigma;
  const double far = (2 * (1 + kReach * sigma) - 1) / (2 * s2), near = (-2 * kReach * sigma - 1) / (2 * s2);
  double low = 0, high = 0;
  if (direction == Direction::kRemove) {
    low = q < 1 ? std::log1p(-q) : near;
    high = mixture_loss(q, far);
  } else {
    low = -mixture_loss(q, far);
    high = q < 1 ? -std::log1p(-q) : -near;
  }
  // A loss far above any epsilon asked for is as good as infinite.
  high = std::max(std::min(high, highest), grid);
  low = std::max(low, -1e4 * std::max(1.0, highest));
  double deviation = q * std::sqrt(std::expm1(std::min(1 / s2, 50.0)));
  auto fine = static_cast<int64_t>(std::min(2e5, std::max({40.0, 6 * q / grid + 40, 3 * deviation / grid})));
  Step step;
  step.count = static_cast<double>(event.steps);
  step.at = graded(static_cast<int64_t>(std::floor(low / grid)) - 1, static_cast<int64_t>(std::ceil(high / grid)), fine);
  const size_t n = step.at.size();
  step.loss.resize(n);
  step.mass.assign(n, 0.0);
  for (size_t i = 0; i < n; ++i) step.loss[i] = static_cast<double>(step.at[i]) * grid;
  // Boundaries on the axis on which the loss rises: x for remove, -x for add.
  const double sign = direction == Direction::kRemove ? 1 : -1;
  std::vector<double> edge(n + 1);
  for (size_t i = 0; i < n; ++i) edge[i] = sign * where_loss_is(sign * step.loss[i], q, sigma);
  edge[n] = kInfinity;
  auto masses = [&](double from, double to, double* p, double* r) {
    double plain = normal_between(from, to, 0, sigma), moved = normal_between(from, to, sign, sigma);
    double mixed = (1 - q) * plain + q * moved;
    *p = direction == Direction::kRemove ? mixed : plain;
    *r = direction == Direction::kRemove ? plain : mixed;
  };
  // Each interval's mass goes to its two ends so that both the P and the Q mass are kept:
  // the connect-the-dots distribution. Rounding errors go to the higher loss.
  for (size_t i = 0; i + 1 < n; ++i) {
    double p = 0, r = 0;
    masses(edge[i], edge[i + 1], &p, &r);
    p *= 1 + kMassRounding;
    double width = -std::expm1(step.loss[i] - step.loss[i + 1]);
    double up = (p - r * std::exp(step.loss[i]) * (1 - kMassRounding)) / width;
    up = std::clamp(up, 0.0, p);
    step.mass[i] += p - up;
    step.mass[i + 1] += up;
  }
  double p = 0, r = 0;
  masses(-kInfinity, edge[0], &p, &r);
  step.mass[0] += p;
  masses(edge[n - 1], kInfinity, &p, &r);
  double finite = std::min(p, r * std::exp(std::min(step.loss[n - 1], 700.0)));
  step.mass[n - 1] += finite;
  step.infinite = p - finite;
  step.log_mass.resize(n);
  for (size_t i = 0; i < n; ++i) {
    step.log_mass[i] = step.mass[i] > 0 ? std::log(step.mass[i]) : -1e300;
    step.total += step.mass[i];
  }
  return step;
}

// log of the sum of mass * e^{c loss}; accurate where it is near zero.
double log_moment(const Step& step, double c) {
  double top = std::max(c * step.loss.back(), c * step.loss.front());
  if (top < 50) {
    double sum = 0;
    for (size_t i = 0; i < step.loss.size(); ++i) sum += step.mass[i] * std::expm1(c * step.loss[i]);
    return std::log1p(sum + (step.total - 1));
  }
  double peak = -kInfinity;
  for (size_t i = 0; i < step.loss.size(); ++i) peak = std::max(peak, step.log_mass[i] + c * step.loss[i]);
  double sum = 0;
  for (size_t i = 0; i < step.loss.size(); ++i) sum += std::exp(step.log_mass[i] + c * step.loss[i] - peak);
  return peak + std::log(sum);
}

double log_moment(const std::vector<Step>& steps, double c) {
  double sum = 0;
  for (const Step& step : steps) sum += step.count * log_moment(step, c);
  return sum;
}

// log of c^c / (1+c)^(1+c): what one unit of tilted mass can add to delta at most.
double log_pad(double c) { return c * std::log(c) - (1 + c) * std::log1p(c); }

void transform(std::vector<std::complex<double>>& values, bool inverse) {
  const size_t n = values.size();
  for (size_t i = 1, j = 0; i < n; ++i) {
    size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(values[i], values[j]);
  }
  std::vector<std::complex<double>> roots(n / 2);
  for (size_t i = 0; i < n / 2; ++i) {
    double angle = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n);
    roots[i] = {std::cos(angle), inverse ? std::sin(angle) : -std::sin(angle)};
  }
  for (size_t length = 2; length <= n; length <<= 1) {
    const size_t half = length / 2, stride = n / length;
    for (size_t start = 0; start < n; start += length) {
      for (size_t k = 0; k < half; ++k) {
        const auto& w = roots[k * stride];
        auto& a = values[start + k];
        auto& b = values[start + k + half];
        double re = b.real() * w.real() - b.imag() * w.imag(), im = b.real() * w.imag() + b.imag() * w.real();
        b = {a.real() - re, a.imag() - im};
        a = {a.real() + re, a.imag() + im};
      }
    }
  }
}

// The window outside of which the tilted sum has at most kTail of mass on each side.
struct Window {
  double low = 0, high = 0;
};
Window window(const std::vector<Step>& steps, double c, double moment, double grid) {
  const double h0 = 1e-3 * c;
  double curvature = (log_moment(steps, c + h0) - 2 * moment + log_moment(steps, c - h0)) / (h0 * h0);
  double deviation = std::max(std::sqrt(std::max(curvature, 0.0)), grid);
  const double allowed = -std::log(kTail);
  Window w{-kInfinity, kInfinity};
  for (double f : {1.0, 4.0, 6.0, 8.0, 10.0, 14.0}) {
    double h = f / deviation;
    w.high = std::min(w.high, (log_moment(steps, c + h) - moment + allowed) / h);
    w.low = std::max(w.low, -(log_moment(steps, c - h) - moment + allowed) / h);
  }
  return w;
}

// `too_wide` is set to the factor by which the window exceeds kMaxPoints, if it does.
std::optional<double> epsilon_in(const std::vector<Step>& steps, double delta, double grid, double* too_wide) {
  double log_finite = 0, count = 0;
  for (const Step& step : steps) {
    if (!(step.infinite < 1)) return std::nullopt;
    log_finite += step.count * std::log1p(-step.infinite);
    count += step.count;
  }
  const double infinite = -std::expm1(log_finite) * (1 + 1e-9);
  const double target = delta * (1 - 1e-12) - infinite;
  if (!(target > 0)) return std::nullopt;

  // The saddle point, roughly: it decides the tilt, not the soundness.
  auto exponent = [&](double log_c) {
    double c = std::exp(log_c);
    return (log_moment(steps, c) - log_c - std::log1p(c) - std::log(target)) / c;
  };
  double left = std::log(0.02), right = std::log(3000.0);
  constexpr double kGolden = 0.6180339887498949;
  double x1 = right - kGolden * (right - left), x2 = left + kGolden * (right - left);
  double f1 = exponent(x1), f2 = exponent(x2);
  while (right - left > 0.05) {
    if (f1 <= f2 || !std::isfinite(f2)) {
      right = x2, x2 = x1, f2 = f1;
      x1 = right - kGolden * (right - left);
      f1 = exponent(x1);
    } else {
      left = x1, x1 = x2, f1 = f2;
      x2 = left + kGolden * (right - left);
      f2 = exponent(x2);
    }
  }
  const double saddle = std::exp(0.5 * (left + right));
  const double reference = exponent(0.5 * (left + right));  // about epsilon
  if (!std::isfinite(reference)) return std::nullopt;

  // The tilt with the narrowest window among those that keep the rounding pad small.
  double c = saddle, moment = log_moment(steps, saddle);
  Window best = window(steps, c, moment, grid);
  for (double f : {0.8, 0.6, 0.4, 0.2, 0.1}) {
    double c_try = saddle * f, m = log_moment(steps, c_try);
    double log_eta = std::log(2 * kTail + 1e-11 + count * kRounding * 1e3);
    if (log_eta + log_pad(c_try) + m - c_try * reference > std::log(target) - 9) continue;
    Window w = window(steps, c_try, m, grid);
    if (w.high - w.low < best.high - best.low) {
      best = w;
      c = c_try;
      moment = m;
    }
  }
  const double span = (best.high - best.low) / grid;
  if (!(span < static_cast<double>(kMaxPoints - 4))) {
    *too_wide = span / static_cast<double>(kMaxPoints - 4);
    return std::nullopt;
  }
  const auto first = static_cast<int64_t>(std::floor(best.low / grid));
  const auto last = static_cast<int64_t>(std::ceil(best.high / grid));
  size_t n = 64;
  while (n < static_cast<size_t>(last - first + 1)) n <<= 1;

  // Fold each tilted step onto n points, raise its spectrum to its count, multiply.
  double log_scale = 0;
  std::vector<std::complex<double>> product(n, {1, 0});
  std::vector<double> sensitivity(n, 0.0);  // sum of count / |F|, for the error bound
  for (const Step& step : steps) {
    double own = log_moment(step, c);
    log_scale += step.count * own;
    std::vector<std::complex<double>> folded(n, {0, 0});
    for (size_t i = 0; i < step.at.size(); ++i) {
      auto m = static_cast<int64_t>(n);
      auto slot = static_cast<size_t>(((step.at[i] % m) + m) % m);
      folded[slot] += std::exp(step.log_mass[i] + c * step.loss[i] - own);
    }
    transform(folded, false);
    for (size_t j = 0; j < n; ++j) {
      double size = std::abs(folded[j]);
      if (size < 1e-300) {
        product[j] = 0;
        continue;
      }
      product[j] *= std::polar(std::exp(step.count * std::log(size)), step.count * std::arg(folded[j]));
      sensitivity[j] += step.count / size;
    }
  }
  const double levels = std::log2(static_cast<double>(n));
  double spectrum_error = 0;
  for (size_t j = 0; j < n; ++j) spectrum_error += std::abs(product[j]) * sensitivity[j];
  transform(product, true);
  double square = 0;
  for (auto& value : product) {
    value /= static_cast<double>(n);
    square += std::norm(value);
  }
  // Absolute error of the tilted masses, all together: the tails outside the window, the
  // forward transforms carried through the powers, and the inverse transform.
  const double eta = 2 * kTail + 8 * kRounding * levels * (spectrum_error + std::sqrt(static_cast<double>(n) * square));
  // Masses and exponents of each step are off by a relative 1e-14 at most.
  const double inflation = std::exp(std::min(1.0, count * (3e-14 + 4 * kRounding * std::abs(c * grid))) + 1e-12 * (1 + std::abs(log_scale)));

  // delta(eps) = sum over x > eps of (1 - e^{eps-x}) e^{K - c x} pi(x), and the pad.
  const auto m = static_cast<int64_t>(n);
  auto x_of = [&](int64_t k) { return static_cast<double>(k) * grid; };
  auto pi_of = [&](int64_t k) { return std::max(0.0, product[static_cast<size_t>(((k % m) + m) % m)].real()); };
  const double log_target = std::log(target);
  auto pad_at = [&](double eps) { return log_scale - c * eps + log_pad(c) + std::log(eta); };
  double upper = 0, upper_discounted = 0;  // sums over x >= current of pi e^{-c(x-x0)} (and e^{-(x-x0)})
  const double x0 = reference, log_front = log_scale - c * x0;
  auto log_delta = [&](double eps) {
    double value = upper - std::exp(std::min(eps - x0, 600.0)) * upper_discounted;
    double main = value > 0 ? log_front + std::log(value * inflation) : -kInfinity;
    double pad = pad_at(eps);
    double top = std::max(main, pad);
    return top + std::log(std::exp(main - top) + std::exp(pad - top));
  };
  // From the top down: at x = k * grid only losses above count. Stop where delta is passed.
  for (int64_t k = first + m - 1; k >= first; --k) {
    double x = x_of(k);
    if (log_delta(x) > log_target) {
      // The answer lies in (x, x + grid]; the sums now hold exactly the losses above x.
      double a = x, b = x + grid;
      for (int i = 0; i < 60; ++i) {
        double middle = 0.5 * (a + b);
        (log_delta(middle) > log_target ? a : b) = middle;
      }
      return std::max(0.0, b);
    }
    if (x <= 0) return 0.0;
    double weight = pi_of(k) * std::exp(std::clamp(-c * (x - x0), -700.0, 600.0));
    upper += weight;
    upper_discounted += weight * std::exp(std::clamp(-(x - x0), -700.0, 600.0));
  }
  return std::max(0.0, x_of(first));
}

}  // namespace

std::optional<double> epsilon_by_pld(std::span<const Event> events, double delta, double renyi_epsilon) {
  double variance = 0, count = 0;
  for (const Event& event : events) {
    double steps = static_cast<double>(event.steps);
    variance += steps * event.q * event.q * std::expm1(std::min(1 / (event.sigma * event.sigma), 50.0));
    count += steps;
  }
  if (!(variance > 0) || !std::isfinite(renyi_epsilon)) return std::nullopt;
  // Connect-the-dots widens the variance by grid^2 / 6 a step: 0.05 deviations cost 2e-4 of epsilon.
  double grid = std::min(0.05 * std::sqrt(variance / count), 0.002 * std::max(renyi_epsilon, 0.03));
  // Moving one-step losses further up to infinity adds less than e^-10 of delta.
  const double highest = renyi_epsilon + 10;
  for (int attempt = 0; attempt < 8; ++attempt) {
    double worst = 0;
    double too_wide = 0;
    bool failed = false;
    for (Direction direction : {Direction::kRemove, Direction::kAdd}) {
      std::vector<Step> steps;
      for (const Event& event : events) steps.push_back(one_step(event, direction, grid, highest));
      auto epsilon = epsilon_in(steps, delta, grid, &too_wide);
      if (!epsilon) {
        failed = true;
        break;
      }
      worst = std::max(worst, *epsilon);
    }
    if (too_wide > 0) {
      if (!std::isfinite(too_wide)) return std::nullopt;
      grid *= 1.03 * std::max(1.0, too_wide);  // looser, still sound
      continue;
    }
    if (failed) return std::nullopt;
    return worst * (1 + 1e-10) + 1e-12 + count * 1e-15;
  }
  return std::nullopt;
}

}  // namespace souk::policy
