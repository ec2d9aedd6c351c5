#include "policy/privacy/closed_form.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <vector>

#include "policy/privacy/quadrature.h"

namespace souk::policy {
namespace {

using Kind = Mechanism::Kind;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLeastZ = -8;  // below, a normal tail is 1 - 1e-15
constexpr double kMostZ = 39;   // there delta is the least double

// Relative error of delta at a given z: the two terms differ by about a share mu of themselves.
double relative_error(double mu) {
  return 1e-12 * (1 + 20 / mu);
}

// z >= kLeastZ.
double log_delta(double z, double mu) {
  constexpr double kLogRoot = 0.9189385332046727;  // log sqrt(2 pi)
  if (z >= 4) return -0.5 * z * z - kLogRoot + std::log(mills(z) - mills(z + mu));
  const double below = 0.5 * std::erfc(z / std::numbers::sqrt2);
  return std::log(below - std::exp(-0.5 * z * z - kLogRoot) * mills(z + mu));
}

struct Losses {
  double edge, steps, mean, variance, top;  // top: log of P's mass at the greatest loss
};
Losses losses_of(const Mechanism& m, Adjacency adjacency) {
  const auto steps = static_cast<double>(m.steps);
  if (m.kind == Kind::kPure) {
    const double e = m.scale, t = std::tanh(0.5 * e), c = std::cosh(std::min(0.5 * e, 350.0));
    return {e, steps, e * t, e * e / (c * c), -std::log1p(std::exp(-e))};
  }
  const double e = (adjacency == Adjacency::kReplaceOne ? 2 : 1) / m.scale, x = std::exp(-e);
  // Mean and variance of min(e, max(-e, ...)); below 1 what is left of the mean after it cancels is
  // not relied upon.
  const double mean = e < 1e-3 ? 0 : std::expm1(-e) + e;
  return {e, steps, mean, std::min(e * e, 3 - (4 * e + 2) * x - x * x + 1e-14), -std::numbers::ln2};
}

struct Sum {
  double mean = 0, deviation = 0;
};
Sum sum_of(const std::vector<Losses>& all) {
  Sum sum;
  double variance = 0, size = 0;
  for (const auto& l : all) {
    sum.mean += l.steps * l.mean;
    variance += l.steps * l.variance;
    size += l.steps * l.edge;
  }
  sum.mean -= 1e-13 * size;  // rounding
  sum.deviation = std::sqrt(variance) * (1 + 1e-12);
  return sum;
}

// The greatest losses first, as many releases as keep `allowed`, the least log of the mass at the
// top: what those reach, and its mass.
struct Top {
  double loss = 0, log_mass = 0;
};
Top top_of(std::vector<Losses> all, double allowed) {
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.edge > b.edge; });
  Top top;
  for (const auto& l : all) {
    double count = l.steps;
    if (l.top < 0) count = std::min(count, std::floor((allowed - top.log_mass) / l.top));
    if (!(count > 0)) continue;
    top.loss += count * l.edge;
    top.log_mass += count * l.top;
  }
  return top;
}

double pure_epsilon_lower(const std::vector<Losses>& all, double delta) {
  double best = 0;
  // Mass m at loss E: delta(eps) >= m (1 - e^{eps - E}).
  for (double factor : {1.001, 2.0, 8.0, 64.0, 1e3, 1e5, 1e8}) {
    const Top top = top_of(all, std::min(-1e-300, std::log(delta) + std::log(factor)));
    const double share = delta * std::exp(-top.log_mass) * (1 + 2e-12);
    if (share < 1) best = std::max(best, top.loss + std::log1p(-share));
  }
  // L >= mean - t deviations with more than t^2 / (1 + t^2) of the mass.
  const Sum sum = sum_of(all);
  for (double part : {1e-9, 1e-6, 1e-3, 0.03, 0.1, 0.5}) {
    const double mass = delta + (1 - delta) * part;
    if (!(mass > delta && mass < 1)) continue;
    const double t = std::sqrt(mass / (1 - mass));
    best = std::max(best, sum.mean - t * sum.deviation + std::log1p(-delta / mass));
  }
  return std::max(0.0, best * (1 - 1e-13) - 1e-12);
}

