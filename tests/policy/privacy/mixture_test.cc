// Mixtures of many normals against sums over all of their terms, in long double.
#include "policy/privacy/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "policy/privacy/binomial.h"
#include "policy/privacy/pair.h"
#include "policy/privacy/quadrature.h"
#include "policy/privacy/tilted.h"

namespace souk::policy {
namespace {

using Long = long double;
constexpr double kUnit = 0x1p-53, kInfinity = std::numeric_limits<double>::infinity();

// Everything term by term.
struct Plain {
  double sigma;
  uint32_t first;
  std::vector<double> weights;

  double usual() const {
    double mean = first;
    for (size_t i = 0; i < weights.size(); ++i) mean += weights[i] * static_cast<double>(i);
    return mean;
  }
  Long exponent(size_t i, double x) const {
    const Long m = first + static_cast<Long>(i), s = sigma;
    return m * (x - m / 2) / (s * s);
  }
  struct Ratio {
    Long log, slope, bend;
  };
  Ratio ratio(double x) const {
    Long top = -INFINITY, sum = 0, first_moment = 0, second = 0, beyond = 0;
    for (size_t i = 0; i < weights.size(); ++i)
      top = std::max(top, std::log(static_cast<Long>(weights[i])) + exponent(i, x));
    for (size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] == 0) continue;
      const Long w = weights[i], e = exponent(i, x), term = w * std::exp(e - top);
      const Long m = first + static_cast<Long>(i);
      sum += term;
      first_moment += m * term;
      second += m * m * term;
      beyond += w * std::expm1(std::min<Long>(e, 11000));
    }
    const Long mean = first_moment / sum, s2 = static_cast<Long>(sigma) * sigma;
    const Long log = top + std::log(sum);
    return {std::abs(log) < 0.1 ? std::log1p(beyond) : log, mean / s2,
            (second / sum - mean * mean) / (s2 * s2)};
  }
  static Long normal(Long a, Long b, Long width) {
    auto below = [](Long z) { return std::erfc(-z / std::sqrt(2.0L)) / 2; };
    const Long far = std::max({1.0L, std::abs(a), std::abs(b)});
    const auto pieces = std::ceil(width * far / 0.4L);
    if (!(pieces < 40)) return b <= 0 ? below(b) - below(a) : below(-a) - below(-b);
    Long sum = 0;
    for (Long i = 0; i < pieces; ++i) {
      const Long half = width / (2 * pieces), middle = a + half * (2 * i + 1);
      for (const Node& node : kRule8)
        for (Long z : {middle - half * node.at, middle + half * node.at})
          sum += node.weight * half * std::exp(-z * z / 2);
    }
    return sum * 0.398942280401432677939946L;
  }
  Long between(Long from, Long to) const {
    Long sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const Long m = first + static_cast<Long>(i);
      sum += weights[i] * normal((from - m) / sigma, (to - m) / sigma, (to - from) / sigma);
    }
    return sum;
  }
};

struct Sample {
  Plain plain;
  Mixture mixture;
};

class Samples {
 public:
  double uniform(double from, double to) {
    return std::uniform_real_distribution<double>(from, to)(random_);
  }
  double spread(double from, double to) { return std::exp(uniform(std::log(from), std::log(to))); }
  Sample next() {
    for (;;) {
      const double most = uniform(0, 1) < 0.1 ? 4096 : uniform(0, 1) < 0.6 ? 130 : 1100;
      const auto k = static_cast<uint32_t>(spread(2, most + 1));
      double q = uniform(0, 1) < 0.7 ? spread(1e-4, 0.1) : spread(1e-100, 1);
      if (uniform(0, 1) < 0.1) q = 1 - spread(1e-16, 0.5);
      const double sigma = uniform(0, 1) < 0.6 ? spread(0.5, 50) : spread(0.05, 1e4);
      uint32_t first = 0;
      std::vector<double> weights;
      const auto all = binomial_masses(k, q);
      for (uint32_t j = 0; j <= k; ++j) {
        if (all[j] < std::numeric_limits<double>::min()) continue;
        if (weights.empty()) first = j;
        weights.push_back(all[j]);
      }
      if (weights.size() < 3) continue;
      return {{sigma, first, weights}, Mixture(sigma, first, weights)};
    }
  }
  // Where the terms are, or far from all of them.
  double place(const Plain& of) {
    const double mean = of.usual();
    const double last = of.first + static_cast<double>(of.weights.size());
    const double choice = uniform(0, 1);
    if (choice < 0.5) return uniform(-8, 8) * of.sigma + uniform(0, 2) * mean;
    if (choice < 0.6) return 0.5 * mean * (1 + uniform(-1, 1) * spread(1e-12, 1));
    if (choice < 0.7) return uniform(-1, 1) * spread(1e-9, 1) * of.sigma;
    return uniform(-37, 37) * of.sigma + uniform(0, last);
  }

