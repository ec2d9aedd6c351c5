// Runs in which rare losses decide: outcomes told apart by their loss, what the rare ones add up
// to, and the bounds of both together.
#include "policy/privacy/thinned.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "policy/privacy/moments.h"

namespace souk::policy {
namespace {

constexpr auto kAddRemove = Adjacency::kAddRemove, kReplaceOne = Adjacency::kReplaceOne;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr auto kComposed = Thinned::Usually::kComposed, kLimits = Thinned::Usually::kLimits;

std::vector<Mechanism> list_of(const char* text) {
  return normalised(parse_mechanisms(text)->all);
}

policy::Run run_of(const char* text, Adjacency adjacency = kAddRemove) {
  return policy::run_of(list_of(text), adjacency, Direction::kRemove);
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(Stretch, HasAllOutcomesInTheUpperSidesAndEachOnceInTheLowerOnes) {
  for (const char* text :
       {"psg:q=1e-5,sigma=0.7,T=1", "psg:q=0.01,sigma=0.5,T=1", "psgu:q=0.001,sigma=2,T=1,k=5",
        "tpsg:N=9000,q=0.01,B=120,sigma=1,T=1"}) {
    for (const Adjacency adjacency : {kAddRemove, kReplaceOne}) {
      const LossPair pair = dominating_pair(list_of(text)[0], adjacency, Direction::kRemove);
      const double cut = 0.07, grid = 0.1 * std::min(pair.spread, cut);
      const StepLoss below = discretise(pair, 1, {grid, 0.02, 50, {.upto = cut}}),
                     above = discretise(pair, 1, {grid, 0.02, 50, {.above = cut}});
      const double upper = sum_of(below.upper.mass) + sum_of(above.upper.mass) + below.infinite +
                           above.infinite,
                   lower = sum_of(below.lower.mass) + sum_of(above.lower.mass);
      EXPECT_GE(upper, 1 - 1e-13) << text;
      EXPECT_LE(upper, 1 + 1e-9) << text;
      EXPECT_GE(upper, lower) << text;
      EXPECT_NEAR(lower, 1, 1e-3) << text;
      EXPECT_EQ(below.infinite, 0) << text;
      for (size_t k = 0; k < above.at.size(); ++k) {
        EXPECT_TRUE(above.upper.mass[k] == 0 || above.upper.loss[k] >= 0.85 * cut) << text;
      }
      // What outcomes above the cut are worth.
      for (const double epsilon : {0.1, 0.5, 2.0}) {
        const double exact = hockey_stick(pair, epsilon);
        double high = above.infinite, low = 0;
        for (size_t k = 0; k < above.at.size(); ++k) {
          high += above.upper.mass[k] * std::max(0.0, -std::expm1(epsilon - above.upper.loss[k]));
          low += above.lower.mass[k] * std::max(0.0, -std::expm1(epsilon - above.lower.loss[k]));
        }
        EXPECT_GE(high, exact * (1 - 1e-11)) << text << " " << epsilon;
        EXPECT_LE(low, exact * (1 + 1e-11)) << text << " " << epsilon;
        EXPECT_LE(high, 1.2 * exact + 1e-200) << text << " " << epsilon;
      }
    }
  }
}

// sum over j of C(count, j) mass^{*j}, term by term.
std::vector<long double> sums_by_terms(const StepLoss& step, const std::vector<double>& mass,
                                       double count, size_t points, int most) {
  std::vector<long double> term(points), out(points);
  term[0] = out[0] = 1;
  for (int j = 1; j <= most; ++j) {
    std::vector<long double> next(points);
    for (size_t k = 0; k < mass.size(); ++k) {
      const auto at = static_cast<size_t>(step.at[k]);
      for (size_t i = 0; i + at < points; ++i) next[i + at] += term[i] * mass[k];
    }
    for (size_t i = 0; i < points; ++i) {
      term[i] = next[i] * (static_cast<long double>(count) - j + 1) / j;
      out[i] += term[i];
    }
  }
  return out;
}

TEST(RareLosses, AreTheSumOfTheirTermsAndNotMoreThanThemBelow) {
  const policy::Run run = run_of("psg:q=1e-4,sigma=0.6,T=3000"), cut = cut_at(run, 0.05, 100);
  ASSERT_TRUE(std::isfinite(cut.cut(0)));
  const double grid = 0.002, highest = 1;
  constexpr size_t kPoints = 900;
  const RareLosses rare(cut, grid, kPoints, highest);
  EXPECT_LT(rare.inflation(), 1e-9);
  // The same step, as it is taken by either side.
  const GaussianPart& part = run.kept[0].gaussians[0].part;
  const Masses rest = part.between(part.where_loss_is(0.05), kInfinity);
  const double above = rest.p, below = rest.q;
  const StepLoss step = discretise(
      run.kept[0], 1, {grid, 4e-3, highest, {.above = 0.05}, (above - below) / (1 - above)});
  std::vector<double> upper = step.upper.mass;
  for (double& mass : upper) mass /= 1 - above;
  const auto high = sums_by_terms(step, upper, 3000, kPoints, 40),
             low = sums_by_terms(step, step.lower.mass, 3000, kPoints, 40);
  ASSERT_EQ(rare.upper().size(), kPoints);
  double missing = 0, all = 0;
  for (size_t k = 0; k < kPoints; ++k) {
    const auto h = static_cast<double>(high[k]), l = static_cast<double>(low[k]);
    EXPECT_NEAR(rare.upper()[k], h, 1e-6 * h) << k;
    EXPECT_LE(rare.lower()[k], l * (1 + 1e-12)) << k;
    missing += l - rare.lower()[k], all += l;
  }
  EXPECT_LT(missing, 1e-5 * (all - 1));
  // Sums that leave the grid, and single losses that do: as infinite.
  EXPECT_GT(rare.infinite(), 3000 * step.infinite);
  EXPECT_LT(rare.infinite(), 3000 * step.infinite + 1e-9);
}

TEST(RareLosses, OfTwoKindsAreTheConvolutionOfBoth) {
  const policy::Run two = cut_at(run_of("psg:q=1e-4,sigma=0.6,T=3000;psg:q=3e-5,sigma=0.5,T=900"),
                                 0.05, 100),
                    one = cut_at(run_of("psg:q=1e-4,sigma=0.6,T=3000"), 0.05, 100),
                    other = cut_at(run_of("psg:q=3e-5,sigma=0.5,T=900"), 0.05, 100);
  const RareLosses both(two, 0.002, 600, 1), first(one, 0.002, 600, 1),
      second(other, 0.002, 600, 1);
  for (size_t k = 0; k < 600; k += 7) {
    double sum = 0;
    for (size_t i = 0; i <= k; ++i) sum += first.upper()[i] * second.upper()[k - i];
    EXPECT_NEAR(both.upper()[k], sum, 1e-12 * sum) << k;
  }
  EXPECT_GE(both.log_left(), -both.most_rare() * 1e-3);
}

// Losses below the first place of a grid count for nothing in the lower side, which once raised
// them.
TEST(RareLosses, AreNotRaisedBelow) {
  const policy::Run cut = cut_at(run_of("psg:q=1e-6,sigma=0.6,T=3000"), 0.001, 100);
  ASSERT_TRUE(std::isfinite(cut.cut(0)));
  const RareLosses rare(cut, 0.01, 200, 1);
  const StepLoss step = discretise(cut.kept[0], 1, {0.01, 4e-3, 1, {.above = 0.001}});
  double most = 0, found = 0;  // the mean of one loss, and of those of a run
  for (size_t k = 0; k < step.at.size(); ++k)
    most += 3000 * step.lower.mass[k] * std::max(0.0, step.lower.loss[k]);
  for (size_t k = 0; k < rare.lower().size(); ++k)
    found += rare.lower()[k] * 0.01 * static_cast<double>(k);
  EXPECT_LE(found, most * sum_of(rare.lower()) * (1 + 1e-9));
}

TEST(Cut, IsMadeWhereLossesAreRareAndNowhereElse) {
  // Too many of them, atoms, too few steps, none so great.
  for (const char* text : {"psg:q=0.1,sigma=1,T=1000", "lap:b=2,T=1000", "pure:eps=0.4,T=1000",
                           "psg:q=1e-5,sigma=0.7,T=99", "gauss:sigma=500,T=1"})
    EXPECT_EQ(cut_at(run_of(text), 0.05, 100).cut(0), kInfinity) << text;
  const policy::Run run = run_of("psg:q=1e-5,sigma=0.5,T=100"), cut = cut_at(run, 0.05, 100);
  EXPECT_EQ(cut.cut(0), 0.05);
  EXPECT_LT(cut.spreads[0], run.spreads[0]);
}

// A composition of steps of which outcomes are left out stands for less than none; its lower side
// was once taken for none where it did.
TEST(DeltaCurve, IsInOrderAtAllTilts) {
  const policy::Run run = run_of("psg:q=1e-5,sigma=0.5,T=10000"), cut = cut_at(run, 0.025, 100);
  const Fineness fine{0.3, 0.02, 2.5, 1e-11, 1e-6, Circle::Powers::kTransformed};
  Blocks blocks = blocks_of(cut, fine);
  const Steps steps = finest(cut, fine);
  for (const double c : {270.0, 67.0, 17.0, 4.0}) {
    Target target;
    target.tilt = c, target.near = 0.2;
    auto loss = ComposedLoss::of_blocks(blocks, steps, target, 1 << 12);
    ASSERT_TRUE(loss) << c;
    const ComposedLoss kept = *loss;
    const DeltaCurve curve(std::move(*loss));
    for (const double epsilon : {-0.3, -0.1, -0.01, 0.0, 0.001, 0.01, 0.02, 0.05, 0.1}) {
      EXPECT_LE(curve.delta_lower(epsilon), curve.delta_upper(epsilon)) << c << " " << epsilon;
      EXPECT_NEAR(curve.delta_upper(epsilon), kept.delta_upper(epsilon),
                  1e-9 * kept.delta_upper(epsilon))
          << c << " " << epsilon;
      EXPECT_NEAR(curve.delta_lower(epsilon), kept.delta_lower(epsilon),
                  1e-9 * kept.delta_upper(epsilon))
          << c << " " << epsilon;
    }
  }
}

// Two Gaussians: delta(-y) = 1 - e^{-y} + e^{-y} delta'(y), which is closed.
TEST(FarBelow, HoldsTheClosedForm) {
  for (const double count : {1.0, 40.0}) {
    const policy::Run run =
        policy::run_of(list_of("gauss:sigma=50,T=1"), kAddRemove, Direction::kRemove, {count});
    const Steps steps = finest(run, {0.05, 0.02, 1, 1e-14, 1e-14});
    const FarBelow far(steps, 3);
    const double mu = std::sqrt(count) / 50;
    EXPECT_EQ(far.delta_upper(0), 1);
    EXPECT_EQ(far.delta_upper(0.1), 1);
    EXPECT_EQ(far.delta_lower(0), 0);
    EXPECT_EQ(far.delta_lower(0.1), 0);
    for (const double y : {1e-3, 0.02, 0.1, 0.3, 1.0, 3.0}) {
      auto normal = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2)); };
      const double exact = normal(mu / 2 + y / mu) - std::exp(-y) * normal(-mu / 2 + y / mu);
      EXPECT_LE(far.delta_lower(-y), exact * (1 + 1e-12)) << count << " " << y;
      EXPECT_GE(far.delta_upper(-y), exact * (1 - 1e-12)) << count << " " << y;
      if (y < 12 * mu) continue;
      EXPECT_GE(far.delta_lower(-y), exact * (1 - 1e-5)) << count << " " << y;
      EXPECT_LE(far.delta_upper(-y), exact * (1 + 1e-5)) << count << " " << y;
    }
  }
}

