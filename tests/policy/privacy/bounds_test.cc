#include "policy/privacy/bounds.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "policy/privacy/pair.h"
#include "policy/privacy/quadrature.h"
#include "policy/privacy/renyi.h"
#include "policy/privacy/work.h"
#include "tests/policy/privacy/contour_oracle.h"
#include "tests/policy/privacy/tables.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove;

std::vector<Mechanism> list(const std::string& text) {
  return parse_mechanisms(text)->all;
}
Bounds epsilon(const std::string& text, double delta, Adjacency adjacency = kAddRemove) {
  return epsilon_bounds(list(text), adjacency, delta)->worst();
}
Bounds delta(const std::string& text, double at, Adjacency adjacency = kAddRemove) {
  return delta_bounds(list(text), adjacency, at)->worst();
}

// delta of the Gaussian mechanism of mean mu (Balle and Wang 2018, Theorem 8).
double gaussian_delta(double mu, double at) {
  auto below = [](double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); };
  return below(mu / 2 - at / mu) - std::exp(at) * below(-mu / 2 - at / mu);
}

// Exact values by contour integration in two other programs, about 11 digits.
struct Exact {
  const char* events;
  Adjacency adjacency;
  double delta, epsilon;
};
const Exact kExact[] = {
    {"psg:q=0.01,sigma=4,T=10000", kAddRemove, 1e-5, 0.9468668007643},
    {"psg:q=0.001,sigma=0.8,T=20000", kAddRemove, 1e-6, 1.285922712804},
    {"psg:q=0.0001,sigma=0.6,T=100000", kAddRemove, 1e-8, 1.953563431292},
    {"psg:q=0.02,sigma=1,T=1", kAddRemove, 1e-6, 0.7205756589631},
    {"psg:q=0.3,sigma=30,T=2000", kAddRemove, 1e-9, 2.587239165944},
    {"psg:q=0.004,sigma=0.8,T=5000;psg:q=0.05,sigma=3,T=600;psg:q=0.001,sigma=0.6,T=10000",
     kAddRemove, 1e-6, 4.315398624329},
    {"lap:b=10,T=10;gauss:sigma=5,T=4", kAddRemove, 1e-6, 2.234777228852},
    {"psg:q=0.01,sigma=1.1,T=3000;lap:b=4,T=3", kAddRemove, 1e-6, 3.508216517402},
    {"psg:q=0.01,sigma=1.1,T=2000", Adjacency::kReplaceOne, 1e-5, 3.655921690033},
    {"psgu:q=0.01,sigma=2,T=2000,k=4", kAddRemove, 1e-5, 4.253196773706},
    {"psg:q=0.01,sigma=1.2,T=4000;pure:eps=0.25,T=2", kAddRemove, 1e-6, 3.38544609267},
};

TEST(Bounds, HoldTheExactEpsilonBetweenThemWithinAThousandth) {
  for (const auto& row : kExact) {
    auto bounds = epsilon(row.events, row.delta, row.adjacency);
    EXPECT_LE(bounds.lower, row.epsilon * (1 + 1e-10)) << row.events;
    EXPECT_GE(bounds.upper, row.epsilon * (1 - 1e-10)) << row.events;
    EXPECT_GE(bounds.lower, row.epsilon * 0.999) << row.events;
    EXPECT_LE(bounds.upper, row.epsilon * 1.001) << row.events;
  }
}

TEST(Bounds, HoldTheContourIntegralBetweenThem) {
  struct Case {
    const char* events;
    Adjacency adjacency;
    double epsilon;
  };
  for (auto [events, adjacency, at] :
       {Case{"psg:q=0.05,sigma=1.3,T=40", kAddRemove, 0.8},
        Case{"psg:q=0.05,sigma=1.3,T=40", Adjacency::kReplaceOne, 0.8},
        Case{"gauss:sigma=6,T=3;lap:b=5,T=2", kAddRemove, 0.4},
        Case{"lap:b=3,T=8;pure:eps=0.2,T=3", kAddRemove, 1.2},
        Case{"psgu:q=0.02,sigma=3,T=50,k=3", kAddRemove, 0.6}}) {
    double exact = oracle::delta(list(events), adjacency, at);
    auto bounds = delta(events, at, adjacency);
    EXPECT_LE(bounds.lower, exact * (1 + 1e-6)) << events << " " << at;
    EXPECT_GE(bounds.upper, exact * (1 - 1e-6)) << events << " " << at;
    EXPECT_LE(bounds.upper, exact * 1.02) << events << " " << at;
    EXPECT_GE(bounds.lower, exact * 0.95) << events << " " << at;
  }
}

