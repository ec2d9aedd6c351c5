#include "policy/privacy/bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/closed_form.h"
#include "policy/privacy/composition.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

using Kind = Mechanism::Kind;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kQuadrature = 1e-12;  // relative error of hockey_stick()
constexpr size_t kMostWork = 3 << 19;  // points transformed before bounds are refined no more
constexpr size_t kFewPoints = 1 << 15;
constexpr double kLeastPad = -45;         // log of what errors may be of a Chernoff bound, at least
constexpr double kMostEpsilon = 1e9;      // a greater one is not asked of a grid
constexpr double kMostIntegratedMu = 20;  // of a Gaussian: beyond, the closed form
constexpr double kKappa = 0.05;           // grid, in deviations of a step: 2e-4 of epsilon

// How far apart bounds may be: then the upper one is within 0.1 % of epsilon, 2 % of delta.
double allowed_gap(const Target& target, double upper) {
  return target.delta ? 9.8e-4 * upper + 9.5e-5 : 1.8e-2;
}

// Bounds of epsilon at target.delta or of delta at target.epsilon. Refined while they are
// wide, but not once they are below `enough`: the other direction is worse. `decide`: an epsilon
// between them they are refined for, and for nothing else.
void composed_bounds(const Run& run, Target target, Effort effort, double enough,
                     std::optional<double> decide, Bounds& out) {
  const Run few = run.many() ? spokesmen_of(run) : Run{};
  const Run& guide = run.many() ? few : run;
  const double spread = spread_of(run);
  const Steps coarse = discretised(guide, {snapped(0.3 * spread, run), 0.02, 1e9});
  double epsilon =
      target.epsilon ? *target.epsilon : ComposedLoss::epsilon_estimate(coarse, *target.delta);
  if (!std::isfinite(epsilon)) return;
  epsilon = std::max(0.0, epsilon);
  // Losses of one step past this are infinite: that adds less than e^-10 of delta, or 1e-5 of it
  // where nothing else of it lies there.
  const double fall = usual_fall(coarse, guide);
  // Of many kinds each has its own.
  const double rare =
      target.delta && !run.many() ? rare_loss(coarse, 1e-5 * *target.delta) : kInfinity;
  auto reach = [&] { return std::min(epsilon + 10 + fall, rare); };
  double highest = reach();
  if (run.many() && target.delta && epsilon <= enough) {
    const Resolution rough{snapped(0.3 * spread, run), 0.05, highest};
    out.upper =
        std::min(out.upper, ComposedLoss::epsilon_bound(discretised(run, rough),
                                                        discretised(guide, rough), *target.delta));
    if (out.upper <= enough) return;
  }
  const double most_grid = 0.003 * std::max(epsilon, 0.03);
  double grid = std::min(kKappa * spread, most_grid), growth = 0.02;
  const size_t max_points = most_points_of(run);
  const size_t few_points = std::min(kFewPoints, max_points);
  size_t most_points = few_points;  // past them it is worth while to look for a better plan
  bool planning = true;
  double least = 0;  // no finer grid fits
  size_t work = 0;
  auto composed = [&](double spacing, double* too_wide, size_t most) {
    const Resolution resolution{spacing, growth, highest};
    const Steps steps = discretised(run, resolution);
    if (!run.many()) return ComposedLoss::make(steps, steps, spacing, target, too_wide, most);
    return ComposedLoss::make(steps, discretised(guide, resolution), spacing, target, too_wide,
                              most);
  };
  const int rounds = effort != Effort::kRefine || run.many() ? 1 : decide ? 8 : 5;
  for (int round = 0, tries = 0; round < rounds && tries < 20; ++tries) {
    grid = snapped(grid, run);
    double too_wide = 0;
    auto loss = composed(grid, &too_wide, most_points);
    if (!loss && planning && too_wide > 0 && std::isfinite(too_wide)) {
      planning = false;
      most_points = max_points;
      if (epsilon <= enough) continue;  // nothing hangs on it
      if (target.delta) {
        // A rough answer first: where it is decides what is worth while. Of many kinds it is that
        // of a few, which proves nothing.
        const double rough = snapped(grid * 2 * too_wide, guide);
        const Steps steps = discretised(guide, {rough, growth, highest});
        if (auto scout = ComposedLoss::make(steps, steps, rough, target, &too_wide, max_points)) {
          const double upper = scout->epsilon_upper(*target.delta);
          if (!run.many()) {
            out.upper = std::min(out.upper, upper);
            out.lower = std::max(out.lower, scout->epsilon_lower(*target.delta));
            if (out.upper <= enough) break;
          }
          if (std::isfinite(upper)) epsilon = upper, target.near = epsilon;
          highest = reach();
        }
      }
      // By moments, which see rare losses where they are: nothing is cut off for them.
      auto plan = planned(guide, target, allowed_gap(target, epsilon), most_grid,
                          {grid, growth, target.epsilon ? highest : epsilon + 10 + fall});
      grid = plan.grid, growth = run.many() ? std::max(plan.growth, 0.01) : plan.growth;
      continue;
    }
    if (!loss) {
      if (!(too_wide > 0) || !std::isfinite(too_wide)) return;
      least = grid *= 1.05 * std::max(1.0, too_wide);  // looser, still sound
      continue;
    }
    ++round;
    work += loss->points();
    double gap = 0, allowed = 0;
    if (target.delta) {
      out.upper = std::min(out.upper, loss->epsilon_upper(*target.delta));
      out.lower = std::max(out.lower, loss->epsilon_lower(*target.delta));
      gap = out.upper - out.lower;
      if (std::isfinite(out.upper)) target.near = out.upper;
      allowed = allowed_gap(target, out.upper);
    } else {
      // Less than a double holds is not nothing.
      out.upper = std::min(out.upper, std::max(loss->delta_upper(*target.epsilon),
                                               std::numeric_limits<double>::min()));
      out.lower = std::max(out.lower, loss->delta_lower(*target.epsilon));
      gap = out.upper > 1e-290 ? (out.upper - out.lower) / out.upper : 0;
      allowed = allowed_gap(target, out.upper);
    }
    if (decide) {
      if (out.upper <= *decide || out.lower > *decide) break;
      allowed = 0.15 * gap;
    }
    // No finer grid fits: what is left to gain is little.
    const bool at_end = loss->points() == max_points && !decide && gap <= 2 * allowed;
    if (!(gap > allowed) || out.upper <= enough || work > kMostWork || at_end) break;
    if (target.epsilon) {
      // The Chernoff bound, of which errors are kept a share, may be far above delta.
      const double of_errors = loss->delta_of_errors(epsilon);
      const double rest = std::max(loss->delta_upper(epsilon) - of_errors, 1e-9 * of_errors);
      const double wanted = std::log(1e-3) + std::log(rest) - std::log(of_errors);
      if (wanted < -1 && target.log_pad > kLeastPad) {
        target.log_pad = std::max(kLeastPad, target.log_pad + wanted);
        // Now that delta is known, about, so is which losses are too rare to matter.
        if (!run.many()) highest = std::min(highest, rare_loss(coarse, 1e-5 * rest));
        --round;
        continue;
      }
    }
    // Both errors go with the square of the spacing.
    const double shrink = std::clamp(0.9 * std::sqrt(allowed / gap), 0.2, 0.8);
    double finer = std::max(grid * shrink, least), sparser = std::max(growth * shrink, 1e-3);
    if (finer > 0.97 * grid && sparser > 0.97 * growth && round > 2) break;
    grid = std::min(grid, finer);
    growth = sparser;
    if (round > 1) target.log_pad -= 2;
  }
  // Each on its own side of the exact value, but for roundings.
  if (out.lower > out.upper) std::swap(out.lower, out.upper);
}

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
  return in_both_directions(mechanisms, adjacency, effort,
                            [&](const Question& question) { return delta_of(question, epsilon); });
}

}  // namespace souk::policy
