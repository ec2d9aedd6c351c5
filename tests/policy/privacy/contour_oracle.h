// delta(epsilon) of a composition by contour integration of its moment function:
//   (1 / 2 pi i) * integral over Re z = c of exp(K(z) - eps z) / (z (z + 1)) dz,
// K(z) = sum of T log E_P[e^{z L}]. No grid of losses and no truncation: nothing in common
// with the accountant but the definition of the mechanisms, which is written out anew.
// Slow, and good for about 10 digits; not a bound.
#pragma once

#include <cmath>
#include <complex>
#include <numbers>
#include <vector>

#include "policy/privacy/mechanism.h"

namespace souk::policy::oracle {

using Complex = std::complex<double>;

// P-weights and losses of the outcomes of one step, by the trapezoid rule.
struct Outcomes {
  std::vector<double> weight, loss;
  double count = 0;

  Complex log_moment(Complex z) const {
    Complex sum = 0;
    for (size_t i = 0; i < loss.size(); ++i) {
      // e^{zL} - 1 without cancellation.
      double a = std::expm1(z.real() * loss[i]), b = z.imag() * loss[i], s = std::sin(0.5 * b);
      sum += weight[i] * Complex((1 + a) * (1 - 2 * s * s) - 1, (1 + a) * std::sin(b));
    }
    return std::log(1.0 + sum);
  }
};

inline Outcomes gaussian_outcomes(double sigma, const std::vector<double>& p_weights,
                                  const std::vector<double>& q_weights, double p_sign,
                                  double q_sign, double tilt, double count) {
  Outcomes out;
  out.count = count;
  auto log_density = [&](double x, const std::vector<double>& weights, double sign) {
    double top = -1e300, sum = 0;
    std::vector<double> logs;
    for (size_t j = 0; j < weights.size(); ++j) {
      if (weights[j] <= 0) continue;
      double d = x - sign * static_cast<double>(j);
      logs.push_back(std::log(weights[j]) - 0.5 * d * d / (sigma * sigma));
      top = std::max(top, logs.back());
    }
    for (double value : logs) sum += std::exp(value - top);
    return top + std::log(sum);
  };
  double far =
      static_cast<double>(std::max(p_weights.size(), q_weights.size())) * (tilt + 2) + 13 * sigma;
  double step = std::min(sigma, sigma * sigma) / 6;  // the rule is spectral: 1e-11 already
  double scale = step / (sigma * std::sqrt(2 * std::numbers::pi));
  for (double x = -far; x <= far; x += step) {
    double p = log_density(x, p_weights, p_sign), loss = p - log_density(x, q_weights, q_sign);
    double weight = p + std::log(scale);
    if (weight + std::max(0.0, tilt * loss) < -45) continue;
    out.weight.push_back(std::exp(weight));
    out.loss.push_back(loss);
  }
  return out;
}

inline std::vector<double> binomial(uint32_t k, double q) {
  std::vector<double> weights(k + 1);
  for (uint32_t j = 0; j <= k; ++j) {
    weights[j] = std::exp(std::lgamma(k + 1.0) - std::lgamma(j + 1.0) - std::lgamma(k - j + 1.0)) *
                 std::pow(q, j) * std::pow(1 - q, k - j);
  }
  return weights;
}

inline Outcomes outcomes_of(const Mechanism& m, Adjacency adjacency, bool remove, double tilt) {
  using Kind = Mechanism::Kind;
  auto count = static_cast<double>(m.steps);
  if (m.kind == Kind::kLaplace) {
    Outcomes out;
    out.count = count;
    double e = (adjacency == Adjacency::kReplaceOne ? 2 : 1) / m.scale;
    out.weight = {0.5, 0.5 * std::exp(-e)};
    out.loss = {e, -e};
    constexpr int kNodes = 400;  // Simpson between the atoms
    double step = 2 * e / kNodes;
    for (int i = 0; i <= kNodes; ++i) {
      double loss = -e + i * step, simpson = i == 0 || i == kNodes ? 1 : i % 2 ? 4 : 2;
      out.weight.push_back(simpson * step / 3 * 0.25 * std::exp(0.5 * (loss - e)));
      out.loss.push_back(loss);
    }
    return out;
  }
  if (m.kind == Kind::kPure) {
    double p = 1 / (1 + std::exp(-m.scale));
    return {{p, 1 - p}, {m.scale, -m.scale}, count};
  }
  std::vector<double> shifted = m.kind == Kind::kGaussian
                                    ? binomial(1, 1)
                                    : binomial(m.kind == Kind::kSampledUser ? m.records : 1, m.q);
  std::vector<double> plain = {1};
  if (adjacency == Adjacency::kReplaceOne)
    return gaussian_outcomes(m.scale, shifted, shifted, 1, -1, tilt, count);
  if (remove) return gaussian_outcomes(m.scale, shifted, plain, 1, 1, tilt, count);
  return gaussian_outcomes(m.scale, plain, shifted, 1, 1, tilt, count);
}

// One direction.
inline double delta(const std::vector<Mechanism>& mechanisms, Adjacency adjacency, bool remove,
                    double epsilon) {
  std::vector<Outcomes> all;
  auto moment = [&](Complex z) {
    Complex sum = 0;
    for (const auto& o : all) sum += o.count * o.log_moment(z);
    return sum;
  };
  // The saddle, roughly, by a scan.
  double best = 1e300, c = 1;
  for (double at = 0.05; at < 400; at *= 1.3) {
    all.clear();
    for (const auto& m : mechanisms) all.push_back(outcomes_of(m, adjacency, remove, at));
    double value = moment(at).real() - epsilon * at - std::log(at) - std::log1p(at);
    if (value < best) best = value, c = at;
  }
  all.clear();
  for (const auto& m : mechanisms) all.push_back(outcomes_of(m, adjacency, remove, c));
  double top = moment(c).real(), h0 = 1e-3 * c;
  double curvature = (moment(c + h0).real() - 2 * top + moment(c - h0).real()) / (h0 * h0);
  double deviation = std::sqrt(std::max(curvature, 1e-12));
  double step = 2 * std::numbers::pi / (40 / c + 30 * deviation), sum = 0;
  int quiet = 0;
  for (int i = 0; quiet < 100 && i < 400000; ++i) {
    Complex z(c, step * i);
    Complex term = std::exp(moment(z) - top - Complex(0, epsilon * z.imag())) / (z * (z + 1.0));
    sum += (i == 0 ? 0.5 : 1.0) * term.real() * step;
    quiet = std::abs(term) * c * (c + 1) < 1e-13 ? quiet + 1 : 0;
  }
  return sum / std::numbers::pi * std::exp(top - epsilon * c);
}

inline double delta(const std::vector<Mechanism>& mechanisms, Adjacency adjacency, double epsilon) {
  return std::max(delta(mechanisms, adjacency, true, epsilon),
                  delta(mechanisms, adjacency, false, epsilon));
}

}  // namespace souk::policy::oracle