// What is composed at a low tilt says the same, as far down as it can.
TEST(FarBelow, AgreesWithAComposition) {
  const policy::Run run = run_of("psg:q=1e-4,sigma=0.7,T=5000"), cut = cut_at(run, 0.02, 100);
  const Fineness fine{0.1, 0.02, 2.5, 1e-13, 1e-6, Circle::Powers::kTransformed};
  const Steps steps = finest(cut, fine);
  Blocks blocks = blocks_of(cut, fine);
  Target target;
  target.tilt = 3, target.near = 0.05;
  const auto loss = ComposedLoss::of_blocks(blocks, steps, target, 1 << 13);
  ASSERT_TRUE(loss);
  const FarBelow far(steps, 2);
  for (const double epsilon : {-0.001, -0.01, -0.05, -0.2, -1.0}) {
    EXPECT_LE(far.delta_lower(epsilon), loss->delta_upper(epsilon)) << epsilon;
    EXPECT_GE(far.delta_upper(epsilon), loss->delta_lower(epsilon)) << epsilon;
    EXPECT_LE(far.delta_lower(epsilon), far.delta_upper(epsilon)) << epsilon;
    if (epsilon > -0.1) continue;
    EXPECT_LE(far.delta_upper(epsilon), 1.001 * far.delta_lower(epsilon)) << epsilon;
  }
}

