// The normal limit of very many tilted losses, alone and beside a few loud kinds.
#include "policy/privacy/saddle.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "policy/privacy/closed_form.h"
#include "policy/privacy/normal_limit.h"
#include "policy/privacy/quadrature.h"
#include "tests/policy/privacy/contour_oracle.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kOracle = 1e-5;  // what the contour integral is right to, here

std::vector<Mechanism> list_of(const char* text) {
  return normalised(parse_mechanisms(text)->all);
}

// By a plain sum over outcomes up to `cut`: the moment, mean, variance, and the third absolute
// moment about the mean.
struct Plain {
  double log_moment, mean, variance, third;
};
Plain plain_moments(const GaussianPart& part, double c, double cut) {
  struct Place {
    double loss, mass;
  };
  std::vector<Place> places;
  const double step = 1e-3 * part.sigma() * std::min(1.0, part.sigma());
  for (double x = cut - 0.5 * step; x > -20 * part.sigma(); x -= step) {
    const double loss = part.loss(x);
    places.push_back({loss, part.p_density(x) * std::exp(c * loss) * step});
  }
  auto sum = [&](auto&& of) {
    long double total = 0;
    for (const auto& [loss, mass] : places) total += mass * of(loss);
    return static_cast<double>(total);
  };
  const double all = sum([](double) { return 1.0; });
  const double mean = sum([](double loss) { return loss; }) / all;
  auto about = [&](int power) {
    return sum([&](double loss) { return std::pow(std::abs(loss - mean), power); }) / all;
  };
  return {std::log(all), mean, about(2), about(3)};
}

// Where a part of P's tail of that mass begins.
double place_of_tail(const GaussianPart& part, double mass) {
  double low = -20 * part.sigma(), high = part.highest_outcome();
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (part.between(middle, kInfinity).p > mass ? low : high) = middle;
  }
  return high;
}

TEST(TiltedPair, HasTheMomentsOfAPlainSumAlsoWhereItIsCutOff) {
  for (const char* text :
       {"psg:q=0.01,sigma=0.6,T=1", "psg:q=0.2,sigma=2,T=1", "psgu:q=0.01,sigma=2,T=1,k=7"}) {
    for (const Direction direction : {Direction::kRemove, Direction::kAdd}) {
      const LossPair pair = dominating_pair(list_of(text)[0], kAddRemove, direction);
      const GaussianPart& part = pair.gaussians[0].part;
      for (const double c : {0.3, 3.0, 20.0}) {
        for (const double rare : {0.0, 1e-7, 1e-12}) {
          const auto tilted = TiltedPair(pair, rare).loss(c);
          ASSERT_TRUE(tilted) << text << c;
          EXPECT_LE(tilted->cut_off, rare);
          // Farther out P itself is nothing to a double.
          if (c == 20 && tilted->cut_off == 0) continue;
          const double cut =
              tilted->cut_off > 0 ? place_of_tail(part, tilted->cut_off) : part.highest_outcome();
          const Plain plain = plain_moments(part, c, cut);
          EXPECT_NEAR(tilted->log_moment, plain.log_moment,
                      1e-4 * std::abs(plain.log_moment) + 1e-12)
              << text << " " << c << " " << rare;
          EXPECT_NEAR(tilted->mean, plain.mean, 1e-4 * tilted->size);
          EXPECT_NEAR(tilted->variance, plain.variance, 1e-4 * plain.variance);
          EXPECT_GE(tilted->third, plain.third * (1 - 1e-4));
          EXPECT_LE(tilted->third, 40 * plain.third);
        }
      }
    }
  }
}