double pure_delta_lower(const std::vector<Losses>& all, double epsilon) {
  double best = 0;
  for (double allowed = -1e-300; allowed > -600; allowed = std::min(-0.7, 2 * allowed)) {
    const Top top = top_of(all, allowed);
    const double room = top.loss * (1 - 1e-13) - epsilon;
    if (room > 0) best = std::max(best, std::exp(top.log_mass) * -std::expm1(-room));
  }
  const Sum sum = sum_of(all);
  for (double part : {0.03, 0.1, 0.3, 0.6}) {
    const double room = part * (sum.mean - epsilon);
    if (!(room > 0)) continue;
    const double t = (sum.mean - epsilon - room) / std::max(sum.deviation, 1e-300);
    const double mass = t > 1e8 ? 1 - 1e-15 : t * t / (1 + t * t);
    best = std::max(best, mass * -std::expm1(-room));
  }
  return best * (1 - 1e-12);
}

// A list in parts: all Gaussians together, sampled steps taken for Gaussians that are shown with a
// chance, and what is pure.
struct Parts {
  double square = 0;  // of mu, of the Gaussians
  double pure = 0;    // sum of the greatest losses of the rest
  std::vector<Losses> losses;
  struct Sampled {
    double square, drawn;  // drawn: chance that one of its steps shows anything at all
    double steps, chance;  // the same of one step
  };
  std::vector<Sampled> sampled;  // by rising chance
};

Parts parts_of(std::span<const Mechanism> mechanisms, Adjacency adjacency) {
  Parts parts;
  const double apart = adjacency == Adjacency::kReplaceOne ? 2 : 1;
  long double square = 0;
  for (const auto& m : mechanisms) {
    const auto steps = static_cast<double>(m.steps);
    double mu = apart / m.scale;
    switch (m.kind) {
      case Kind::kGaussian:
        square += static_cast<long double>(steps) * mu * mu;
        break;
      case Kind::kLaplace:
      case Kind::kPure:
        parts.losses.push_back(losses_of(m, adjacency));
        parts.pure += steps * parts.losses.back().edge * (1 + 1e-12);
        break;
      case Kind::kTruncatedGaussian:
        mu = 4 / m.scale;  // one in another's place, at half the noise
        [[fallthrough]];
      case Kind::kSampledUser:
      case Kind::kSampledGaussian: {
        mu *= m.records;
        const double draws = m.records * (m.kind == Kind::kTruncatedGaussian ? 2 : 1);
        auto drawn = [&](double times) {
          const double chance = m.q < 1 ? -std::expm1(times * std::log1p(-m.q)) : 1.0;
          return std::min(1.0, chance * (1 + 1e-12));
        };
        parts.sampled.push_back({steps * mu * mu, drawn(steps * draws), steps, drawn(draws)});
        break;
      }
    }
  }
  parts.square = static_cast<double>(square);
  std::sort(parts.sampled.begin(), parts.sampled.end(),
            [](const auto& a, const auto& b) { return a.drawn < b.drawn; });
  return parts;
}

// Chernoff: of `steps` draws, more than this come out with a chance of at most `tail`.
double most_draws(double steps, double chance, double tail) {
  if (!(chance < 1)) return steps;
  auto rare = [&](double draws) {
    const double a = draws / steps, up = a * std::log(a / chance),
                 down = a < 1 ? (1 - a) * (std::log1p(-a) - std::log1p(-chance)) : 0;
    return steps * (up + down - 4e-15 * (std::abs(up) + std::abs(down))) >= -std::log(tail) + 1e-9;
  };
  double low = std::floor(steps * chance) + 1, high = steps;
  if (low >= high || !rare(high)) return steps;
  while (high - low > 1) {
    const double middle = std::floor(0.5 * (low + high));
    (rare(middle) ? high : low) = middle;
  }
  return high;
}