TEST(Bounds, GaussiansAreExactAtEveryDelta) {
  for (double d : {1e-3, 1e-6, 1e-12, 1e-30, 1e-100}) {
    auto bounds = epsilon("gauss:sigma=10,T=60;psg:q=1,sigma=10,T=40", d);
    EXPECT_LE(gaussian_delta(1, bounds.upper), d);
    EXPECT_NEAR(bounds.lower / bounds.upper, 1, 1e-9);
  }
  EXPECT_NEAR(delta("gauss:sigma=2,T=1", 0).upper, std::erf(0.25 / std::sqrt(2.0)), 1e-12);
  // Balle and Wang 2018, Theorem 8, to 50 digits: means far apart, on either side of zero.
  const auto far =
      delta("psg:q=1,sigma=4.178819165744725,T=38", 25.03330612567326, Adjacency::kReplaceOne);
  EXPECT_LE(far.lower, 3.45377409722486e-13);
  EXPECT_GE(far.upper, 3.45377409722486e-13);
  EXPECT_LT(far.upper, far.lower * (1 + 1e-11));
}

TEST(Bounds, StaySoundWhereATransformWithoutTiltHasOnlyNoise) {
  // A hundred Gaussians hidden from the closed form by one that is hardly sampled less.
  for (double d : {1e-8, 1e-12, 1e-14}) {
    auto bounds = epsilon("psg:q=0.999999999,sigma=40,T=100", d);
    EXPECT_LE(gaussian_delta(0.25, bounds.upper), d * (1 + 1e-6));
    EXPECT_GE(gaussian_delta(0.25, bounds.lower), d * (1 - 1e-6));
    EXPECT_LE(bounds.upper / bounds.lower, 1.001);
  }
}

TEST(Bounds, HardlyAnyNoiseIsNeverCheap) {
  // Who is drawn is seen: a run in which that is likelier than delta costs at least the loss of one
  // such step, 1 / 2 sigma^2 less some deviations and log 1/q; more steps cost more.
  for (double sigma : {0.05, 0.02, 0.01}) {
    for (double q : {1e-9, 1e-4}) {
      double before = 0;
      for (double steps : {1.0, 10.0, 1000.0}) {
        const Mechanism run{Mechanism::Kind::kSampledGaussian, q, sigma,
                            static_cast<uint64_t>(steps)};
        for (auto adjacency : {kAddRemove, Adjacency::kReplaceOne}) {
          auto bounds = epsilon_bounds({&run, 1}, adjacency, 1e-5);
          ASSERT_TRUE(bounds);
          EXPECT_LE(bounds->worst().lower, bounds->worst().upper);
          if (steps * q < 1.2e-5) continue;
          const double loud = 0.5 / (sigma * sigma) - 5 / sigma + std::log(q);
          EXPECT_GE(bounds->worst().upper, loud) << sigma << " " << q << " " << steps;
        }
        const double now = epsilon_bounds({&run, 1}, kAddRemove, 1e-5)->worst().upper;
        EXPECT_GE(now, before * (1 - 1e-3)) << sigma << " " << q << " " << steps;
        before = now;
      }
    }
  }
}

TEST(Bounds, LieAboveTheWindowWhereItsErrorsAloneAreMoreThanDelta) {
  // On the second, finer grid the window ends at 11866, below the exact epsilon.
  auto list = parse_mechanisms("lap:b=1e-4,T=1;psg:q=0.0006251383803219362,sigma=0.105,T=650")->all;
  auto bounds = epsilon_bounds(list, kAddRemove, 1e-100)->worst();
  EXPECT_LE(bounds.lower, 12442.068);
  EXPECT_GE(bounds.upper, 12442.067);  // the contour integral
  EXPECT_LE(bounds.upper, 12460);
}

