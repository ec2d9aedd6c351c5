#include "policy/privacy/bounds.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/closed_form.h"
#include "policy/privacy/compose.h"
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

// One composition to be asked in one direction.
struct Run {
  std::vector<LossPair> pairs;
  std::vector<double> counts;
  double highest = 0;  // no outcome of the whole run has a greater loss
};

Run run_of(std::span<const Mechanism> mechanisms, Adjacency adjacency, Direction direction) {
  Run run;
  for (const auto& mechanism : mechanisms) {
    run.pairs.push_back(dominating_pair(mechanism, adjacency, direction));
    run.counts.push_back(static_cast<double>(mechanism.steps));
    run.highest += run.counts.back() * run.pairs.back().highest_loss();
  }
  run.highest *= 1 + 1e-15 * static_cast<double>(1 + mechanisms.size());
  return run;
}

std::vector<StepLoss> discretised(const Run& run, const Resolution& resolution) {
  std::vector<StepLoss> steps;
  for (size_t i = 0; i < run.pairs.size(); ++i)
    steps.push_back(discretise(run.pairs[i], run.counts[i], resolution));
  return steps;
}

double spread_of(const Run& run) {
  double variance = 0, count = 0;
  for (size_t i = 0; i < run.pairs.size(); ++i) {
    variance += run.counts[i] * run.pairs[i].spread * run.pairs[i].spread;
    count += run.counts[i];
  }
  return std::sqrt(variance / count);
}

// How far the many usual steps may carry the sum below zero: a rare large loss must be
// larger by that to matter.
double usual_fall(const std::vector<StepLoss>& steps, const Run& run) {
  double mean = 0, variance = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    double reach = 5 * run.pairs[i].spread, m = 0, v = 0;
    for (size_t k = 0; k < steps[i].at.size(); ++k) {
      double loss = steps[i].upper.loss[k], mass = steps[i].upper.mass[k];
      if (std::abs(loss) > reach) continue;
      m += mass * loss;
      v += mass * loss * loss;
    }
    mean += steps[i].count * m;
    variance += steps[i].count * v;
  }
  return std::max(0.0, 6 * std::sqrt(variance) - mean);
}

// A loss that hardly one run in 1 / `chance` sees in any of its steps.
double rare_loss(const std::vector<StepLoss>& steps, double chance) {
  double out = 0;
  for (const StepLoss& step : steps) {
    const auto& side = step.upper;
    double mass = step.infinite;
    size_t k = side.mass.size();
    while (k > 1 &&
           (mass + side.mass[k - 1]) * step.count * static_cast<double>(steps.size()) < chance)
      mass += side.mass[--k];
    out = std::max(out, side.loss[k - 1]);
  }
  return out;
}

// Losses of one step lie within this of zero. Beyond 10^10 they are cut off.
double extent_of(const Run& run) {
  double out = 0;
  for (const auto& pair : run.pairs) {
    for (const auto& [weight, part] : pair.gaussians) {
      out = std::max(out, -std::max(part.lowest_loss(), part.loss(part.lowest_outcome())));
      out = std::max(out, std::min(part.highest_loss(), part.loss(part.highest_outcome())));
    }
    for (const auto& laplace : pair.laplaces) out = std::max(out, laplace.edge);
    for (const auto& atom : pair.atoms) out = std::max(out, std::abs(atom.loss));
  }
  return std::min(out, 1e10);
}

// A grid on which the first atom, if there is one, is a point, and whose points can be counted.
double snapped(double grid, const Run& run) {
  grid = std::max(grid, 1e-15 * extent_of(run));
  for (const auto& pair : run.pairs) {
    if (pair.atoms.empty()) continue;
    double edge = std::abs(pair.atoms[0].loss);
    if (edge > grid) return edge / std::ceil(edge / grid);
  }
  return grid;
}

// How far apart bounds may be: then the upper one is within 0.1 % of epsilon, 2 % of delta.
double allowed_gap(const Target& target, double upper) {
  return target.delta ? 9e-4 * upper + 5e-5 : 1.8e-2;
}

// Spacing and growth whose errors together are about three quarters of `allowed`, as the moments
// say: where rare large losses decide, usual ones may lie far apart, and a transform costs less.
Resolution planned(const Run& run, const Target& target, double allowed, double most,
                   const Resolution& usual) {
  Resolution plan = usual;
  auto gap_at = [&](double grid, double growth) {
    return ComposedLoss::gap_estimate(discretised(run, {snapped(grid, run), growth, usual.highest}),
                                      target);
  };
  // Errors go with the squares of both.
  const double whole = gap_at(plan.grid, plan.growth), less = gap_at(plan.grid, plan.growth / 2);
  const double by_growth = (whole - less) / (0.75 * plan.growth * plan.growth);
  if (by_growth > 0)
    plan.growth = std::min(plan.growth, std::max(2e-3, std::sqrt(0.3 * allowed / by_growth)));
  double at = gap_at(plan.grid, plan.growth), wider = gap_at(2 * plan.grid, plan.growth);
  const double by_grid = (wider - at) / (3 * plan.grid * plan.grid);
  const double rest = 0.75 * allowed - (at - by_grid * plan.grid * plan.grid);
  if (!(rest > 0) || std::isnan(by_grid)) return plan;
  const double wanted = by_grid > 0 ? std::sqrt(rest / by_grid) : most;
  plan.grid = std::max(plan.grid, std::min(wanted, most));
  // Looked at once more: far from where they were asked the squares are only about right.
  for (int i = 0; i < 3 && plan.grid > usual.grid; ++i) {
    at = gap_at(plan.grid, plan.growth);
    if (at <= 0.85 * allowed) break;
    plan.grid =
        std::max(usual.grid, plan.grid * std::clamp(std::sqrt(0.75 * allowed / at), 0.3, 0.9));
  }
  return plan;
}

