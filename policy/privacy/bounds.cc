#include "policy/privacy/bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/closed_form.h"
#include "policy/privacy/composition.h"
#include "policy/privacy/search.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

using Kind = Mechanism::Kind;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kQuadrature = 1e-12;     // relative error of hockey_stick()
constexpr double kMostEpsilon = 1e9;      // a greater one is not asked of a grid
constexpr double kMostIntegratedMu = 20;  // of a Gaussian: beyond, the closed form

// A step alone is integrated where its places can be told apart, and there are not too many: not
// where there is hardly any noise, and not for persons of many rows.
bool integrable(const Run& run) {
  if (run.mechanisms.size() != 1 || run.counts[0] != 1) return false;
  const auto& gaussians = run.kept[0].gaussians;
  return std::all_of(gaussians.begin(), gaussians.end(), [](const auto& part) {
    return part.part.sigma() > 5e-3 && part.part.terms() <= 18;
  });
}

// One question in one direction. `out` is tightened as far as the work allows.
struct Question {
  std::span<const Mechanism> mechanisms;
  Adjacency adjacency;
  Direction direction;
  Effort effort;
  double enough;
  std::optional<double> decide = std::nullopt;  // the epsilon that the answer is to lie clear of
};

void delta_in(const Question& question, double epsilon, Bounds& out) {
  const Run run = run_of({question.mechanisms.begin(), question.mechanisms.end()},
                         question.adjacency, question.direction);
  if (epsilon >= run.highest) {
    out = {0, 0};
  } else if (integrable(run)) {
    double delta = hockey_stick(run.kept[0], epsilon);
    // Less than a double holds is not nothing.
    out = {delta * (1 - kQuadrature),
           std::clamp(delta * (1 + kQuadrature), std::numeric_limits<double>::min(), 1.0)};
  } else if (epsilon < kMostEpsilon) {
    composed_bounds(run, {.epsilon = epsilon, .delta = std::nullopt}, question.effort,
                    question.enough, question.decide, out);
  }
}

void epsilon_in(const Question& question, double delta, Bounds& out) {
  const Run run = run_of({question.mechanisms.begin(), question.mechanisms.end()},
                         question.adjacency, question.direction);
  out.upper = std::min(out.upper, run.highest);
  if (!integrable(run)) {
    composed_bounds(run, {.epsilon = std::nullopt, .delta = delta}, question.effort,
                    question.enough, question.decide, out);
    return;
  }
  const LossPair& pair = run.kept[0];
  auto too_much = [&](double epsilon) { return hockey_stick(pair, epsilon) > delta; };
  double low = 0, high = std::min(run.highest, 1.0);
  if (!too_much(0)) {
    out = {0, 0};
    return;
  }
  while (high < run.highest && too_much(high)) {
    low = high;
    high = std::min(2 * high, run.highest);
  }
  for (int i = 0; i < 80 && high - low > 1e-13 * high; ++i) {
    double middle = 0.5 * (low + high);
    (too_much(middle) ? low : high) = middle;
  }
  // A relative 1e-12 of delta moves epsilon by 1e-12 over the slope, which is at least 1 - delta.
  double error = 1e-11 + 1e-11 * high;
  out = {std::max(0.0, low - error), std::min(high + error, run.highest)};
}

// The least epsilon at which `delta_at` is no more than delta, from 0 on; nothing finite where
// there is none.
template <class DeltaAt>
Bounds solved(DeltaAt&& delta_at, double delta) {
  auto least = [&](auto&& too_much, bool upper) {
    if (!too_much(0.0)) return 0.0;
    double low = 0, high = 1;
    while (too_much(high)) {
      low = high;
      if ((high *= 4) > 1e30) return upper ? kInfinity : low;
    }
    for (int i = 0; i < 100 && high - low > 1e-13 * high; ++i) {
      const double middle = 0.5 * (low + high);
      (too_much(middle) ? low : high) = middle;
    }
    return upper ? high : low;
  };
  return {least([&](double epsilon) { return delta_at(epsilon).lower > delta; }, false),
          least([&](double epsilon) { return delta_at(epsilon).upper > delta; }, true)};
}

constexpr double kNextToZero = 1e-4;  // of delta there

// How far apart bounds may be before those without a grid are asked as well.
bool rough(const Bounds& bounds) {
  return !std::isfinite(bounds.upper) ||
         !(bounds.upper <= 1.02 * bounds.lower + 1e-4 * bounds.upper);
}

void tighten(Bounds& bounds, const Bounds& other) {
  bounds.lower = std::max(bounds.lower, other.lower);
  bounds.upper = std::max(bounds.lower, std::min(bounds.upper, other.upper));
}