TEST(Bounds, OfDeltaAreTightWhereTheChernoffBoundIsNot) {
  // A usual bulk and rare steps of about the same weight: errors are kept small beside delta, not
  // beside its Chernoff bound.
  auto list = parse_mechanisms(
                  "psgu:q=0.0001547,sigma=1.113,T=19,k=2;psgu:q=0.005928,sigma=1.794,T=3,k=2;"
                  "psg:q=0.003199,sigma=3.82,T=3")
                  ->all;
  const double epsilon = 0.16774492476548164, exact = 6.73506436e-9;  // by two contours
  auto bounds = delta_bounds(list, kAddRemove, epsilon)->worst();
  EXPECT_GE(bounds.upper, exact);
  EXPECT_LE(bounds.upper, 1.02 * exact);
  EXPECT_LE(bounds.lower, exact);
  EXPECT_GE(bounds.lower, 0.98 * exact);
}

// By contour integration: 1.48828e-29 and 2.07017e-52.
TEST(Bounds, OfDeltaAreTightFarBelowWhatATransformRounds) {
  auto small = delta("psg:q=0.004,sigma=2.755,T=1910", 0.744);
  EXPECT_LE(small.lower, 1.4883e-29);
  EXPECT_GE(small.upper, 1.4882e-29);
  EXPECT_LE(small.upper, 1.02 * 1.48828e-29);
  auto smaller = delta("psg:q=0.01,sigma=1,T=10000", 25);
  EXPECT_LE(smaller.lower, 2.0702e-52);
  EXPECT_GE(smaller.upper, 2.0701e-52);
  EXPECT_LE(smaller.upper, 1.02 * 2.07017e-52);
}

TEST(Bounds, OfPureMechanismsThatNoGridHoldsAreNotZero) {
  for (const char* events :
       {"lap:b=1e-6,T=3", "pure:eps=1e6,T=2", "pure:eps=1e5,T=2;lap:b=1e-3,T=9",
        "pure:eps=50,T=1;pure:eps=0.001,T=1"}) {
    auto list = parse_mechanisms(events)->all;
    double most = 0;
    for (const auto& m : list)
      most += static_cast<double>(m.steps) *
              (m.kind == Mechanism::Kind::kLaplace ? 1 / m.scale : m.scale);
    auto bounds = epsilon_bounds(list, kAddRemove, 1e-5)->worst();
    EXPECT_LE(bounds.upper, most * (1 + 1e-11)) << events;
    EXPECT_LE(bounds.lower, bounds.upper) << events;
    EXPECT_GT(bounds.lower, most * (1 - 1e-4)) << events;
    auto delta = delta_bounds(list, kAddRemove, 0.5 * most)->worst();
    EXPECT_GT(delta.lower, 0.1) << events;
  }
}

TEST(Bounds, OfDrawsThatAreSeenAreNearTheirCount) {
  // Each draw costs about 1 / 2 sigma^2: at delta = 1e-5, as many as Bin(1000, 0.001) exceeds with
  // that chance, which are 7 (8 with a chance of 1e-6).
  for (double sigma : {1e-4, 1e-5, 1e-6, 1e-7}) {
    Mechanism run{Mechanism::Kind::kSampledGaussian, 1e-3, sigma, 1000};
    const double draw = 0.5 / (sigma * sigma);
    for (auto adjacency : {kAddRemove, Adjacency::kReplaceOne}) {
      auto bounds = epsilon_bounds(std::span(&run, 1), adjacency, 1e-5)->worst();
      const double apart = adjacency == kAddRemove ? 1 : 4;  // replaced: both means are seen
      EXPECT_GE(bounds.upper, 7 * draw * 0.99) << sigma;
      EXPECT_LE(bounds.upper, 11 * apart * draw) << sigma;
      EXPECT_LE(bounds.lower, 8 * apart * draw) << sigma;
      EXPECT_GE(bounds.lower, 6 * draw * 0.99) << sigma;
    }
    // Most who are asked are never drawn.
    Mechanism rare{Mechanism::Kind::kSampledGaussian, 1e-9, sigma, 1000};
    EXPECT_LE(epsilon_bounds(std::span(&rare, 1), kAddRemove, 1e-5)->worst().upper, 1e-2);
    auto delta = delta_bounds(std::span(&rare, 1), kAddRemove, 10)->worst();
    EXPECT_LE(delta.lower, 1e-6);
    EXPECT_GE(delta.upper, 1e-6 * (1 - 1e-6));
    EXPECT_GE(delta.lower, 0.99e-6);
    EXPECT_LE(delta.upper, 1.01e-6);
  }
}