 private:
  std::mt19937_64 random_{20};
};

TEST(Mixture, RatioAndItsDerivativesAreThoseOfTheSum) {
  Samples samples;
  for (int i = 0; i < 300; ++i) {
    const Sample sample = samples.next();
    const Plain& plain = sample.plain;
    const Mixture& mixture = sample.mixture;
    for (int j = 0; j < 20; ++j) {
      const double x = samples.place(plain), s2 = plain.sigma * plain.sigma;
      const auto exact = plain.ratio(x);
      const auto found = mixture.ratio(x);
      auto near = [&](Long a, Long b, Long off) {
        EXPECT_LE(std::abs(a - b), off)
            << plain.weights.size() << " " << plain.weights[0] << " " << plain.sigma << " " << x;
      };
      // As the header says; slopes that no loss shows are as small as they should be.
      near(found.log, exact.log,
           40 * kUnit * (exact.slope * (plain.sigma + std::abs(x)) + std::abs(exact.log)));
      const double mean = plain.usual();
      near(found.slope, exact.slope, 1e-13L * exact.slope + 4 * kUnit * mean / s2);
      near(found.bend, exact.bend,
           1e-12L * (exact.bend + exact.slope * exact.slope) +
               1e3 * kUnit * mean * static_cast<double>(plain.weights.size()) / (s2 * s2));
    }
  }
}

TEST(Mixture, MassesAreRightToWhatTheySay) {
  Samples samples;
  for (int i = 0; i < 300; ++i) {
    const Sample sample = samples.next();
    const Plain& plain = sample.plain;
    const Mixture& mixture = sample.mixture;
    for (int j = 0; j < 10; ++j) {
      const double from = samples.place(plain), to = from + samples.spread(1e-9, 10) * plain.sigma;
      const double a = j == 0 ? -kInfinity : from, b = j == 1 ? kInfinity : to;
      const Long exact = plain.between(a, b);
      if (exact < 1e-280L) continue;
      const auto found = mixture.between(a, b);
      EXPECT_LE(std::abs(found.value - exact), found.error * exact)
          << plain.weights.size() << " " << plain.sigma << " " << a << " " << b;
      EXPECT_LT(found.error, 2e-12);
    }
    // Around the usual outcomes the error stays near 1e-14, which many steps multiply.
    const double middle = plain.usual();
    EXPECT_LT(mixture.between(middle, middle + 0.05 * plain.sigma).error, 3e-13);
  }
}

TEST(Mixture, PlacesOfARatioAreWhereItIs) {
  Samples samples;
  for (int i = 0; i < 300; ++i) {
    const Sample sample = samples.next();
    const Plain& plain = sample.plain;
    const Mixture& mixture = sample.mixture;
    Mixture::Place near;
    for (int j = 0; j < 10; ++j) {
      const double x = samples.place(plain);
      const auto exact = plain.ratio(x);
      const double value = static_cast<double>(exact.log), s = plain.sigma;
      // Far below, where the ratio no longer tells places apart, there is none to find.
      if (exact.slope * s < 1e-9L * plain.usual() / s) continue;
      const double found = mixture.where(value, near);
      const Long back = plain.ratio(found).log;
      const double usual = plain.usual();
      EXPECT_LE(std::abs(back - value),
                2e-13L * (exact.slope * (s + std::abs(x)) + std::abs(value)) +
                    4 * kUnit * usual * (1 + std::abs(std::log(usual))))
          << plain.weights.size() << " " << s << " " << x;
    }
  }
  Mixture::Place near;
  EXPECT_EQ(Mixture(1, 0, {0.25, 0.5, 0.25}).where(std::log(0.25) - 1e-9, near), -kInfinity);
}