// visit(mu, chance): everything as one Gaussian, but for what is left out for a delta of `chance`:
// the rarest sampled steps, none of them to all of them, at most some thirty choices; and the draws
// beyond what each mechanism has but for one of `tails` (the divergence is convex: as if it were
// known which steps draw).
template <class Visit>
void for_each_choice(const Parts& parts, std::initializer_list<double> tails, Visit&& visit) {
  const size_t n = parts.sampled.size();
  for (double tail : tails) {
    if (n == 0 || !(tail > 0)) break;
    double square = parts.square;
    for (const auto& sampled : parts.sampled) {
      square += most_draws(sampled.steps, sampled.chance, tail / static_cast<double>(n)) *
                (sampled.square / sampled.steps);
    }
    visit(std::max(kLeastMu, std::sqrt(square) * (1 + 1e-12)), tail * (1 + 1e-12));
  }
  const size_t stride = n / 32 + 1;
  for (size_t left_out = 0;; left_out = std::min(n, left_out + stride)) {
    double chance = 0, square = parts.square;
    for (size_t i = 0; i < n; ++i)
      (i < left_out ? chance : square) +=
          i < left_out ? parts.sampled[i].drawn : parts.sampled[i].square;
    visit(square > 0 ? std::max(kLeastMu, std::sqrt(square) * (1 + 1e-12)) : 0.0,
          chance * (1 + 1e-12));
    if (left_out == n) break;
  }
}

// Whether P draws the record, and Q not that one.
bool one_draws(Adjacency adjacency, Direction direction) {
  return adjacency == Adjacency::kReplaceOne || direction == Direction::kRemove;
}

// Counting the steps whose outcome is nearly that of a draw: what the count shows of each sampled
// mechanism alone. P draws in a step with chance q, and then passes `place` but for 0.0014; without
// the record, each step passes it with at most e^log_false.
struct Count {
  double steps, chance, log_false;
};
std::optional<Count> count_of(const Mechanism& m) {
  const double place = 1 - 3 * m.scale;
  if (m.kind != Kind::kSampledGaussian || !(place > 0.3) || m.steps > 1'000'000'000)
    return std::nullopt;
  const double z = place / m.scale;
  return Count{static_cast<double>(m.steps), 0.9986 * m.q,
               -0.5 * z * z * (1 - 1e-12) + std::log(static_cast<double>(m.steps)) + 1e-12};
}

// log of the chance that at least `draws` steps pass, from below.
double log_passes(const Count& count, double draws) {
  const double n = count.steps, p = count.chance;
  if (draws <= 1) return std::log(-std::expm1(n * std::log1p(-p))) - 1e-9;
  if (draws <= std::floor(n * p)) return -std::numbers::ln2;  // the median
  if (draws > n) return -kInfinity;
  return std::lgamma(n + 1) - std::lgamma(draws + 1) - std::lgamma(n - draws + 1) +
         draws * std::log(p) + (n - draws) * std::log1p(-p) - 1e-3;
}

double count_epsilon_lower(const Count& count, double delta) {
  const double wanted = std::log(delta) + std::numbers::ln2;
  double best = 0, low = 1, high = count.steps;
  auto at = [&](double draws) {
    const double passes = log_passes(count, draws);
    if (passes <= wanted) return false;
    best =
        std::max(best, passes + std::log1p(-delta * std::exp(-passes)) - draws * count.log_false);
    return true;
  };
  if (!at(1) || !(count.log_false < 0)) return best;
  while (high - low > 1) {
    const double middle = std::floor(0.5 * (low + high));
    (at(middle) ? low : high) = middle;
  }
  return best * (1 - 1e-12);
}

double count_delta_lower(const Count& count, double epsilon) {
  if (!(count.log_false < 0)) return 0;
  double best = 0;
  for (double spare : {7.0, 30.0, 100.0, 300.0}) {
    const double draws = std::max(1.0, std::ceil((epsilon + spare) / -count.log_false));
    const double passes = log_passes(count, draws);
    const double lost = epsilon + draws * count.log_false - passes;
    if (lost < -1) best = std::max(best, std::exp(passes) * -std::expm1(lost));
  }
  return best * (1 - 1e-9);
}

}  // namespace

