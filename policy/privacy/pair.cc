#include "policy/privacy/pair.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "policy/privacy/binomial.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kMostNodes = 4e5;  // of one quadrature of a Renyi divergence
constexpr double kReach = 38;       // deviations: beyond, a normal tail is below 1e-315

// Gauss-Legendre rules on [-1, 1], positive half.
struct Node {
  double at, weight;
};
constexpr std::array<Node, 2> kRule4 = {
    {{0.3399810435848563, 0.6521451548625461}, {0.8611363115940526, 0.3478548451374538}}};
constexpr std::array<Node, 4> kRule8 = {{{0.1834346424956498, 0.3626837833783620},
                                         {0.5255324099163290, 0.3137066458778873},
                                         {0.7966664774136267, 0.2223810344533745},
                                         {0.9602898564975363, 0.1012285362903763}}};

template <size_t N, class F>
double integral(const std::array<Node, N>& rule, double from, double to, F&& f) {
  double half = 0.5 * (to - from), middle = 0.5 * (from + to), sum = 0;
  for (const Node& node : rule)
    sum += node.weight * (f(middle - half * node.at) + f(middle + half * node.at));
  return sum * half;
}

double normal_below(double z) {
  return 0.5 * std::erfc(-z / std::numbers::sqrt2);
}

double density(double z) {
  return 0.3989422804014327 * std::exp(-0.5 * z * z);
}

// Mass of the standard normal in (from, to]: nothing cancels.
double normal_between(double from, double to) {
  double width = to - from, far = std::max({1.0, std::abs(from), std::abs(to)});
  if (width * far < 0.2) return integral(kRule4, from, to, density);
  if (width * far < 2.5) return integral(kRule8, from, to, density);
  return to <= 0 ? normal_below(to) - normal_below(from) : normal_below(-from) - normal_below(-to);
}

// log(1 + w) for w = sum of weight * expm1(exponent), the weights adding up to 1: neither
// overflows nor loses a small result.
template <class Terms, class Exponent>
double log_mixture(const Terms& terms, Exponent&& exponent) {
  double top = -kInfinity;
  for (const auto& term : terms) top = std::max(top, exponent(term));
  if (top < 30) {
    double sum = 0;
    for (const auto& term : terms) sum += term.weight * std::expm1(exponent(term));
    return std::log1p(sum);
  }
  double sum = 0;
  for (const auto& term : terms) sum += term.weight * std::exp(exponent(term) - top);
  return top + std::log(sum);
}

// log(sinh(x)), x > 0.
double log_sinh(double x) {
  return x > 20 ? x - std::numbers::ln2 : x > 1e-5 ? std::log(std::sinh(x)) : std::log(x);
}