// delta by one transform in extended precision, hardly tilted, on grids of q/4 and q/8; right to a
// few 1e-5.
struct Known {
  const char* text;
  Adjacency adjacency;
  double epsilon, delta;
};
constexpr Known kKnown[] = {
    {"psg:q=1e-5,sigma=0.7,T=10000", kAddRemove, 0.05, 1.46489e-9},
    {"psg:q=1e-5,sigma=0.7,T=10000", kAddRemove, 0.125, 2.78677e-11},
    {"psg:q=1e-5,sigma=0.7,T=10000", kAddRemove, 0.2, 2.85714e-12},
    {"psg:q=1e-5,sigma=0.7,T=10000", kReplaceOne, 0.05, 1.51673e-9},
    {"psg:q=1e-5,sigma=0.7,T=10000", kReplaceOne, 0.125, 2.80731e-11},
    {"psg:q=1e-5,sigma=0.5,T=3000", kAddRemove, 0.1, 1.41605e-6},
    {"psg:q=1e-5,sigma=0.5,T=3000", kAddRemove, 0.4, 4.77779e-8},
    {"psg:q=1e-5,sigma=0.5,T=3000", kReplaceOne, 0.1, 1.42304e-6},
    {"psg:q=1e-5,sigma=0.5,T=3000", kReplaceOne, 0.4, 4.78080e-8},
    {"psg:q=1e-4,sigma=0.7,T=20000", kAddRemove, 0.6, 4.59499e-9},
    {"psg:q=1e-4,sigma=0.7,T=20000", kReplaceOne, 0.6, 5.02622e-9},
    {"psg:q=1e-6,sigma=0.5,T=20000", kAddRemove, 0.01, 1.06490e-6},
    {"psg:q=1e-6,sigma=0.5,T=20000", kAddRemove, 0.05, 2.88869e-8},
    {"psg:q=1e-6,sigma=0.5,T=20000", kAddRemove, 0.3, 1.91108e-10},
    {"psg:q=3e-6,sigma=0.75,T=461", kAddRemove, 0.004, 3.23815e-10},
    {"psg:q=3e-6,sigma=0.75,T=461", kAddRemove, 0.014, 1.75349e-12},
};