Bounds gaussian_epsilon(double mu, double delta) {
  CHECK(mu >= kLeastMu);
  double low = kLeastZ, high = kMostZ;
  const double wanted = std::log(delta);
  for (int i = 0; i < 100; ++i) {
    const double middle = 0.5 * (low + high);
    (log_delta(middle, mu) > wanted ? low : high) = middle;
  }
  // delta falls by phi(z) mu M(z + mu) for each z; where it is close to 1, hardly.
  const double slope = mu * mills(low + mu), size = mills(low) - mills(low + mu);
  const double error = 4 * relative_error(mu) * (1 + size / slope) +
                       4e-15 * std::exp(0.5 * std::pow(std::min(high, 0.0), 2)) / slope;
  auto at = [&](double z, double rounding) {
    return std::max(0.0, mu * (z + 0.5 * mu) + rounding);
  };
  const double rounding = 1e-14 * mu * (8 + std::abs(high) + mu);
  return {low <= kLeastZ ? 0.0 : at(low - error, -rounding), at(high + error, rounding)};
}

Bounds gaussian_delta(double mu, double epsilon, double uncertain) {
  CHECK(mu >= kLeastMu);
  const double z = epsilon / mu - 0.5 * mu;
  const double error = 4e-15 * (std::abs(epsilon) / mu + mu) + uncertain / mu;
  const double relative = relative_error(mu);
  auto at = [&](double value) {
    if (value < kLeastZ) return 1.0;
    return value > kMostZ ? 0.0 : std::exp(log_delta(value, mu));
  };
  const bool unknown = z + error < kLeastZ && mu < 16;  // of a small mu it is not nearly 1 there
  const double lower = unknown ? 0 : at(z + error) * (1 - relative) - 1e-300;
  // Less than a double holds is not nothing.
  const double upper = std::max(at(z - error) * (1 + relative), std::numeric_limits<double>::min());
  return {std::max(0.0, lower), std::min(1.0, upper)};
}

std::optional<Bounds> sampled_step_delta(const Mechanism& step, Adjacency adjacency,
                                         Direction direction, double epsilon) {
  if (step.kind != Kind::kSampledGaussian || !(step.scale <= kLeastNoise)) return std::nullopt;
  const double mu = 1 / step.scale, q = step.q;
  if (q == 1) return std::nullopt;
  // log(weight + rise), rise = e^eps - 1, which may not fit a double.
  auto log_sum = [&](double weight) {
    return epsilon > 700 ? epsilon : std::log(std::expm1(epsilon) + weight);
  };
  // Of share * (N(1) - e^{shifted} N(0)).
  auto part = [&](double share, double shifted) {
    const double uncertain = 1e-15 * (8 + epsilon + std::abs(std::log(q)) + std::abs(shifted));
    Bounds of_gaussian = gaussian_delta(mu, shifted, uncertain);
    return Bounds{
        share * of_gaussian.lower * (1 - 1e-14),
        std::max(share * of_gaussian.upper * (1 + 1e-14), std::numeric_limits<double>::min())};
  };
  if (adjacency == Adjacency::kReplaceOne) {
    // q N(1) - (e^eps - 1) (1 - q) N(0) - e^eps q N(-1): without the last it is more; and where
    // x >= 0, N(-1) is at most e^{-mu^2 / 2} N(0).
    const double log_rest = std::log1p(-q), log_q = std::log(q);
    Bounds out{q * gaussian_delta(2 * mu, 0).lower * (1 - 1e-14), q};
    if (epsilon > 0) {
      const double rise = log_sum(0) + log_rest - log_q;
      out.upper = std::min(q, part(q, rise).upper);
      const double mirrored = epsilon - 0.5 * mu * mu;
      const double more =
          std::max(rise, mirrored) + std::log1p(std::exp(-std::abs(rise - mirrored)));
      out.lower = 0;
      // The place where N(1) is e^more N(0): more / mu^2 + 1/2.
      if (more > -0.49 * mu * mu) out.lower = part(q, more).lower;
    }
    return out;
  }
  if (direction == Direction::kRemove) return part(q, log_sum(q) - std::log(q));
  // 1 - e^eps (1 - q).
  const double share = q - std::expm1(std::min(epsilon, 700.0)) * (1 - q);
  const double rounding = 1e-15 * (q + std::expm1(std::min(epsilon, 700.0)));
  if (!(share + rounding > 0)) return Bounds{0, 0};
  if (!(share > 1e3 * rounding)) return Bounds{0, share + rounding};
  const double shifted = epsilon + std::log(q) - std::log(share);
  Bounds out = part(share, shifted);
  const double uncertain = rounding / share;
  const Bounds wide = gaussian_delta(mu, shifted, 2 * uncertain + 1e-14 * (1 + epsilon));
  out.lower = std::min(out.lower, std::max(0.0, (share - rounding) * wide.lower * (1 - 1e-14)));
  out.upper = std::max(out.upper, (share + rounding) * wide.upper * (1 + 1e-14));
  return out;
}

