#include "policy/privacy/tilted.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "policy/privacy/quadrature.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMostNodes = 4e5;  // of one quadrature
constexpr int kMostPieces = 4'000;
constexpr int kPieces = 64;           // of the body of a Laplace pair
constexpr double kMostSteep = 64;     // (1 + c) times its edge: beyond, these are too long
constexpr double kAround = 14;        // deviations from a mean that count
constexpr double kUsual = 7;          // deviations within which nearly all of it lies
constexpr double kTailError = 1e-12;  // relative, of a tail as far out as that
constexpr double kNegligible = -60;   // nats below the greatest value

// Calls visit(loss, log of Q's mass) at the places of a rule for E_Q[(P/Q)^{1+c} f(L)] over the
// outcomes up to `cut`, where f grows slowly. False, and no visit, where there would be too many.
template <class Visit>
bool visit_places(const GaussianPart& part, double c, double cut, Visit&& visit) {
  const double s = part.sigma(), low = part.lowest_outcome() + kFarthest * s,
               high = part.highest_outcome() - kFarthest * s;
  const uint64_t cost = part.many() ? 8 : 4 * part.terms();
  // The integrand is Gaussian-like around 1 + c times the means of P, and below where P/Q is 1 no
  // more than a multiple of Q.
  const double from = low - kAround * s, to = (1 + c) * high + kAround * s;
  if (cut == kInfinity) {
    // P/Q has its zeros at pi sigma^2 from the line (a polynomial in e^{x / sigma^2}: log-concave
    // weights of its kind keep real roots, Laguerre). A trapezoid rule of step h then leaves less
    // than e^{-2 pi^2 sigma^2 / h^2}, or e^{-pi^2 sigma^2 (2 / h - 1/2)} where h <= 2.
    const double fine = std::min(0.125 * s, 0.5 * s * s),
                 step = part.many() ? std::max(fine, std::min(0.5 * s, 0.3 * s * s)) : fine;
    if (!((to - from) / step < kMostNodes)) return false;
    WorkBudget::pay(static_cast<uint64_t>((to - from) / step + 1) * cost);
    for (double x = from; x <= to; x += step) {
      const auto [loss, log_q] = part.logs(x);
      visit(loss, log_q + std::log(step));
    }
    return true;
  }
  // Pieces on which neither the slope nor the bend of the integrand's logarithm moves it by more
  // than three or so: the rule of eight nodes leaves less than 1e-14 of it.
  const double end = std::min(cut, to), apart = high - low, s2 = s * s;
  const double bend = (1 + (1 + c) * 0.25 * apart * apart / s2) / s2;
  const double most = std::min({0.5 * s, 0.5 * s2, 1.5 / std::sqrt(bend)});
  if (!((end - from) / most < kMostPieces)) return false;
  auto height = [&](double x) {
    const auto [loss, log_q] = part.logs(x);
    return log_q + (1 + c) * loss;
  };
  int pieces = 0;
  for (double x = from; x < end;) {
    if (++pieces > kMostPieces) return false;
    WorkBudget::pay(5 * cost);
    const double near = 1e-3 * most, slope = std::abs(height(x + near) - height(x)) / near;
    const double half = 0.5 * std::min({most, 3 / slope, end - x});
    for (const Node& node : kRule8) {
      for (const double at : {x + half - half * node.at, x + half + half * node.at}) {
        const auto [loss, log_q] = part.logs(at);
        visit(loss, log_q + std::log(half * node.weight));
      }
    }
    const double next = x + 2 * half;
    x = next > x ? next : end;
  }
  return true;
}

// The same of a body, in pieces.
template <class Visit>
void visit_places(const LaplacePart& part, Visit&& visit) {
  const double width = 2 * part.edge / kPieces;
  for (int i = 0; i < kPieces; ++i) {
    const double middle = -part.edge + (i + 0.5) * width;
    for (const Node& node : kRule8) {
      for (const double loss : {middle - 0.5 * width * node.at, middle + 0.5 * width * node.at})
        visit(loss, std::log(0.125 * width * node.weight) + 0.5 * (-loss - part.edge));
    }
  }
}

