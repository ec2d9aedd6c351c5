#include "policy/privacy/gaussian.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "policy/privacy/quadrature.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// log(1 + w) for w = sum of weight * expm1(exponent), the weights adding up to 1: neither
// overflows nor loses a small result.
template <class Terms, class Exponent>
double log_mixture(const Terms& terms, Exponent&& exponent) {
  double top = -kInfinity;
  for (const auto& term : terms) top = std::max(top, exponent(term));
  if (top < 30) {
    double sum = 0;
    for (const auto& term : terms) sum += term.weight * std::expm1(exponent(term));
    // Below, 1 + sum has lost what its logarithm is made of.
    if (sum > -0.5) return std::log1p(sum);
  }
  double sum = 0;
  for (const auto& term : terms) sum += term.weight * std::exp(exponent(term) - top);
  return top + std::log(sum);
}

// log(sinh(x)), x > 0.
double log_sinh(double x) {
  return x > 20 ? x - std::numbers::ln2 : x > 1e-5 ? std::log(std::sinh(x)) : std::log(x);
}

// What evaluates many terms, equally spaced from `sign` times nothing on; nothing for few.
std::optional<Mixture> mixture_of(double sigma, const std::vector<GaussianPart::Term>& terms,
                                  double sign) {
  if (terms.size() < 3) return std::nullopt;
  std::vector<double> weights;
  for (const auto& term : terms) weights.push_back(term.weight);
  return Mixture(sigma, static_cast<uint32_t>(sign * terms[0].mean), std::move(weights));
}

}  // namespace

GaussianPart::GaussianPart(double sigma, std::vector<Term> p, std::vector<Term> q)
    : sigma_(sigma),
      p_(std::move(p)),
      q_(std::move(q)),
      many_p_(mixture_of(sigma, p_, 1)),
      many_q_(mixture_of(sigma, q_, -1)) {
  for (const Term& term : p_) p_logs_.push_back(std::log(term.weight));
  for (const Term& term : q_) q_logs_.push_back(std::log(term.weight));
  auto simple = [](const std::vector<Term>& terms) {
    return terms.size() == 1 || (terms.size() == 2 && terms[0].mean == 0);
  };
  auto plain = [](const std::vector<Term>& terms) {
    return terms.size() == 1 && terms[0].mean == 0;
  };
  sampled_ = (plain(p_) && simple(q_)) || (plain(q_) && simple(p_));
  mirrored_ = simple(p_) && simple(q_) && p_.size() == q_.size() &&
              p_.back().weight == q_.back().weight && p_.back().mean == -q_.back().mean;
  double p_weight = 0, q_weight = 0, low = 0, high = 0;  // weights at 0
  for (const auto& term : p_) p_weight += term.mean == 0 ? term.weight : 0;
  for (const auto& term : q_) q_weight += term.mean == 0 ? term.weight : 0;
  for (const auto& term : q_) low = std::min(low, term.mean);
  for (const auto& term : p_) high = std::max(high, term.mean);
  // Towards -infinity the least mean of P over the greatest of Q is left.
  lowest_loss_ = plain(q_) && p_weight > 0 ? std::log(p_weight) : -kInfinity;
  highest_loss_ = plain(p_) && q_weight > 0 ? -std::log(q_weight) : kInfinity;
  lowest_outcome_ = low - kFarthest * sigma_;
  highest_outcome_ = high + kFarthest * sigma_;
  if (sampled_ || mirrored_) return;
  first_loss_ = loss(lowest_outcome_);
  last_loss_ = loss(highest_outcome_);
}

double GaussianPart::log_ratio(std::span<const Term> terms, double x) const {
  if (terms.size() == 1 && terms[0].mean == 0) return 0;
  double inverse = 1 / (sigma_ * sigma_);
  return log_mixture(terms,
                     [&](const Term& term) { return term.mean * (x - 0.5 * term.mean) * inverse; });
}

GaussianPart::Both GaussianPart::both(double x) const {
  Both out;
  if (many_p_) {
    out.p = many_p_->ratio(x);
  } else {
    out.p.log = log_ratio(p_, x);
  }
  if (many_q_) {
    out.q = many_q_->ratio(-x);
    out.q.slope = -out.q.slope;
  } else {
    out.q.log = log_ratio(q_, x);
  }
  return out;
}

double GaussianPart::loss(double x) const {
  const Both at = both(x);
  return at.p.log - at.q.log;
}