std::vector<GaussianPart::Term> binomial_terms(uint32_t k, double q, double sign) {
  std::vector<GaussianPart::Term> terms;
  if (q == 1) return {{1, sign * k}};
  double log_q = std::log(q), log_rest = std::log1p(-q), total = 0;
  long double log_binomial = 0;
  for (uint32_t j = 0; j <= k; ++j) {
    if (j > 0)
      log_binomial +=
          std::log(static_cast<long double>(k - j + 1)) - std::log(static_cast<long double>(j));
    double weight = std::exp(static_cast<double>(log_binomial) + j * log_q + (k - j) * log_rest);
    if (weight > 0) terms.push_back({weight, sign * j});
    total += weight;
  }
  for (auto& term : terms) term.weight /= total;
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

GaussianPart::GaussianPart(double sigma, std::vector<Term> p, std::vector<Term> q)
    : sigma_(sigma), p_(std::move(p)), q_(std::move(q)) {
  auto simple = [](const std::vector<Term>& terms) {
    return terms.size() == 1 || (terms.size() == 2 && terms[0].mean == 0);
  };
  auto plain = [](const std::vector<Term>& terms) {
    return terms.size() == 1 && terms[0].mean == 0;
  };
  sampled_ = (plain(p_) && simple(q_)) || (plain(q_) && simple(p_));
  mirrored_ = simple(p_) && simple(q_) && p_.size() == q_.size() &&
              p_.back().weight == q_.back().weight && p_.back().mean == -q_.back().mean;
}

double GaussianPart::log_ratio(std::span<const Term> terms, double x) const {
  if (terms.size() == 1 && terms[0].mean == 0) return 0;
  double inverse = 1 / (sigma_ * sigma_);
  return log_mixture(terms,
                     [&](const Term& term) { return term.mean * (x - 0.5 * term.mean) * inverse; });
}

double GaussianPart::loss(double x) const {
  return log_ratio(p_, x) - log_ratio(q_, x);
}

double GaussianPart::slope(double x) const {
  double inverse = 1 / (sigma_ * sigma_);
  auto mean_at = [&](std::span<const Term> terms) {
    double top = -kInfinity, weight = 0, sum = 0;
    for (const auto& term : terms) top = std::max(top, term.mean * (x - 0.5 * term.mean) * inverse);
    for (const auto& term : terms) {
      double w = term.weight * std::exp(term.mean * (x - 0.5 * term.mean) * inverse - top);
      weight += w;
      sum += w * term.mean;
    }
    return sum / weight;
  };
  return (mean_at(p_) - mean_at(q_)) * inverse;
}

double GaussianPart::lowest_loss() const {
  // Towards -infinity the least mean of P over the greatest of Q is left.
  double p_weight = 0, q_weight = 0;
  for (const auto& term : p_) p_weight += term.mean == 0 ? term.weight : 0;
  for (const auto& term : q_) q_weight += term.mean == 0 ? term.weight : 0;
  bool q_plain = q_.size() == 1 && q_weight > 0;
  return q_plain && p_weight > 0 ? std::log(p_weight) : -kInfinity;
}

double GaussianPart::highest_loss() const {
  double q_weight = 0;
  for (const auto& term : q_) q_weight += term.mean == 0 ? term.weight : 0;
  bool p_plain = p_.size() == 1 && p_[0].mean == 0;
  return p_plain && q_weight > 0 ? -std::log(q_weight) : kInfinity;
}

double GaussianPart::where_loss_is(double value, double guess) const {
  const double s2 = sigma_ * sigma_;
  if (sampled_) {
    // loss = +-log(1 + w (e^{(m x - m^2 / 2) / sigma^2} - 1)).
    bool on_p = q_.size() == 1 && q_[0].mean == 0;
    const Term& shifted = on_p ? p_.back() : q_.back();
    double wanted = on_p ? value : -value, log_term = 0;
    if (wanted > 30) {
      log_term =
          wanted + std::log1p(-(1 - shifted.weight) * std::exp(-wanted)) - std::log(shifted.weight);
    } else {
      double t = std::expm1(wanted) + shifted.weight;
      if (!(t > 0)) return on_p ? -kInfinity : kInfinity;
      log_term = std::log(t / shifted.weight);
    }
    return log_term * s2 / shifted.mean + 0.5 * shifted.mean;
  }
  if (mirrored_) {
    double m = p_.back().mean, w = p_.back().weight, half = 0.5 * std::abs(value);
    if (half == 0) return 0;
    double rise = half;
    if (w < 1) {
      double log_z = std::log1p(-w) - std::log(w) + 0.5 * m * m / s2 + log_sinh(half);
      rise += log_z > 20 ? log_z + std::numbers::ln2 : std::asinh(std::exp(log_z));
    }
    return std::copysign(rise * s2 / m, value);
  }
  if (value <= lowest_loss()) return -kInfinity;
  if (value >= highest_loss()) return kInfinity;
  double low = lowest_outcome(), high = highest_outcome();
  if (loss(low) >= value) return -kInfinity;
  if (loss(high) <= value) return kInfinity;
  double x = std::clamp(guess, low, high);
  for (int i = 0; i < 200; ++i) {
    WorkBudget::pay(2 * terms());  // loss and slope
    double off = loss(x) - value;
    (off > 0 ? high : low) = x;
    if (std::abs(off) <= 2e-16 * std::abs(value) || !(high - low > 1e-15 * (sigma_ + std::abs(x))))
      break;
    double next = x - off / slope(x);
    x = next > low && next < high ? next : 0.5 * (low + high);
  }
  return x;
}

Masses GaussianPart::between(double from, double to) const {
  WorkBudget::pay(6 * terms());
  Masses out;
  auto mass_of = [&](const std::vector<Term>& terms) {
    double sum = 0;
    for (const auto& term : terms) {
      sum += term.weight * normal_between((from - term.mean) / sigma_, (to - term.mean) / sigma_);
    }
    return sum;
  };
  if (sampled_ && p_.size() + q_.size() == 3) {
    // The term that both have is looked up once.
    const double rest = normal_between(from / sigma_, to / sigma_);
    const bool on_p = p_.size() == 2;
    const Term& shifted = on_p ? p_[1] : q_[1];
    const double mixed = (on_p ? p_ : q_)[0].weight * rest +
                         shifted.weight * normal_between((from - shifted.mean) / sigma_,
                                                         (to - shifted.mean) / sigma_);
    return on_p ? Masses{mixed, rest} : Masses{rest, mixed};
  }
  out.p = mass_of(p_);
  out.q = mass_of(q_);
  return out;
}

double GaussianPart::p_density(double x) const {
  double sum = 0;
  for (const auto& term : p_) sum += term.weight * density((x - term.mean) / sigma_);
  return sum / sigma_;
}

double GaussianPart::log_q_density(double x) const {
  double z = x / sigma_;
  return -0.5 * z * z - 0.9189385332046727 - std::log(sigma_) + log_ratio(q_, x);
}

double GaussianPart::excess_ratio(double x) const {
  return std::expm1(loss(x));
}

double GaussianPart::lowest_outcome() const {
  double low = 0;
  for (const auto& term : q_) low = std::min(low, term.mean);
  return low - kReach * sigma_;
}

double GaussianPart::highest_outcome() const {
  double high = 0;
  for (const auto& term : p_) high = std::max(high, term.mean);
  return high + kReach * sigma_;
}

double GaussianPart::steepness(double from, double to, double epsilon) const {
  constexpr double kSeen = 60;  // nats below the greatest term
  double steepest = 0;
  for (double x : {from, to}) {
    auto height = [&](const Term& term) {
      const double z = (x - term.mean) / sigma_;
      return std::log(term.weight) - 0.5 * z * z;
    };
    double top = -kInfinity;
    for (const Term& term : p_) top = std::max(top, height(term));
    auto look_at = [&](const Term& term, double more) {
      if (height(term) + more < top - kSeen) return;
      steepest = std::max({steepest, std::abs(from - term.mean), std::abs(to - term.mean)});
    };
    for (const Term& term : p_) look_at(term, 0);
    for (const Term& term : q_) look_at(term, epsilon);
  }
  return steepest / sigma_;
}

double GaussianPart::next_seen(double x) const {
  double next = kInfinity;
  for (const auto& term : p_) {
    if (x < term.mean + kReach * sigma_) next = std::min(next, term.mean - kReach * sigma_);
  }
  return std::max(x, next);
}

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
    // Steps shrink where what can be seen of the integrand falls off quickly, so that each piece is
    // smooth.
    for (double x = part.next_seen(from); x < high; x = part.next_seen(x)) {
      WorkBudget::pay(8 * 5 * part.terms());
      const double reach = 0.5 * part.sigma(), steep = 1 + part.steepness(x, x + reach, epsilon);
      double next = x + std::min(0.5, 2 / steep) * part.sigma();
      if (!(next > x)) next = std::nextafter(x, kInfinity);
      sum += integral(kRule8, x, std::min(high, next), integrand);
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
    const double s = part.sigma(), step = std::min(0.125 * s, 0.5 * s * s);
    // The integrand is Gaussian-like around alpha times the means of P and Q.
    double low = part.lowest_outcome() + kReach * s, high = part.highest_outcome() - kReach * s;
    double from = alpha * low - 14 * s, to = alpha * high + 14 * s;
    if (!((to - from) / step < kMostNodes)) {
      // So little noise that sampling hides little: never more than of the farthest two means
      // (Renyi divergence is quasi-convex; van Erven, Harremoes 2014, Theorem 13).
      const double apart = (high - low) / s;
      logs.push_back((alpha - 1) * 0.5 * alpha * apart * apart);
      continue;
    }
    WorkBudget::pay(static_cast<uint64_t>((to - from) / step + 1) * 4 * part.terms());
    double top = -kInfinity;
    std::vector<double> values;
    for (double x = from; x <= to; x += step) {
      double loss = part.loss(x);
      if (loss == 0) continue;
      double value = part.log_q_density(x) + log_g(loss);
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
    const auto& [p, q] = atom.masses;
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