TEST(TiltedPair, LeavesOutWhatIsGreaterAndDoesNotCountIt) {
  for (const char* text : {"psg:q=1e-4,sigma=0.6,T=1", "psgu:q=0.001,sigma=2,T=1,k=7"}) {
    const LossPair pair = dominating_pair(list_of(text)[0], kAddRemove, Direction::kRemove);
    const GaussianPart& part = pair.gaussians[0].part;
    for (const double highest : {0.001, 0.02, 0.3}) {
      for (const double c : {0.3, 20.0}) {
        const auto tilted = TiltedPair(pair, 0, highest).loss(c);
        ASSERT_TRUE(tilted) << text << c;
        EXPECT_EQ(tilted->cut_off, 0);
        const Plain plain = plain_moments(part, c, part.where_loss_is(highest));
        EXPECT_NEAR(tilted->log_moment, plain.log_moment, 1e-4 * std::abs(plain.log_moment) + 1e-12)
            << text << " " << c << " " << highest;
        EXPECT_NEAR(tilted->mean, plain.mean, 1e-4 * tilted->size);
        EXPECT_NEAR(tilted->variance, plain.variance, 1e-4 * plain.variance);
        EXPECT_GE(tilted->third, plain.third * (1 - 1e-4));
      }
    }
  }
}

// Both rules, of the whole line and of pieces, see the same where what is cut off is nothing.
TEST(TiltedPair, IsTheSameByBothRules) {
  for (const char* text : {"psg:q=0.001,sigma=0.4,T=1", "psg:q=1e-8,sigma=1,T=1",
                           "psg:q=0.3,sigma=30,T=1", "psgu:q=0.001,sigma=30,T=1,k=90"}) {
    for (const Direction direction : {Direction::kRemove, Direction::kAdd}) {
      const LossPair pair = dominating_pair(list_of(text)[0], kAddRemove, direction);
      for (const double c : {0.01, 0.7, 4.0}) {
        const auto whole = *TiltedPair(pair).loss(c), pieces = *TiltedPair(pair, 1e-300).loss(c);
        EXPECT_NEAR(pieces.log_moment / whole.log_moment, 1, 1e-10) << text << " " << c;
        EXPECT_NEAR(pieces.mean, whole.mean, kTiltedError * whole.size) << text << " " << c;
        EXPECT_NEAR(pieces.variance / whole.variance, 1, 1e-12) << text << " " << c;
      }
    }
  }
}

TEST(TiltedPair, OfAtomsAndBodiesHasTheirMoments) {
  const LossPair pure =
      dominating_pair(list_of("pure:eps=0.3,T=1")[0], kAddRemove, Direction::kAdd);
  const double p = 1 / (1 + std::exp(-0.3)), c = 2.5;
  const auto tilted = *TiltedPair(pure).loss(c);
  const double up = p * std::exp(c * 0.3), down = (1 - p) * std::exp(-c * 0.3);
  EXPECT_NEAR(tilted.log_moment, std::log(up + down), 1e-14);
  EXPECT_NEAR(tilted.mean, 0.3 * (up - down) / (up + down), 1e-14);
  // Laplace: two atoms, and losses between of density e^{(x - edge) / 2} / 4 under P.
  const double edge = 0.8;
  const LossPair laplace =
      dominating_pair(list_of("lap:b=1.25,T=1")[0], kAddRemove, Direction::kAdd);
  const auto body = *TiltedPair(laplace).loss(c);
  long double all = 0.5L * std::exp(c * edge) + 0.5L * std::exp(-(1 + c) * edge), mean = 0;
  mean = edge * (0.5L * std::exp(c * edge) - 0.5L * std::exp(-(1 + c) * edge));
  constexpr int kSteps = 200'000;
  for (int i = 0; i < kSteps; ++i) {
    const long double x = -edge + 2 * edge * (i + 0.5L) / kSteps;
    const long double mass = 2 * edge / kSteps * 0.25L * std::exp(0.5L * (x - edge) + c * x);
    all += mass, mean += mass * x;
  }
  EXPECT_NEAR(body.log_moment, static_cast<double>(std::log(all)), 1e-10);
  EXPECT_NEAR(body.mean, static_cast<double>(mean / all), 1e-9);
}

TEST(Mills, IsTheTailOverTheDensity) {
  for (double z = -3; z < 25; z += 0.13) {
    const double tail = 0.5 * std::erfc(z / std::sqrt(2.0));
    EXPECT_NEAR(mills(z) * normal_density(z) / tail, 1, 1e-12) << z;
  }
}