Bounds epsilon_of(const Question& question, double delta) {
  if (question.mechanisms.size() == 1) {
    const Mechanism& only = question.mechanisms[0];
    const double mu = (question.adjacency == Adjacency::kReplaceOne ? 2 : 1) / only.scale;
    if (only.kind == Kind::kGaussian && mu >= kMostIntegratedMu) return gaussian_epsilon(mu, delta);
    if (only.steps == 1 && sampled_step_delta(only, question.adjacency, question.direction, 0)) {
      return solved(
          [&](double epsilon) {
            return *sampled_step_delta(only, question.adjacency, question.direction, epsilon);
          },
          delta);
    }
  }
  Bounds out{0, kInfinity};
  WorkBudget::within(question_units(question.mechanisms.size()),
                     [&] { epsilon_in(question, delta, out); });
  if (rough(out))
    tighten(out, rough_epsilon(question.mechanisms, question.adjacency, question.direction, delta));
  return out;
}

Bounds delta_of(const Question& question, double epsilon) {
  if (question.mechanisms.size() == 1) {
    const Mechanism& only = question.mechanisms[0];
    const double mu = (question.adjacency == Adjacency::kReplaceOne ? 2 : 1) / only.scale;
    if (only.kind == Kind::kGaussian && mu >= kMostIntegratedMu) return gaussian_delta(mu, epsilon);
    if (only.steps == 1) {
      auto step = sampled_step_delta(only, question.adjacency, question.direction, epsilon);
      if (step) return *step;
    }
  }
  Bounds out{0, 1};
  WorkBudget::within(question_units(question.mechanisms.size()),
                     [&] { delta_in(question, epsilon, out); });
  if (rough(out))
    tighten(out, rough_delta(question.mechanisms, question.adjacency, question.direction, epsilon));
  return out;
}

template <class Ask>
DirectedBounds in_both_directions(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                  Effort effort, Ask&& ask) {
  DirectedBounds out;
  auto live = normalised(mechanisms);
  if (live.empty()) return out;
  out.remove = ask(Question{live, adjacency, Direction::kRemove, effort, 0});
  out.add = symmetric(live, adjacency)
                ? out.remove
                : ask(Question{live, adjacency, Direction::kAdd, effort, out.remove.upper});
  return out;
}

}  // namespace

Bounds DirectedBounds::worst() const {
  return {std::max(remove.lower, add.lower), std::max(remove.upper, add.upper)};
}

Result<DirectedBounds> epsilon_bounds(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                      double delta, Effort effort) {
  TRY(check(mechanisms));
  TRY(check_delta(delta));
  return in_both_directions(mechanisms, adjacency, effort,
                            [&](const Question& question) { return epsilon_of(question, delta); });
}

Result<Bounds> epsilon_bounds_around(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                     double epsilon, double delta) {
  TRY(check(mechanisms));
  TRY(check_delta(delta));
  const auto live = normalised(mechanisms);
  if (live.empty()) return Bounds{};
  Question question{live, adjacency, Direction::kRemove, Effort::kRefine, 0, epsilon};
  const Bounds remove = epsilon_of(question, delta);
  if (remove.lower > epsilon || symmetric(live, adjacency)) return remove;
  question.direction = Direction::kAdd;
  question.enough = remove.upper;
  const Bounds add = epsilon_of(question, delta);
  return DirectedBounds{remove, add}.worst();
}

Result<DirectedBounds> delta_bounds(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                    double epsilon, Effort effort) {
  TRY(check(mechanisms));
  if (!(epsilon >= 0 && std::isfinite(epsilon))) {
    return Error(Code::kMalformed, "epsilon: expected a number that is not negative");
  }
  auto out = in_both_directions(mechanisms, adjacency, effort, [&](const Question& question) {
    return delta_of(question, epsilon);
  });
  if (epsilon == 0) {
    // The total variation, which is the same in either direction. Next to zero, where rare losses
    // are told apart, delta is less than that by e^epsilon - 1 at most.
    tighten(out.remove, out.add);
    if (rough(out.remove) && out.remove.upper > 0) {
      const double near = kNextToZero * out.remove.upper;
      const auto there =
          in_both_directions(mechanisms, adjacency, effort,
                             [&](const Question& question) { return delta_of(question, near); });
      for (const Bounds& bounds : {there.remove, there.add})
        tighten(out.remove, {bounds.lower, bounds.upper + std::expm1(near) * (1 + 1e-12)});
    }
    out.add = out.remove;
  }
  return out;
}

}  // namespace souk::policy