TEST(Bounds, OfPureMechanismsAreTheClosedForm) {
  // Three releases of randomised response: four outcomes.
  double e = 0.1, p = 1 / (1 + std::exp(-e)), at = 0.2;
  double exact = p * p * p * (1 - std::exp(at - 3 * e));
  auto bounds = delta("pure:eps=0.1,T=3", at);
  EXPECT_LE(bounds.lower, exact);
  EXPECT_GE(bounds.upper, exact);
  EXPECT_NEAR(bounds.upper / exact, 1, 1e-3);
  EXPECT_EQ(delta("pure:eps=0.1,T=3", 0.3000001).upper, 0);
  EXPECT_LE(epsilon("pure:eps=0.1,T=3", 1e-12).upper, 0.3 * (1 + 1e-12));
  EXPECT_EQ(epsilon("rr:eps=0.1,T=3", 1e-5).upper, epsilon("pure:eps=0.1,T=3", 1e-5).upper);
  // One Laplace release: 1 - e^{(eps - 1/b) / 2}.
  EXPECT_NEAR(delta("lap:b=2,T=1", 0.25).upper, -std::expm1(0.5 * (0.25 - 0.5)), 1e-12);
}

TEST(Bounds, NothingSpentIsZero) {
  for (const char* events :
       {"psg:q=0,sigma=1,T=100", "psg:q=0.1,sigma=1,T=0", "pure:eps=0,T=5", "gauss:sigma=1,T=0"}) {
    EXPECT_EQ(epsilon(events, 1e-5).upper, 0) << events;
    EXPECT_EQ(delta(events, 0).upper, 0) << events;
  }
}

TEST(Bounds, UsersAndTruncatedBatchesMeetTheirLimits) {
  auto plain = epsilon("psg:q=0.01,sigma=1.2,T=1000", 1e-5);
  EXPECT_EQ(epsilon("psgu:q=0.01,sigma=1.2,T=1000,k=1", 1e-5).upper, plain.upper);
  // A batch that is never cut, and one that nearly always is.
  EXPECT_EQ(epsilon("tpsg:N=10000,q=0.01,B=10000,sigma=1.2,T=1000", 1e-5).upper, plain.upper);
  EXPECT_NEAR(epsilon("tpsg:N=10000,q=0.01,B=300,sigma=1.2,T=1000", 1e-5).upper / plain.upper, 1,
              2e-3);
  auto cut = epsilon("tpsg:N=10000,q=0.01,B=90,sigma=1.2,T=1000", 1e-5);
  EXPECT_GT(cut.lower, plain.upper);
  // Always cut: a record replaces another, at the rate at which it is kept.
  auto replaced = epsilon("psg:q=0.005,sigma=0.6,T=1000", 1e-5, Adjacency::kReplaceOne);
  EXPECT_NEAR(epsilon("tpsg:N=10000,q=0.01,B=50,sigma=1.2,T=1000", 1e-5).upper / replaced.upper, 1,
              5e-3);
}

TEST(Bounds, AreOrderedAndMonotone) {
  std::mt19937_64 random(20260704);
  auto uniform = [&](double a, double b) {
    return a + (b - a) * std::generate_canonical<double, 53>(random);
  };
  for (int i = 0; i < 8; ++i) {
    Mechanism run;
    run.q = std::exp(uniform(std::log(1e-4), 0));
    run.scale = std::exp(uniform(std::log(0.4), std::log(30.0)));
    run.steps = static_cast<uint64_t>(std::exp(uniform(0, std::log(3e3))));
    double d = std::exp(uniform(std::log(1e-12), std::log(1e-3)));
    auto at = [&](const Mechanism& m, double dd) {
      return epsilon_bounds({&m, 1}, kAddRemove, dd)->worst();
    };
    auto base = at(run, d);
    std::string what =
        std::to_string(run.q) + " " + std::to_string(run.scale) + " " + std::to_string(run.steps);
    EXPECT_LE(base.lower, base.upper) << what;
    EXPECT_LE(base.upper - base.lower, 1e-3 * base.upper + 1e-4) << what;
    double renyi = *epsilon_by_renyi({&run, 1}, kAddRemove, d);
    EXPECT_LE(base.lower, renyi * (1 + 1e-9)) << what;
    // What is worse is never certified to be better: its upper bound is above the lower one here.
    Mechanism more = run, denser = run, noisier = run;
    more.steps += 1 + run.steps / 3;
    denser.q = std::min(1.0, run.q * 1.2);
    noisier.scale *= 1.2;
    EXPECT_GE(at(more, d).upper, base.lower) << what;
    EXPECT_GE(at(denser, d).upper, base.lower) << what;
    EXPECT_LE(at(noisier, d).lower, base.upper) << what;
    EXPECT_GE(at(run, d / 10).upper, base.lower) << what;
    if (i % 4 == 0 && base.upper > 0.01) {
      EXPECT_LE(delta_bounds({&run, 1}, kAddRemove, base.upper)->worst().lower, d) << what;
      EXPECT_GE(delta_bounds({&run, 1}, kAddRemove, base.lower)->worst().upper, d * (1 - 1e-9))
          << what;
    }
  }
}