TEST(Thinned, HoldsWhatAnotherTransformFinds) {
  for (const auto& [text, adjacency, epsilon, delta] : kKnown) {
    const policy::Run run = run_of(text, adjacency);
    const auto thinned = Thinned::make(run, epsilon, delta, kComposed, {0.03, 1.0 / 300});
    ASSERT_TRUE(thinned) << text;
    const Bounds found = thinned->delta(epsilon), there = thinned->epsilon(delta, 1.3 * epsilon);
    EXPECT_LE(found.lower, delta * (1 + 5e-5)) << text << " " << epsilon;
    EXPECT_GE(found.upper, delta * (1 - 5e-5)) << text << " " << epsilon;
    EXPECT_LE(found.upper, 1.02 * found.lower) << text << " " << epsilon;
    EXPECT_LE(there.lower, epsilon * (1 + 1e-5)) << text << " " << epsilon;
    EXPECT_GE(there.upper, epsilon * (1 - 1e-5)) << text << " " << epsilon;
    EXPECT_LE(there.upper, 1.004 * there.lower) << text << " " << epsilon;
    // And as they are asked.
    const Bounds asked = delta_bounds(list_of(text), adjacency, epsilon)->worst();
    EXPECT_LE(asked.lower, delta * (1 + 5e-5)) << text << " " << epsilon;
    EXPECT_GE(asked.upper, delta * (1 - 5e-5)) << text << " " << epsilon;
    EXPECT_LE(asked.upper, 1.02 * asked.lower) << text << " " << epsilon;
  }
}