Bounds rough_epsilon(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                     Direction direction, double delta) {
  const Parts parts = parts_of(mechanisms, adjacency);
  Bounds out{0, kInfinity};
  for_each_choice(parts, {0.5 * delta, 0.05 * delta}, [&](double mu, double chance) {
    const double rest = delta * (1 - 1e-12) - chance;
    if (!(rest > 0)) return;
    out.upper = std::min(
        out.upper, (parts.pure + (mu > 0 ? gaussian_epsilon(mu, rest).upper : 0)) * (1 + 1e-12));
  });
  if (!parts.losses.empty()) out.lower = pure_epsilon_lower(parts.losses, delta);
  for (const auto& m : mechanisms) {
    auto count = count_of(m);
    if (count && one_draws(adjacency, direction))
      out.lower = std::max(out.lower, count_epsilon_lower(*count, delta));
  }
  const double mu = std::sqrt(parts.square) * (1 - 1e-15);
  if (mu >= kLeastMu) out.lower = std::max(out.lower, gaussian_epsilon(mu, delta).lower);
  return out;
}

Bounds rough_delta(std::span<const Mechanism> mechanisms, Adjacency adjacency, Direction direction,
                   double epsilon) {
  const Parts parts = parts_of(mechanisms, adjacency);
  Bounds out{0, 1};
  for_each_choice(
      parts, {1e-2, 1e-4, 1e-7, 1e-12, 1e-20, 1e-50, 1e-150}, [&](double mu, double chance) {
        // Of what is pure alone: randomised response is the worst.
        double rest = epsilon < parts.pure ? -std::expm1(epsilon - parts.pure) /
                                                 (1 + std::exp(-parts.pure)) * (1 + 1e-12)
                                           : 0;
        if (mu > 0) rest = gaussian_delta(mu, epsilon - parts.pure, 1e-12 * epsilon).upper;
        out.upper = std::min(out.upper, chance + rest);
      });
  if (!parts.losses.empty()) out.lower = pure_delta_lower(parts.losses, epsilon);
  for (const auto& m : mechanisms) {
    auto count = count_of(m);
    if (count && one_draws(adjacency, direction))
      out.lower = std::max(out.lower, count_delta_lower(*count, epsilon));
  }
  const double mu = std::sqrt(parts.square) * (1 - 1e-15);
  if (mu >= kLeastMu) out.lower = std::max(out.lower, gaussian_delta(mu, epsilon).lower);
  return out;
}

}  // namespace souk::policy
