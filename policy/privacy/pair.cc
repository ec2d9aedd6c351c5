#include "policy/privacy/pair.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/binomial.h"
#include "policy/privacy/quadrature.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMostNodes = 4e5;  // of one quadrature of a Renyi divergence

std::vector<GaussianPart::Term> binomial_terms(uint32_t k, double q, double sign) {
  std::vector<GaussianPart::Term> terms;
  const auto weights = binomial_masses(k, q);
  // What a double does not hold whole is nobody's; but one row counts, whatever it weighs.
  for (uint32_t j = 0; j <= k; ++j) {
    if (weights[j] >= std::numeric_limits<double>::min() || (j <= 1 && weights[j] > 0))
      terms.push_back({weights[j], sign * j});
  }
  return terms;
}

// E_Q[(P/Q - 1)^2] of a Gaussian mixture against N(0, sigma^2), capped.
double chi_square(std::span<const GaussianPart::Term> terms, double sigma) {
  WorkBudget::pay(terms.size() * terms.size());
  double sum = 0;
  for (const auto& a : terms) {
    for (const auto& b : terms) {
      sum += a.weight * b.weight * std::expm1(std::min(50.0, a.mean * b.mean / (sigma * sigma)));
    }
  }
  return sum;
}

LossPair gaussian_pair(double sigma, const std::vector<GaussianPart::Term>& terms,
                       Adjacency adjacency, Direction direction) {
  std::vector<GaussianPart::Term> mirrored = terms, plain = {{1, 0}};
  for (auto& term : mirrored) term.mean = -term.mean;
  LossPair pair;
  double mean_weight = 0;
  for (const auto& term : terms) mean_weight += term.weight * term.mean;
  // At most 64 deviations: the cost of many terms squared is bounded by their count.
  double square = terms.size() <= 64
                      ? chi_square(terms, sigma)
                      : mean_weight * mean_weight * std::expm1(std::min(50.0, 1 / (sigma * sigma)));
  // Under P the loss is at most about k / 2 sigma^2 with deviation k / sigma, if drawn at all.
  double k = terms.back().mean, drawn = std::min(1.0, mean_weight);
  square = std::min(square, drawn * std::pow(0.5 * k * k / (sigma * sigma) + k / sigma, 2));
  pair.spread = std::sqrt(square) * (adjacency == Adjacency::kReplaceOne ? std::numbers::sqrt2 : 1);
  pair.reach = 6 * std::min(1.0, mean_weight);
  // Of many rows, beyond this many deviations nothing decides.
  if (terms.size() > 64) pair.reach = std::min(pair.reach, 24 * pair.spread);
  if (adjacency == Adjacency::kReplaceOne) {
    pair.gaussians.push_back({1, GaussianPart(sigma, terms, mirrored)});
  } else if (direction == Direction::kRemove) {
    pair.gaussians.push_back({1, GaussianPart(sigma, terms, plain)});
  } else {
    pair.gaussians.push_back({1, GaussianPart(sigma, plain, mirrored)});
  }
  return pair;
}

std::vector<GaussianPart::Term> sampled(double q) {
  if (q == 1) return {{1, 1}};
  return {{1 - q, 0}, {q, 1}};
}

}  // namespace

Masses LaplacePart::between(double from, double to) const {
  from = std::clamp(from, -edge, edge);
  to = std::clamp(to, -edge, edge);
  double rise = std::expm1(0.5 * (to - from));
  return {0.5 * std::exp(0.5 * (from - edge)) * rise, 0.5 * std::exp(0.5 * (-to - edge)) * rise};
}

double LossPair::highest_loss() const {
  double high = -kInfinity;
  for (const auto& gaussian : gaussians) high = std::max(high, gaussian.part.highest_loss());
  for (const auto& laplace : laplaces) high = std::max(high, laplace.edge);
  for (const auto& atom : atoms) high = std::max(high, atom.loss);
  return high;
}

double LossPair::lowest_loss() const {
  double low = kInfinity;
  for (const auto& gaussian : gaussians) low = std::min(low, gaussian.part.lowest_loss());
  for (const auto& laplace : laplaces) low = std::min(low, -laplace.edge);
  for (const auto& atom : atoms) low = std::min(low, atom.loss);
  return low;
}