// Of very many steps the usual ones are next to normal: both ways agree.
TEST(Thinned, OfVeryManyStepsIsTheSameByTheirNormalLimit) {
  const policy::Run run = run_of("psg:q=1e-6,sigma=0.7,T=30000000");
  const Thinned::Detail detail{0.1, 1.0 / 300};
  const auto composed = Thinned::make(run, 0.1, 1e-12, kComposed, detail),
             limit = Thinned::make(run, 0.1, 1e-12, kLimits, detail);
  ASSERT_TRUE(composed && limit);
  const Bounds less = composed->epsilon(1e-12, 0.1), more = limit->epsilon(1e-12, 0.1);
  EXPECT_LE(less.lower, less.upper);
  EXPECT_LE(more.lower, more.upper);
  EXPECT_LE(less.upper, 1.002 * less.lower);
  EXPECT_LE(more.upper, 1.02 * more.lower);
  EXPECT_LT(less.lower, more.upper);
  EXPECT_LT(more.lower, less.upper);
}

TEST(Thinned, IsTightWhereNoTiltIs) {
  struct Asked {
    const char* text;
    Adjacency adjacency;
    double delta, wide;
  };
  for (const auto& [text, adjacency, delta, wide] : std::initializer_list<Asked>{
           {"psg:q=1e-5,sigma=0.7,T=10000", kAddRemove, 1e-14, 1e-3},
           {"psg:q=1e-5,sigma=0.7,T=1000000", kAddRemove, 2.8e-11, 1e-3},
           {"psg:q=1e-5,sigma=0.7,T=1000000", kReplaceOne, 1e-14, 1e-3},
           {"psg:q=3.75e-7,sigma=0.64,T=1000000", kAddRemove, 2.8e-11, 1e-2},
           {"psg:q=3.75e-7,sigma=0.64,T=760000000", kReplaceOne, 2.8e-11, 3e-3},
           // Rare losses far above epsilon; few steps; and such that are told apart only since
           // nothing else helps.
           {"psg:q=1.07e-7,sigma=0.5,T=131000", kAddRemove, 1.9e-10, 1e-3},
           {"psg:q=1.55e-7,sigma=0.525,T=704000", kReplaceOne, 2.54e-11, 1e-3},
           {"psg:q=2.64e-6,sigma=0.516,T=223", kReplaceOne, 7e-11, 1e-3},
           {"psg:q=1.37e-7,sigma=0.493,T=331", kReplaceOne, 7.2e-11, 1e-3},
           {"psg:q=2.34e-6,sigma=0.451,T=339000", kReplaceOne, 1.73e-13, 1e-3},
           // Both ways are tried.
           {"psg:q=1e-6,sigma=0.6,T=90000000", kAddRemove, 1e-12, 1e-3},
           {"psg:q=1e-5,sigma=0.64,T=100000;psg:q=3e-6,sigma=0.6,T=40000;gauss:sigma=90,T=3",
            kAddRemove, 1e-12, 2e-3}}) {
    const Bounds bounds = epsilon_bounds(list_of(text), adjacency, delta)->worst();
    EXPECT_LE(bounds.lower, bounds.upper) << text;
    EXPECT_LE(bounds.upper - bounds.lower, wide * bounds.upper) << text;
  }
}