TEST(Bounds, TheOrderOfAListDoesNotMatterAndHalvesMakeAWhole) {
  auto one = epsilon("psg:q=0.01,sigma=1.1,T=2000;lap:b=9,T=2", 1e-6);
  auto other = epsilon(
      "lap:b=9,T=1;psg:q=0.01,sigma=1.1,T=700;lap:b=9,T=1;psg:q=0.01,sigma=1.1,T=1300", 1e-6);
  EXPECT_NEAR(one.upper, other.upper, 2e-3 * one.upper);
  EXPECT_GE(one.upper, other.lower);
}

TEST(Bounds, AnswerAtTheEdgesOfWhatIsAccepted) {
  // Once beyond the order of a clamp, or beyond what points can be counted by.
  for (const char* text :
       {"psg:q=0.01,sigma=0.05,T=100", "psg:q=1e-20,sigma=0.3,T=100", "psg:q=1e-100,sigma=1,T=100",
        "psg:q=0.5,sigma=7.2,T=1;psg:q=0.003037288082221923,sigma=0.8128211379889689,T=1",
        "gauss:sigma=0.01,T=2"}) {
    for (Adjacency adjacency : {kAddRemove, Adjacency::kReplaceOne}) {
      Bounds found = epsilon(text, 1e-6, adjacency);
      EXPECT_LE(found.lower, found.upper) << text;
      EXPECT_LE(found.upper, found.lower * 1.01 + 1e-3) << text;
    }
  }
  EXPECT_EQ(epsilon("psg:q=1e-20,sigma=0.3,T=100", 1e-6).upper, 0);
}

TEST(Bounds, RefuseNumbersThatMeanNothing) {
  auto refused = [](Mechanism m) { return !epsilon_bounds({&m, 1}, kAddRemove, 1e-5); };
  using Kind = Mechanism::Kind;
  EXPECT_TRUE(refused({Kind::kSampledGaussian, -0.1, 1, 1}));
  EXPECT_TRUE(refused({Kind::kSampledGaussian, 1.1, 1, 1}));
  EXPECT_TRUE(refused({Kind::kSampledGaussian, std::nan(""), 1, 1}));
  EXPECT_TRUE(refused({Kind::kSampledGaussian, 1e-300, 1, 1}));
  EXPECT_TRUE(refused({Kind::kSampledGaussian, 0.1, 0, 1}));
  EXPECT_TRUE(refused({Kind::kSampledGaussian, 0.1, HUGE_VAL, 1}));
  EXPECT_TRUE(refused({Kind::kLaplace, 1, -1, 1}));
  EXPECT_TRUE(refused({Kind::kTruncatedGaussian, 0.1, 1, 1, 1, 10, 11}));
  Mechanism good;
  for (double d : {0.0, 1.0, -1.0, std::nan("")})
    EXPECT_FALSE(epsilon_bounds({&good, 1}, kAddRemove, d));
  for (double e : {-1.0, HUGE_VAL, std::nan("")})
    EXPECT_FALSE(delta_bounds({&good, 1}, kAddRemove, e));
}