GaussianPart::Logs GaussianPart::logs(double x) const {
  const Both at = both(x);
  const double z = x / sigma_;
  return {at.p.log - at.q.log, -0.5 * z * z - 0.9189385332046727 - std::log(sigma_) + at.q.log};
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

double GaussianPart::where_loss_is(double value, Mixture::Place& near) const {
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
  if (value <= lowest_loss_ || first_loss_ >= value) return -kInfinity;
  if (value >= highest_loss_ || last_loss_ <= value) return kInfinity;
  if (many() && q_.size() == 1 && q_[0].mean == 0) return many_p_->where(value, near);
  // Q's is turned round: its places are those of -x.
  if (many() && p_.size() == 1 && p_[0].mean == 0) return -many_q_->where(-value, near);
  return searched(value, near);
}

double GaussianPart::searched(double value, Mixture::Place& near) const {
  double low = lowest_outcome_, high = highest_outcome_;
  double x = std::clamp(near.x, low, high);
  for (int i = 0; i < 200; ++i) {
    double off = 0, step = 0, left = kInfinity;
    if (many()) {
      const Both at = both(x);
      off = at.p.log - at.q.log - value;
      const double rise = at.p.slope - at.q.slope, bent = (at.p.bend - at.q.bend) / rise;
      step = -off / rise;
      // Halley's step, which leaves a third power.
      if (std::abs(bent * step) < 1) step /= 1 + 0.5 * bent * step;
      // By the third derivative, after a short step.
      const double per = 1 / (sigma_ * sigma_),
                   sharp = std::abs(bent) + per + std::sqrt(at.p.bend + at.q.bend);
      if (std::abs(step) * std::max(per, 1 / sigma_) < 1e-3)
        left = std::abs(step) * std::pow(step * sharp, 2);
    } else {
      WorkBudget::pay(2 * terms());  // loss and slope
      off = loss(x) - value;
      step = -off / slope(x);
    }
    (off > 0 ? high : low) = x;
    if (std::abs(off) <= 2e-16 * std::abs(value) || !(high - low > 1e-15 * (sigma_ + std::abs(x))))
      break;
    double next = x + step;
    const bool inside = next > low && next < high;
    x = inside ? next : 0.5 * (low + high);
    if (inside && left <= 1e-16 * (sigma_ + std::abs(x))) break;
  }
  near.x = x;
  return x;
}

Masses GaussianPart::between(double from, double to) const {
  if (!many()) WorkBudget::pay(6 * terms());
  // The quadrature is good for 8e-15; rounding z moves exp(-z^2 / 2) by z^2 * 2^-52.
  auto rounding = [&](double x) {
    const double z = std::isfinite(x) ? x / sigma_ : 0;
    return 8e-15 + 5e-16 * z * z;
  };
  const double error = std::max(rounding(from), rounding(to));
  auto normal = [&](double mean) {
    return normal_between((from - mean) / sigma_, (to - mean) / sigma_, (to - from) / sigma_);
  };
  if (sampled_ && p_.size() + q_.size() == 3) {
    // The term that both have is looked up once.
    const bool on_p = p_.size() == 2;
    const Term& shifted = on_p ? p_[1] : q_[1];
    const double rest = normal(0);
    const double mixed = (on_p ? p_ : q_)[0].weight * rest + shifted.weight * normal(shifted.mean);
    return on_p ? Masses{mixed, rest, error} : Masses{rest, mixed, error};
  }
  auto mass_of = [&](const std::vector<Term>& terms, const std::optional<Mixture>& many,
                     double sign) -> Mixture::Mass {
    if (many) return sign > 0 ? many->between(from, to) : many->between(-to, -from);
    double sum = 0;
    for (const auto& term : terms) sum += term.weight * normal(term.mean);
    return {sum, error};
  };
  const auto p = mass_of(p_, many_p_, 1), q = mass_of(q_, many_q_, -1);
  return {p.value, q.value, std::max(p.error, q.error)};
}

double GaussianPart::p_density(double x) const {
  if (many_p_) return std::exp(many_p_->log_density(x));
  double sum = 0;
  for (const auto& term : p_) sum += term.weight * normal_density((x - term.mean) / sigma_);
  return sum / sigma_;
}

double GaussianPart::excess_ratio(double x) const {
  return std::expm1(loss(x));
}

double GaussianPart::steepness(double from, double to, double epsilon) const {
  constexpr double kSeen = 60;  // nats below the greatest term
  double steepest = 0;
  for (double x : {from, to}) {
    auto height = [&](const Term& term, double log_weight) {
      const double z = (x - term.mean) / sigma_;
      return log_weight - 0.5 * z * z;
    };
    double top = -kInfinity;
    for (size_t i = 0; i < p_.size(); ++i) top = std::max(top, height(p_[i], p_logs_[i]));
    auto look_at = [&](const Term& term, double log_weight, double more) {
      if (height(term, log_weight) + more < top - kSeen) return;
      steepest = std::max({steepest, std::abs(from - term.mean), std::abs(to - term.mean)});
    };
    for (size_t i = 0; i < p_.size(); ++i) look_at(p_[i], p_logs_[i], 0);
    for (size_t i = 0; i < q_.size(); ++i) look_at(q_[i], q_logs_[i], epsilon);
  }
  return steepest / sigma_;
}

double GaussianPart::next_seen(double x) const {
  double next = kInfinity;
  for (const auto& term : p_) {
    if (x < term.mean + kFarthest * sigma_) next = std::min(next, term.mean - kFarthest * sigma_);
  }
  return std::max(x, next);
}

}  // namespace souk::policy