// Both directions and both adjacencies, by the sums of P and of Q.
TEST(Mixture, PairsHaveTheLossesPlacesAndMassesOfTheirSums) {
  using Kind = Mechanism::Kind;
  Samples samples;
  for (int i = 0; i < 60; ++i) {
    const auto k = static_cast<uint32_t>(samples.spread(2, 300));
    const double q = samples.spread(1e-3, 0.9), sigma = samples.spread(0.3, 100);
    const Mechanism m{Kind::kSampledUser, q, sigma, 1, k};
    const Plain up{sigma, 0, binomial_masses(k, q)};
    for (auto adjacency : {Adjacency::kAddRemove, Adjacency::kReplaceOne}) {
      for (auto direction : {Direction::kRemove, Direction::kAdd}) {
        const auto pair = dominating_pair(m, adjacency, direction);
        const GaussianPart& part = pair.gaussians[0].part;
        const bool both = adjacency == Adjacency::kReplaceOne;
        const bool p_many = both || direction == Direction::kRemove, q_many = both || !p_many;
        Mixture::Place near;
        for (int j = 0; j < 10; ++j) {
          const double x = samples.uniform(-5, 5) * sigma + samples.uniform(-1, 1) * k * q;
          const Plain::Ratio none{0, 0, 0}, p = p_many ? up.ratio(x) : none,
                                            minus = q_many ? up.ratio(-x) : none;
          const double scale =
              1e-14 * static_cast<double>((p.slope + minus.slope) * (sigma + std::abs(x)) +
                                          std::abs(p.log) + std::abs(minus.log));
          EXPECT_NEAR(part.loss(x), static_cast<double>(p.log - minus.log), scale);
          const double place = part.where_loss_is(part.loss(x), near);
          if (std::isfinite(place)) {
            EXPECT_NEAR(part.loss(place), part.loss(x), 20 * scale + 1e-15 * k * q);
          }
          const double to = x + samples.spread(1e-6, 1) * sigma;
          const Masses masses = part.between(x, to);
          const Long width = (static_cast<Long>(to) - x) / sigma;
          auto exact = [&](bool many, int sign) {
            return !many      ? Plain::normal(static_cast<Long>(x) / sigma,
                                              static_cast<Long>(to) / sigma, width)
                   : sign > 0 ? up.between(x, to)
                              : up.between(-to, -x);
          };
          // Below 1e-290 a double holds too few digits.
          const Long p_mass = exact(p_many, 1), q_mass = exact(q_many, -1);
          EXPECT_LE(std::abs(masses.p - p_mass), masses.error * p_mass + 1e-290L);
          EXPECT_LE(std::abs(masses.q - q_mass), masses.error * q_mass + 1e-290L);
        }
      }
    }
  }
}

TEST(Mixture, RenyiDivergenceIsThatOfAFineRule) {
  using Kind = Mechanism::Kind;
  struct Case {
    uint32_t k;
    double q, sigma, order;
  };
  for (const Case& c : {Case{3, 0.01, 0.7, 2},
                        {100, 0.01, 10, 8},
                        {100, 1e-5, 40, 3.7},
                        {60, 0.3, 4, 1.3},
                        {400, 0.005, 25, 8},
                        {20, 0.05, 1, 6}}) {
    const Plain up{c.sigma, 0, binomial_masses(c.k, c.q)};
    for (bool remove : {true, false}) {
      Long sum = 0;
      const Long s = c.sigma, step = std::min(s, s * s) / 11;
      const double low = remove ? -14 * c.sigma : -14 * c.sigma - c.k * c.order;
      const double high = remove ? c.order * c.k + 14 * c.sigma : 14 * c.sigma;
      for (double x = low; x < high; x += static_cast<double>(step)) {
        const Long ratio = up.ratio(remove ? x : -x).log, a = c.order, z = x / s;
        const Long loss = remove ? ratio : -ratio;
        const Long log_q = -z * z / 2 + (remove ? 0 : ratio);
        if (log_q + std::max(0.0L, a * loss) < -11000) continue;
        // g(r) = r^a - 1 - a (r - 1), by its series where that is near zero.
        const Long t = std::expm1(loss);
        const Long series = a * (a - 1) / 2 * t * t *
                            (1 + (a - 2) / 3 * t * (1 + (a - 3) / 4 * t * (1 + (a - 4) / 5 * t)));
        sum += std::abs(a * t) < 1e-4L ? std::exp(log_q) * series
                                       : std::exp(log_q + a * loss) - std::exp(log_q) * (1 + a * t);
      }
      const Long exact = std::log1p(sum * step / s * 0.398942280401432677939946L) / (c.order - 1);
      const auto pair =
          dominating_pair({Kind::kSampledUser, c.q, c.sigma, 1, c.k}, Adjacency::kAddRemove,
                          remove ? Direction::kRemove : Direction::kAdd);
      EXPECT_NEAR(renyi_divergence(pair, c.order) / static_cast<double>(exact), 1, 1e-10)
          << c.k << " " << remove;
    }
  }
}

// Cells of a grid: wide ones around the centre, and narrow ones far out, whose ends are rounded by
// more than they are apart from each other, relatively.
TEST(Quadrature, NormalMassesAreRightToWhatTheySay) {
  Samples samples;
  for (int i = 0; i < 20'000; ++i) {
    const double sigma = samples.spread(0.1, 100), from = samples.uniform(-20, 20) * sigma,
                 to = from + samples.spread(1e-9, 4) * sigma;
    const Long exact = Plain::normal(static_cast<Long>(from) / sigma, static_cast<Long>(to) / sigma,
                                     (static_cast<Long>(to) - from) / sigma);
    const double found = normal_between(from / sigma, to / sigma, (to - from) / sigma);
    const double z = std::max({0.0, from / sigma, -to / sigma});
    EXPECT_LE(std::abs(found / exact - 1), 8e-15 + 5e-16 * z * z)
        << from / sigma << " " << to / sigma;
  }
}

}  // namespace
}  // namespace souk::policy