// Whether it is one Gaussian against another.
bool normal(const LossPair& pair) {
  return pair.gaussians.size() == 1 && pair.gaussians[0].part.terms() == 2 && pair.atoms.empty();
}

// Its Q-mass may be less than a double holds, and what it stands for all there is.
double log_q_of(const Atom& atom) {
  return atom.loss > 0 ? std::log(atom.masses.p) - atom.loss : std::log(atom.masses.q);
}

// log of g(r) = r^{1+c} - 1 - (1 + c)(r - 1) >= 0 at r = e^loss; loss is not 0.
double log_excess(double loss, double c) {
  const double t = std::expm1(loss);
  if (std::abs(t) < 1e-3 && (1 + c) * std::abs(t) < 1e-2) {
    const double series =
        1 + (c - 1) / 3 * t * (1 + (c - 2) / 4 * t * (1 + (c - 3) / 5 * t * (1 + (c - 4) / 6 * t)));
    return std::log(0.5 * (1 + c) * c * t * t * series);
  }
  const double rise = c * loss;
  // From here on 1 is nothing beside r.
  if (loss > 35)
    return loss + (rise > 30 ? rise + std::log1p(-(1 + c) * std::exp(-rise))
                             : std::log(std::expm1(rise) - c));
  if (rise > 250) return loss + rise + std::log1p(-(1 + (1 + c) * t) * std::exp(-loss - rise));
  return std::log(std::exp(loss) * std::expm1(rise) - c * t);
}

double log_sum(const std::vector<double>& logs) {
  const double top = *std::max_element(logs.begin(), logs.end());
  double sum = 0;
  for (double value : logs) sum += std::exp(value - top);
  return top + std::log(sum);
}

}  // namespace

TiltedPair::TiltedPair(const LossPair& pair, double rare, double highest)
    : pair_(pair), left_out_(std::isfinite(highest)) {
  for (const auto& [weight, part] : pair_.gaussians) {
    if (left_out_) {
      ends_.push_back(part.where_loss_is(highest));
      continue;
    }
    double low = part.lowest_outcome(), high = part.highest_outcome();
    if (rare > 0) {
      const double above = part.highest_outcome() - kFarthest * part.sigma();
      low = std::max(low, above - kFarthest * part.sigma());
      for (int i = 0; i < 14; ++i) {
        const double middle = 0.5 * (low + high);
        (weight * part.between(middle, kInfinity).p > rare ? low : high) = middle;
      }
    } else {
      high = kInfinity;
    }
    ends_.push_back(high);
  }
}

// Where a tilt lifts what is rare so far that it would decide, it is cut off. A Gaussian's loss is
// normal only as a whole.
double TiltedPair::cut(size_t i, double c) const {
  if (left_out_) return ends_[i];
  if (normal(pair_)) return kInfinity;
  const GaussianPart& part = pair_.gaussians[i].part;
  const double s = part.sigma(), high = part.highest_outcome() - kFarthest * s;
  return (1 + c) * high + kUsual * s > ends_[i] ? ends_[i] : kInfinity;
}