// Bounds of epsilon at target.delta or of delta at target.epsilon. Refined while they are
// wide, but not once they are below `enough`: the other direction is worse.
void composed_bounds(const Run& run, Target target, Effort effort, double enough, Bounds& out) {
  const double spread = spread_of(run);
  auto coarse = discretised(run, {snapped(0.3 * spread, run), 0.02, 1e9});
  double epsilon =
      target.epsilon ? *target.epsilon : ComposedLoss::epsilon_estimate(coarse, *target.delta);
  if (!std::isfinite(epsilon)) return;
  epsilon = std::max(0.0, epsilon);
  // Losses of one step past this are infinite: that adds less than e^-10 of delta, or 1e-5 of it
  // where nothing else of it lies there.
  const double fall = usual_fall(coarse, run);
  auto reach = [&, rare = target.delta ? rare_loss(coarse, 1e-5 * *target.delta) : kInfinity] {
    return std::min(epsilon + 10 + fall, rare);
  };
  double highest = reach();
  const double most_grid = 0.003 * std::max(epsilon, 0.03);
  double grid = std::min(kKappa * spread, most_grid), growth = 0.02;
  size_t most_points = kFewPoints;  // past them it is worth while to look for a better plan
  double least = 0;                 // no finer grid fits
  size_t work = 0;
  const int rounds = effort == Effort::kRefine ? 5 : 1;
  for (int round = 0, tries = 0; round < rounds && tries < 20; ++tries) {
    grid = snapped(grid, run);
    double too_wide = 0;
    auto loss = ComposedLoss::make(discretised(run, {grid, growth, highest}), grid, target,
                                   &too_wide, most_points);
    if (!loss && most_points == kFewPoints && too_wide > 0 && std::isfinite(too_wide)) {
      most_points = ComposedLoss::kMaxPoints;
      if (epsilon <= enough) continue;  // nothing hangs on it
      if (target.delta) {
        // A rough answer first: where it is decides what is worth while.
        const double rough = grid * 2 * too_wide;
        if (auto scout =
                ComposedLoss::make(discretised(run, {snapped(rough, run), growth, highest}),
                                   snapped(rough, run), target, &too_wide)) {
          out.upper = std::min(out.upper, scout->epsilon_upper(*target.delta));
          out.lower = std::max(out.lower, scout->epsilon_lower(*target.delta));
          if (out.upper <= enough) break;
          if (std::isfinite(out.upper)) epsilon = out.upper, target.near = epsilon;
          highest = reach();
        }
      }
      // By moments, which see rare losses where they are: nothing is cut off for them.
      auto plan = planned(run, target, allowed_gap(target, epsilon), std::min(most_grid, spread),
                          {grid, growth, epsilon + 10 + fall});
      grid = plan.grid, growth = plan.growth;
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
    if (!(gap > allowed) || out.upper <= enough || work > kMostWork) break;
    if (target.epsilon) {
      // The Chernoff bound, of which errors are kept a share, may be far above delta.
      const double of_errors = loss->delta_of_errors(epsilon);
      const double rest = std::max(loss->delta_upper(epsilon) - of_errors, 1e-9 * of_errors);
      const double wanted = std::log(1e-3) + std::log(rest) - std::log(of_errors);
      if (wanted < -1 && target.log_pad > kLeastPad) {
        target.log_pad = std::max(kLeastPad, target.log_pad + wanted);
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
  if (run.pairs.size() != 1 || run.counts[0] != 1) return false;
  const auto& gaussians = run.pairs[0].gaussians;
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
};

void delta_in(const Question& question, double epsilon, Bounds& out) {
  const Run run = run_of(question.mechanisms, question.adjacency, question.direction);
  if (epsilon >= run.highest) {
    out = {0, 0};
  } else if (integrable(run)) {
    double delta = hockey_stick(run.pairs[0], epsilon);
    // Less than a double holds is not nothing.
    out = {delta * (1 - kQuadrature),
           std::clamp(delta * (1 + kQuadrature), std::numeric_limits<double>::min(), 1.0)};
  } else if (epsilon < kMostEpsilon) {
    composed_bounds(run, {.epsilon = epsilon, .delta = std::nullopt}, question.effort,
                    question.enough, out);
  }
}

void epsilon_in(const Question& question, double delta, Bounds& out) {
  const Run run = run_of(question.mechanisms, question.adjacency, question.direction);
  out.upper = std::min(out.upper, run.highest);
  if (!integrable(run)) {
    composed_bounds(run, {.epsilon = std::nullopt, .delta = delta}, question.effort,
                    question.enough, out);
    return;
  }
  const LossPair& pair = run.pairs[0];
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
  WorkBudget::within(kQuestionUnits, [&] { epsilon_in(question, delta, out); });
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
  WorkBudget::within(kQuestionUnits, [&] { delta_in(question, epsilon, out); });
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