TEST(Noise, IsTheLeastThatKeepsThePromise) {
  struct Case {
    const char* events;
    double epsilon, delta, exact;
  };
  for (auto c : {Case{"psg:q=0.01,sigma=?,T=10000", 1, 1e-5, 3.812816830701},
                 Case{"psg:q=0.017066666666666667,sigma=?,T=2344", 3, 1e-5, 1.364991624684},
                 Case{"psg:q=0.001,sigma=?,T=50000", 8, 1e-6, 0.5369073607621}}) {
    auto parsed = *parse_mechanisms(c.events);
    double sigma = *least_noise(parsed.all, *parsed.unknown, kAddRemove, c.epsilon, c.delta);
    EXPECT_GE(sigma, c.exact * (1 - 1e-9));
    EXPECT_LE(sigma, c.exact * 1.0008);
  }
  // Beside other spending, and where that is already too much.
  auto parsed = *parse_mechanisms("lap:b=10,T=1;psg:q=0.01,sigma=?,T=1000");
  double sigma = *least_noise(parsed.all, *parsed.unknown, kAddRemove, 1, 1e-5);
  parsed.all[1].scale = sigma;
  EXPECT_LE(epsilon_bounds(parsed.all, kAddRemove, 1e-5)->worst().lower, 1);
  parsed.all[0].scale = 0.5;
  EXPECT_EQ(least_noise(parsed.all, 1, kAddRemove, 1, 1e-5).error().code(), Code::kRefused);
}

// Where rare losses decide, epsilon falls much faster than noise grows. Exact: contour integrals,
// to five digits.
TEST(Noise, IsTheLeastWhereRareLossesDecide) {
  struct Case {
    const char* events;
    Adjacency adjacency;
    double epsilon, delta, exact;
  };
  for (auto c : {
           Case{"psg:q=1e-6,sigma=?,T=1000000", kAddRemove, 1, 1e-9, 0.47542},
           Case{"psg:q=1.16e-6,sigma=?,T=100000", Adjacency::kReplaceOne, 0.416, 3.54e-8, 0.45076},
#ifndef SOUK_SANITIZED  // each takes half a minute
           Case{"psg:q=1e-5,sigma=?,T=30000;psg:q=0.001,sigma=2,T=3000", kAddRemove, 1, 1e-9,
                0.53818},
           Case{"psg:q=1e-5,sigma=?,T=74000;psg:q=2e-5,sigma=0.8,T=1", kAddRemove, 0.4, 1e-12,
                0.69101},
#endif
       }) {
    auto parsed = *parse_mechanisms(c.events);
    auto sigma = least_noise(parsed.all, *parsed.unknown, c.adjacency, c.epsilon, c.delta);
    ASSERT_TRUE(sigma) << c.events;
    EXPECT_GE(*sigma, c.exact * (1 - 1e-5)) << c.events;
    EXPECT_LE(*sigma, c.exact * 1.001) << c.events;
  }
  // The rest alone costs 9.5.
  auto parsed = *parse_mechanisms("psg:q=3.66e-7,sigma=?,T=4790;psg:q=5.37e-6,sigma=0.35,T=28000");
  EXPECT_EQ(least_noise(parsed.all, 0, kAddRemove, 0.308, 1.91e-11).error().code(), Code::kRefused);
}

TEST(Noise, IsTheLeastForAMillionStepsToo) {
  for (const char* events : {"psg:q=0.01,sigma=?,T=1000000", "psg:q=0.1,sigma=?,T=1000000",
                             "psg:q=0.00001,sigma=?,T=1000000",
                             "psg:q=0.05,sigma=?,T=20000;psg:q=0.01,sigma=5,T=40000"}) {
    auto parsed = *parse_mechanisms(events);
    auto sigma = least_noise(parsed.all, *parsed.unknown, kAddRemove, 3, 1e-6);
    ASSERT_TRUE(sigma) << events;
    parsed.all[*parsed.unknown].scale = *sigma;
    EXPECT_LE(epsilon_bounds(parsed.all, kAddRemove, 1e-6)->worst().upper, 3 * (1 + 1e-3));
    EXPECT_LE(epsilon_bounds(parsed.all, kAddRemove, 1e-6)->worst().lower, 3) << events;
    parsed.all[*parsed.unknown].scale = *sigma * (1 - 1e-3);
    EXPECT_GT(epsilon_bounds(parsed.all, kAddRemove, 1e-6)->worst().upper, 3) << events;
  }
}

// The tables under SOUK_SHARED.