TEST(NormalLimit, OfVeryManyStepsHoldsTheContourIntegralBetweenItsBounds) {
  for (const char* text :
       {"psg:q=1e-5,sigma=1,T=1000000000", "psg:q=0.001,sigma=4,T=30000000",
        "psgu:q=1e-6,sigma=3,T=1000000000,k=5", "pure:eps=1e-5,T=1000000000",
        "lap:b=30000,T=400000000", "psg:q=1e-4,sigma=2,T=50000000;gauss:sigma=3,T=1",
        "psg:q=1e-5,sigma=0.5,T=10000000"}) {
    const auto list = list_of(text);
    for (const bool remove : {true, false}) {
      const policy::Run run =
          run_of(list, kAddRemove, remove ? Direction::kRemove : Direction::kAdd);
      for (const double delta : {1e-3, 1e-6, 1e-12}) {
        NormalLimit limit(run, run, 1e3, delta);
        const Bounds first = limit.epsilon(std::nullopt);
        const Bounds bounds = first.upper < 1.2 * first.lower ? limit.epsilon(first.upper) : first;
        ASSERT_TRUE(std::isfinite(bounds.upper)) << text;
        EXPECT_LE(oracle::delta(list, kAddRemove, remove, bounds.upper), delta * (1 + kOracle))
            << text << " " << remove << " " << delta;
        if (bounds.lower > 0) {
          EXPECT_GE(oracle::delta(list, kAddRemove, remove, bounds.lower), delta * (1 - kOracle))
              << text << " " << remove << " " << delta;
          const double exact = oracle::delta(list, kAddRemove, remove, bounds.upper);
          const Bounds around = NormalLimit(run, run, 1e3, delta).delta(bounds.upper);
          EXPECT_GE(around.upper, exact * (1 - kOracle)) << text;
          EXPECT_LE(around.lower, exact * (1 + kOracle)) << text;
        }
      }
    }
  }
}

// Beside a Gaussian, whose own loss is normal: nothing of it is cut off, or it would not be.
TEST(NormalLimit, BesideAGaussianHoldsTheContourIntegralBetweenItsBounds) {
  for (const char* text : {"psg:q=1e-4,sigma=2,T=1000000;gauss:sigma=9,T=2",
                           "psg:q=1e-4,sigma=2,T=1000000;gauss:sigma=9,T=2;lap:b=100,T=10",
                           "psg:q=1e-6,sigma=1,T=900000000;gauss:sigma=1,T=1;pure:eps=0.02,T=3"}) {
    const auto list = list_of(text);
    for (const bool remove : {true, false}) {
      const policy::Run run =
          run_of(list, kAddRemove, remove ? Direction::kRemove : Direction::kAdd);
      for (const double epsilon : {0.3, 1.0}) {
        const double exact = oracle::delta(list, kAddRemove, remove, epsilon);
        for (const double about : {1e-3 * exact, exact, std::min(0.5, 1e3 * exact)}) {
          const Bounds bounds = NormalLimit(run, run, 20, about).delta(epsilon);
          EXPECT_GE(bounds.upper, exact * (1 - kOracle)) << text << " " << remove << " " << epsilon;
          EXPECT_LE(bounds.lower, exact * (1 + kOracle)) << text << " " << remove << " " << epsilon;
        }
        const Bounds bounds = NormalLimit(run, run, 20, exact).delta(epsilon);
        EXPECT_LE(bounds.upper, 1.2 * bounds.lower) << text << " " << remove << " " << epsilon;
      }
    }
  }
}