LossPair dominating_pair(const Mechanism& mechanism, Adjacency adjacency, Direction direction) {
  using Kind = Mechanism::Kind;
  CHECK(mechanism.q > 0);
  const double sensitivity = adjacency == Adjacency::kReplaceOne ? 2 : 1;
  switch (mechanism.kind) {
    case Kind::kSampledGaussian:
      return gaussian_pair(mechanism.scale, sampled(mechanism.q), adjacency, direction);
    case Kind::kGaussian:
      return gaussian_pair(mechanism.scale, sampled(1), adjacency, direction);
    case Kind::kSampledUser:
      return gaussian_pair(mechanism.scale, binomial_terms(mechanism.records, mechanism.q, 1),
                           adjacency, direction);
    case Kind::kTruncatedGaussian: {
      // With probability t the rest of the batch already fills it: then the record, if drawn
      // and kept, stands in the place of another (2508.15089, as a visible mixture). Which rows
      // would be there without it is independent of how many were drawn, so one rate serves; a
      // record in another's place, or in none's, is within the pair for two records.
      double n = static_cast<double>(mechanism.population),
             b = static_cast<double>(mechanism.batch);
      double t = binomial_at_least(mechanism.population - 1, mechanism.q, mechanism.batch);
      LossPair whole = gaussian_pair(mechanism.scale, sampled(mechanism.q), adjacency, direction);
      if (!(t > 0)) return whole;
      double kept =
          binomial_at_least(mechanism.population, mechanism.q, mechanism.batch + 1) * b / t / n;
      if (!(kept > 0)) return whole;
      LossPair full =
          gaussian_pair(0.5 * mechanism.scale, sampled(std::min(1.0, kept * (1 + 1e-9))),
                        Adjacency::kReplaceOne, direction);
      whole.gaussians[0].weight = 1 - t;
      whole.gaussians.push_back({t, full.gaussians[0].part});
      whole.spread =
          std::sqrt((1 - t) * whole.spread * whole.spread + t * full.spread * full.spread);
      whole.reach = std::max(whole.reach, full.reach);
      return whole;
    }
    case Kind::kLaplace: {
      double edge = sensitivity / mechanism.scale;
      LossPair pair;
      pair.laplaces.push_back({edge});
      pair.atoms = {{edge, {0.5, 0.5 * std::exp(-edge)}}, {-edge, {0.5 * std::exp(-edge), 0.5}}};
      pair.spread = pair.reach = edge;
      return pair;
    }
    case Kind::kPure: {
      double e = mechanism.scale, more = 1 / (1 + std::exp(-e)), less = std::exp(-e) * more;
      LossPair pair;
      pair.atoms = {{e, {more, less}}, {-e, {less, more}}};
      pair.spread = pair.reach = e;
      return pair;
    }
  }
  return {};
}

double hockey_stick(const LossPair& pair, double epsilon) {
  double delta = 0;
  for (const auto& gaussian : pair.gaussians) {
    const GaussianPart& part = gaussian.part;
    if (epsilon >= part.highest_loss()) continue;
    double from = std::max(part.where_loss_is(epsilon), part.lowest_outcome()),
           high = part.highest_outcome();
    double sum = 0;
    auto integrand = [&](double x) {
      return -std::expm1(std::min(0.0, epsilon - part.loss(x))) * part.p_density(x);
    };
    const double last_mean = high - kFarthest * part.sigma(), reach = 0.5 * part.sigma();
    // Past the last mean P only falls, and no piece is more than P where it begins times its width:
    // the first that is far below half a last place of the sum ends it, to the bit. What follows is
    // paid for, so that a budget ends where it ended.
    bool ended = false;
    // Steps shrink where what can be seen of the integrand falls off quickly, so that each piece is
    // smooth.
    for (double x = part.next_seen(from); x < high; x = part.next_seen(x)) {
      WorkBudget::pay(8 * 5 * part.terms());
      const double steep = 1 + part.steepness(x, x + reach, epsilon);
      double next = x + std::min(0.5, 2 / steep) * part.sigma();
      if (!(next > x)) next = std::nextafter(x, kInfinity);
      // A density of many terms pays for itself.
      if (!ended && !part.many() && x > last_mean)
        ended = reach * part.p_density(x) < 0x1p-60 * sum;
      if (!ended) sum += integral(kRule8, x, std::min(high, next), integrand);
      x = next;
    }
    delta += gaussian.weight * sum;
  }
  for (const auto& laplace : pair.laplaces) {
    // The body alone; its upper atom is among the atoms.
    double from = std::max(epsilon, -laplace.edge);
    if (from >= laplace.edge) continue;
    constexpr int kPieces = 8;
    double width = (laplace.edge - from) / kPieces;
    for (int i = 0; i < kPieces; ++i) {
      double a = from + i * width;
      delta += integral(kRule8, a, a + width, [&](double loss) {
        return -std::expm1(epsilon - loss) * 0.25 * std::exp(0.5 * (loss - laplace.edge));
      });
    }
  }
  for (const auto& atom : pair.atoms) {
    if (atom.loss > epsilon) delta += -std::expm1(epsilon - atom.loss) * atom.masses.p;
  }
  return std::min(1.0, delta);
}