TiltedPair::Places TiltedPair::places(double c) const {
  Places out;
  for (size_t i = 0; i < pair_.gaussians.size(); ++i) {
    const auto& [weight, part] = pair_.gaussians[i];
    const double end = cut(i, c), log_weight = std::log(weight);
    const bool few = visit_places(part, c, end, [&](double loss, double log_q) {
      out.at.push_back({loss, log_q + log_weight});
    });
    if (!few) {
      // So little noise that sampling hides little: never more than of the farthest two means
      // (Renyi divergence is quasi-convex; van Erven, Harremoes 2014, Theorem 13).
      const double s = part.sigma();
      const double apart = (part.highest_outcome() - part.lowest_outcome()) / s - 2 * kFarthest;
      out.log_more.push_back(c * 0.5 * (1 + c) * apart * apart);
    } else if (end < kInfinity) {
      const Masses rest = part.between(end, kInfinity);
      out.missing += weight * ((1 + c) * rest.p - c * rest.q);
      if (!left_out_) out.cut_off += weight * rest.p * (1 + kTailError);
    }
  }
  for (const auto& laplace : pair_.laplaces)
    visit_places(laplace, [&](double loss, double log_q) { out.at.push_back({loss, log_q}); });
  for (const auto& atom : pair_.atoms) {
    if (const double log_q = log_q_of(atom); std::isfinite(log_q))
      out.at.push_back({atom.loss, log_q});
  }
  return out;
}

// log(1 + sum of E_Q[g(P/Q)]): nothing cancels. What is cut off is missing.
double TiltedPair::log_moment(const Places& places, double c) const {
  if (pair_.laplaces.size() == 1 && (1 + c) * pair_.laplaces[0].edge > 1) {
    // The whole pair: log((1 + c) / (1 + 2c) e^{c edge} + c / (1 + 2c) e^{-(1 + c) edge}) (Mironov
    // 2017, Proposition 6). Below, its two terms nearly cancel.
    const double edge = pair_.laplaces[0].edge;
    const double high = c * edge - std::log1p(c / (1 + c));
    const double low = std::log(c / (1 + 2 * c)) - (1 + c) * edge;
    return high + std::log1p(std::exp(low - high));
  }
  std::vector<double> logs = places.log_more;
  double top = -kInfinity;
  for (const auto& [loss, log_q] : places.at) {
    if (loss == 0) continue;
    const double value = log_q + log_excess(loss, c);
    top = std::max(top, value);
    if (value > top + kNegligible) logs.push_back(value);
  }
  if (logs.empty()) return 0;
  const double log_rest = log_sum(logs);
  return log_rest > 30 ? log_rest + std::exp(-log_rest)
                       : std::log1p(std::exp(log_rest) - places.missing);
}

double TiltedPair::log_moment(double c) const {
  return log_moment(places(c), c);
}

double renyi_divergence(const LossPair& pair, double alpha) {
  return TiltedPair(pair).log_moment(alpha - 1) / (alpha - 1);
}

std::optional<TiltedLoss> TiltedPair::loss(double c) const {
  for (const auto& laplace : pair_.laplaces) {
    if (!((1 + c) * laplace.edge < kMostSteep)) return std::nullopt;
  }
  const Places places = this->places(c);
  if (!places.log_more.empty()) return std::nullopt;
  TiltedLoss out;
  out.log_moment = log_moment(places, c);
  out.cut_off = places.cut_off;
  double top = -kInfinity;
  for (const auto& [loss, log_q] : places.at) top = std::max(top, log_q + (1 + c) * loss);
  std::vector<double> masses;
  double all = 0;
  for (const auto& [loss, log_q] : places.at) {
    masses.push_back(std::exp(log_q + (1 + c) * loss - top));
    all += masses.back();
    out.mean += masses.back() * loss;
    out.size += masses.back() * std::abs(loss);
  }
  out.mean /= all, out.size /= all;
  double fourth = 0;
  for (size_t i = 0; i < masses.size(); ++i) {
    const double off = places.at[i].loss - out.mean, square = off * off;
    out.variance += masses[i] * square;
    fourth += masses[i] * square * square;
  }
  out.variance /= all, fourth /= all;
  // A Gaussian's loss is normal. Else by Cauchy and Schwarz: of smooth functions alone, for which
  // the rules are good.
  out.third = normal(pair_) && !left_out_ ? 0 : std::sqrt(fourth * out.variance) * (1 + 1e-9);
  if (!(std::isfinite(out.log_moment) && out.variance > 0 && std::isfinite(out.third)))
    return std::nullopt;
  return out;
}

}  // namespace souk::policy