// q^2 T held, what is left as T grows is a Gaussian (Dong, Roth, Su 2019, 1905.02383, Theorem 5):
// of mu = q sqrt(T (e^{1 / sigma^2} - 1)). Counts up to what 2^53 holds are told apart.
TEST(NormalLimit, OfEndlessStepsIsTheGaussianOne) {
  for (const double steps : {1e12, 1e15, 9e15}) {
    for (const double sigma : {0.9, 1.0, 3.0}) {
      const double mu = 0.4, q = mu / std::sqrt(steps * std::expm1(1 / (sigma * sigma)));
      const Mechanism step{Mechanism::Kind::kSampledGaussian, q, sigma,
                           static_cast<uint64_t>(steps)};
      const auto bounds = *epsilon_bounds(std::span(&step, 1), kAddRemove, 1e-6);
      const Bounds exact = gaussian_epsilon(mu, 1e-6);
      const double near = 4 / std::sqrt(std::sqrt(steps)) * std::exp(1.5 / (sigma * sigma));
      EXPECT_NEAR(bounds.remove.upper, exact.upper, near) << steps << " " << sigma;
      EXPECT_NEAR(bounds.add.upper, exact.upper, near) << steps << " " << sigma;
      EXPECT_GE(bounds.worst().lower, 0.999 * bounds.worst().upper) << steps << " " << sigma;
    }
  }
  // Atoms of 10^-8, 10^12 times: of mu = 10^-2.
  const Mechanism pure{Mechanism::Kind::kPure, 1, 1e-8, 1'000'000'000'000};
  const Bounds atoms = epsilon_bounds(std::span(&pure, 1), kAddRemove, 1e-6)->worst();
  EXPECT_NEAR(atoms.upper, gaussian_epsilon(1e-2, 1e-6).upper, 1e-6);
  EXPECT_GE(atoms.lower, 0.9999 * atoms.upper);
}

TEST(NormalLimit, OfManyKindsOfVeryManyStepsIsTight) {
  const Bounds bounds = epsilon_bounds(list_of("psg:q=1e-6,sigma=2,T=20000000000;"
                                               "psg:q=2e-6,sigma=3,T=30000000000;"
                                               "psg:q=3e-7,sigma=1.5,T=40000000000"),
                                       kAddRemove, 1e-6)
                            ->worst();
  EXPECT_LE(bounds.upper, 1.001 * bounds.lower);
  EXPECT_NEAR(bounds.upper, 0.60219, 2e-5);
}

// Quiet kinds in their hundreds, and loud ones that spoil a normal limit: these are composed.
TEST(NormalLimit, BesideLoudKindsHoldsTheContourIntegralBetweenItsBounds) {
  auto list = list_of("psg:q=2.7e-5,sigma=0.5,T=130;psg:q=7e-5,sigma=0.48,T=25;pure:eps=0.05,T=3");
  for (int i = 0; i < 80; ++i) {
    list.push_back({Mechanism::Kind::kSampledGaussian, 1e-5 * (1 + i), 2.0 + 0.1 * i,
                    static_cast<uint64_t>(9000 - 50 * i)});
    list.push_back({Mechanism::Kind::kPure, 1, 1e-4 + 1e-6 * i, static_cast<uint64_t>(50 + i)});
  }
  for (const bool remove : {true, false}) {
    const policy::Run run = run_of(list, kAddRemove, remove ? Direction::kRemove : Direction::kAdd);
    ASSERT_TRUE(run.many());
    const policy::Run few = spokesmen_of(run);
    for (const double delta : {1e-3, 1e-6}) {
      const Bounds bounds = NormalLimit(run, few, 20, delta).epsilon(std::nullopt);
      ASSERT_TRUE(std::isfinite(bounds.upper)) << remove;
      EXPECT_LE(oracle::delta(list, kAddRemove, remove, bounds.upper), delta * (1 + kOracle));
      EXPECT_GE(oracle::delta(list, kAddRemove, remove, bounds.lower), delta * (1 - kOracle));
      EXPECT_LE(bounds.upper, 1.1 * bounds.lower) << remove << " " << delta;
    }
  }
}

// A list's pure mechanisms of next to no epsilon are not its loudest.
TEST(Spokesmen, AreTheLoudest) {
  std::vector<Mechanism> list;
  for (int i = 0; i < 100; ++i) list.push_back({Mechanism::Kind::kPure, 1, 1e-4 + 1e-6 * i, 50});
  list.push_back({Mechanism::Kind::kSampledGaussian, 1e-6, 0.5, 3});
  const policy::Run few = spokesmen_of(run_of(list, kAddRemove, Direction::kRemove));
  EXPECT_TRUE(std::any_of(few.mechanisms.begin(), few.mechanisms.end(), [](const Mechanism& one) {
    return one.kind == Mechanism::Kind::kSampledGaussian;
  }));
}

}  // namespace
}  // namespace souk::policy