TEST(Tables, EveryWholeRunLiesInItsBand) {
  auto rows = tables::read("reference.csv");
  if (rows.empty()) GTEST_SKIP() << "no accounting tables under SOUK_SHARED";
  for (auto& row : rows) {
    auto parsed = *parse_mechanisms(row["events"]);
    auto adjacency = row["adjacency"] == "add_remove" ? kAddRemove : Adjacency::kReplaceOne;
    double low = std::stod(row["accept_lo"]), high = std::stod(row["accept_hi"]),
           exact = std::stod(row["exact"]);
    double upper = 0, lower = 0;
    if (row["query"] == "sigma") {
      upper = *least_noise(parsed.all, *parsed.unknown, adjacency, std::stod(row["eps_target"]),
                           std::stod(row["delta"]));
    } else {
      auto bounds = row["query"] == "eps"
                        ? *epsilon_bounds(parsed.all, adjacency, std::stod(row["delta"]))
                        : *delta_bounds(parsed.all, adjacency, std::stod(row["eps_target"]));
      upper = bounds.worst().upper;
      lower = bounds.worst().lower;
    }
    EXPECT_GE(upper, low) << row["id"];
    EXPECT_LE(upper, high) << row["id"];
    EXPECT_LE(lower, exact * (1 + 2e-9)) << row["id"];
  }
}

// Every piece out to where P has less than 1e-300 of mass, added up.
double whole_hockey_stick(const LossPair& pair, double at) {
  double delta = 0;
  for (const auto& [weight, part] : pair.gaussians) {
    if (at >= part.highest_loss()) continue;
    const double from = std::max(part.where_loss_is(at), part.lowest_outcome()),
                 high = part.highest_outcome();
    double sum = 0;
    for (double x = part.next_seen(from); x < high; x = part.next_seen(x)) {
      WorkBudget::pay(8 * 5 * part.terms());
      const double steep = 1 + part.steepness(x, x + 0.5 * part.sigma(), at);
      double next = x + std::min(0.5, 2 / steep) * part.sigma();
      if (!(next > x)) next = std::nextafter(x, std::numeric_limits<double>::infinity());
      sum += integral(kRule8, x, std::min(high, next), [&, &gaussian = part](double place) {
        return -std::expm1(std::min(0.0, at - gaussian.loss(place))) * gaussian.p_density(place);
      });
      x = next;
    }
    delta += weight * sum;
  }
  return std::min(1.0, delta);
}

// A run's budget may end in any of them: what is left of it is the same too.
TEST(HockeyStick, EndsWhereNothingMoreCountsAndIsTheWholeSumToTheBit) {
  for (double q : {1e-6, 0.01, 0.125, 0.999, 1.0}) {
    for (double sigma : {0.01, 0.3, 2.0, 50.0}) {
      for (uint32_t rows : {1u, 2u, 6u}) {
        const auto kind =
            rows > 1 ? Mechanism::Kind::kSampledUser : Mechanism::Kind::kSampledGaussian;
        const Mechanism step{kind, q, sigma, 1, rows};
        for (auto adjacency : {kAddRemove, Adjacency::kReplaceOne}) {
          for (auto direction : {Direction::kRemove, Direction::kAdd}) {
            const LossPair pair = dominating_pair(step, adjacency, direction);
            for (double at : {0.0, 1e-3, 1.0, 12.0, 400.0}) {
              WorkBudget ours(1u << 30), whole(1u << 30);
              double short_sum = -1, long_sum = -2;
              ASSERT_TRUE(ours.run([&] { short_sum = hockey_stick(pair, at); }));
              ASSERT_TRUE(whole.run([&] { long_sum = whole_hockey_stick(pair, at); }));
              EXPECT_EQ(short_sum, long_sum) << q << " " << sigma << " " << rows << " " << at;
              EXPECT_EQ(ours.left(), whole.left()) << q << " " << sigma << " " << rows << " " << at;
            }
          }
        }
      }
    }
  }
}

TEST(Tables, EveryStepIsRightToNineDigits) {
  for (auto& row : tables::read("onestep.csv")) {
    Mechanism m{Mechanism::Kind::kSampledGaussian, std::stod(row["q"]), std::stod(row["sigma"]), 1};
    auto direction = row["direction"] == "remove" ? Direction::kRemove : Direction::kAdd;
    double exact = std::stod(row["delta"]);
    EXPECT_NEAR(hockey_stick(dominating_pair(m, kAddRemove, direction), std::stod(row["eps"])),
                exact, 1e-10 * exact);
  }
}

}  // namespace
}  // namespace souk::policy
