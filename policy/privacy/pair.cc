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

}  // namespace souk::policy