double renyi_divergence(const LossPair& pair, double alpha) {
  // log(1 + sum of E_Q[g(P/Q)]), g(r) = r^alpha - 1 - alpha (r - 1) >= 0: nothing cancels.
  auto log_g = [&](double loss) {
    double t = std::expm1(loss);
    if (std::abs(t) < 1e-3) {
      double series =
          1 + (alpha - 2) / 3 * t *
                  (1 + (alpha - 3) / 4 * t * (1 + (alpha - 4) / 5 * t * (1 + (alpha - 5) / 6 * t)));
      if (alpha * std::abs(t) < 1e-2) return std::log(0.5 * alpha * (alpha - 1) * t * t * series);
    }
    double power = alpha * loss;
    // e^loss alone may not fit a double.
    if (loss > 300) return power + std::log1p(-alpha * std::exp(loss - power));
    if (power > 300) return power + std::log1p(-(1 + alpha * t) * std::exp(-power));
    return std::log(std::expm1(power) - alpha * t);
  };
  if (pair.laplaces.size() == 1 && alpha * pair.laplaces[0].edge > 1) {
    // The whole pair: log(a / (2a - 1) e^{(a-1) edge} + (a - 1) / (2a - 1) e^{-a edge}) / (a - 1)
    // (Mironov 2017, Proposition 6). Below, its two terms nearly cancel.
    const double edge = pair.laplaces[0].edge, whole = 2 * alpha - 1;
    const double high = std::log(alpha / whole) + (alpha - 1) * edge;
    const double low = std::log((alpha - 1) / whole) - alpha * edge;
    return (high + std::log1p(std::exp(low - high))) / (alpha - 1);
  }
  std::vector<double> logs;
  for (const auto& [weight, part] : pair.gaussians) {
    // P/Q has its zeros at pi sigma^2 from the line (a polynomial in e^{x / sigma^2}: log-concave
    // weights of its kind keep real roots, Laguerre). A trapezoid rule of step h then leaves less
    // than e^{-2 pi^2 sigma^2 / h^2}, or e^{-pi^2 sigma^2 (2 / h - 1/2)} where h <= 2.
    const double s = part.sigma(), fine = std::min(0.125 * s, 0.5 * s * s);
    const double step = part.many() ? std::max(fine, std::min(0.5 * s, 0.3 * s * s)) : fine;
    // The integrand is Gaussian-like around alpha times the means of P and Q.
    double low = part.lowest_outcome() + kFarthest * s,
           high = part.highest_outcome() - kFarthest * s;
    double from = alpha * low - 14 * s, to = alpha * high + 14 * s;
    if (!((to - from) / step < kMostNodes)) {
      // So little noise that sampling hides little: never more than of the farthest two means
      // (Renyi divergence is quasi-convex; van Erven, Harremoes 2014, Theorem 13).
      const double apart = (high - low) / s;
      logs.push_back((alpha - 1) * 0.5 * alpha * apart * apart);
      continue;
    }
    WorkBudget::pay(static_cast<uint64_t>((to - from) / step + 1) *
                    (part.many() ? 8 : 4 * part.terms()));
    double top = -kInfinity;
    std::vector<double> values;
    for (double x = from; x <= to; x += step) {
      const auto [loss, log_q] = part.logs(x);
      if (loss == 0) continue;
      double value = log_q + log_g(loss);
      top = std::max(top, value);
      if (value > top - 60) values.push_back(value);
    }
    double sum = 0;
    for (double value : values) sum += std::exp(value - top);
    if (sum > 0) logs.push_back(std::log(weight * step) + top + std::log(sum));
  }
  for (const auto& laplace : pair.laplaces) {
    constexpr int kPieces = 64;
    double width = 2 * laplace.edge / kPieces, sum = 0, scale = alpha * laplace.edge;
    for (int i = 0; i < kPieces; ++i) {
      double a = -laplace.edge + i * width;
      sum += integral(kRule8, a, a + width, [&](double loss) {
        double q = 0.25 * std::exp(0.5 * (-loss - laplace.edge));
        return loss == 0 ? 0 : q * std::exp(log_g(loss) - scale);
      });
    }
    if (sum > 0) logs.push_back(scale + std::log(sum));
  }
  for (const auto& atom : pair.atoms) {
    // Its Q-mass may be less than a double holds, and what it stands for all there is.
    const double p = atom.masses.p, q = atom.masses.q;
    const double log_q = atom.loss > 0 ? std::log(p) - atom.loss : std::log(q);
    if (atom.loss != 0 && std::isfinite(log_q)) logs.push_back(log_q + log_g(atom.loss));
  }
  if (logs.empty()) return 0;
  double top = *std::max_element(logs.begin(), logs.end()), sum = 0;
  for (double value : logs) sum += std::exp(value - top);
  double log_sum = top + std::log(sum);
  double log_moment = log_sum > 30 ? log_sum + std::exp(-log_sum) : std::log1p(std::exp(log_sum));
  return log_moment / (alpha - 1);
}

}  // namespace souk::policy