// A loud kind asks for a grid on which the rare losses of a quieter one are nothing: exactly
// 3.446e-9 by a transform in extended precision, of the first kind alone; the other adds less than
// 3e-10.
TEST(Thinned, IsSoundWhereTheGridIsTooCoarse) {
  for (const char* text : {"psg:q=1e-07,sigma=0.62,T=900000;psg:q=2e-15,sigma=0.08,T=99999"}) {
    const Bounds bounds = delta_bounds(list_of(text), kAddRemove, 0.0016)->worst();
    EXPECT_LE(bounds.lower, 3.71e-9);
    EXPECT_GE(bounds.upper, 3.44e-9);
    const Bounds there = epsilon_bounds(list_of(text), kAddRemove, 1e-7)->worst();
    EXPECT_LE(there.lower, 0.0011);
  }
}

// One loss alone brings 3.438e-15 (closed form); a question that is given up must not be taken for
// answered.
TEST(Thinned, GoesOnWhereRareLossesCannotBeToldApart) {
  const Bounds few =
      delta_bounds(list_of("psg:q=3e-6,sigma=0.75,T=461"), kAddRemove, 0.05)->worst();
  EXPECT_LE(few.lower, 3.46e-15);
  EXPECT_GE(few.upper, 3.438e-15);
  EXPECT_LE(few.upper, 1.02 * few.lower);
  // Of three steps nothing is told apart.
  const auto three = list_of("psg:q=3e-6,sigma=0.75,T=3");
  EXPECT_FALSE(Thinned::make(policy::run_of(three, kAddRemove, Direction::kRemove), 0.05, 2e-17,
                             kComposed, {0.1, 1.0 / 300}));
  EXPECT_LE(delta_bounds(three, kAddRemove, 0.05)->worst().upper, 1e-13);
}

// Far above all losses of a sampled step, at a loud one's: nothing there says how finely to look.
TEST(Thinned, IsNotAskedWhereNoLossOfAStepReaches) {
  const auto loud = list_of("pure:eps=40,T=1;psg:q=1e-6,sigma=1,T=100000");
  const Bounds bounds = epsilon_bounds(loud, kAddRemove, 1e-12)->worst();
  EXPECT_LE(bounds.lower, bounds.upper);
  EXPECT_GE(bounds.upper, 39.9999);
  EXPECT_LE(bounds.upper, 40.4);
}

// At zero rare losses are not told apart; next to it they are. Exact: contour integrals.
TEST(Thinned, SaysWhatIsLeftAtZero) {
  struct Asked {
    const char* text;
    double delta;
  };
  for (const auto& [text, delta] :
       std::initializer_list<Asked>{{"psg:q=1.15e-6,sigma=0.973,T=8300", 9.396e-5},
                                    {"psg:q=1.11e-6,sigma=1.17,T=460", 1.694e-5}}) {
    const auto bounds = *delta_bounds(list_of(text), kReplaceOne, 0);
    EXPECT_LE(bounds.worst().lower, delta * (1 + 1e-3)) << text;
    EXPECT_GE(bounds.worst().upper, delta * (1 - 1e-3)) << text;
    EXPECT_LE(bounds.worst().upper, 1.02 * bounds.worst().lower) << text;
  }
}

TEST(Thinned, IsNotMadeWhereNothingIsRare) {
  EXPECT_FALSE(Thinned::make(run_of("gauss:sigma=5,T=1"), 0.5, 1e-6, kComposed, {0.1, 1.0 / 300}));
  EXPECT_FALSE(Thinned::make(run_of("pure:eps=0.1,T=100"), 0.5, 1e-6, kComposed, {0.1, 1.0 / 300}));
  EXPECT_FALSE(
      Thinned::make(run_of("psg:q=0.5,sigma=1,T=100"), 0.5, 1e-6, kComposed, {0.1, 1.0 / 300}));
}

}  // namespace
}  // namespace souk::policy
