#include "policy/privacy/bounds.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

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
constexpr size_t kMostPointsOfAll = 1 << 25, kFewestPoints = 1 << 15;  // of the kinds of a list
constexpr double kLeastPad = -45;         // log of what errors may be of a Chernoff bound, at least
constexpr double kMostEpsilon = 1e9;      // a greater one is not asked of a grid
constexpr double kMostIntegratedMu = 20;  // of a Gaussian: beyond, the closed form
constexpr double kKappa = 0.05;           // grid, in deviations of a step: 2e-4 of epsilon

constexpr size_t kMostKept = 64;           // kinds of steps that are kept; of more only a few
constexpr size_t kMostKeptTerms = 20'000;  // of their mixtures
constexpr size_t kSpokesmen = 24;          // of many kinds, how many are picked for each reason

// One composition to be asked in one direction.
struct Run {
  std::vector<Mechanism> mechanisms;
  Adjacency adjacency;
  Direction direction;
  std::vector<double> counts, spreads;
  std::vector<LossPair> kept;  // empty where there are too many
  double highest = 0;          // no outcome of the whole run has a greater loss
  double extent = 0;           // losses of one step lie within this of zero, or are cut off
  double edge = 0;             // of the first atom, if there is one

  LossPair pair(size_t i) const {
    return kept.empty() ? dominating_pair(mechanisms[i], adjacency, direction) : kept[i];
  }
  bool many() const { return kept.empty(); }
};

// Losses of one step lie within this of zero. Beyond 10^10 they are cut off.
double extent_of(const LossPair& pair) {
  double out = 0;
  for (const auto& [weight, part] : pair.gaussians) {
    out = std::max(out, -std::max(part.lowest_loss(), part.loss(part.lowest_outcome())));
    out = std::max(out, std::min(part.highest_loss(), part.loss(part.highest_outcome())));
  }
  for (const auto& laplace : pair.laplaces) out = std::max(out, laplace.edge);
  for (const auto& atom : pair.atoms) out = std::max(out, std::abs(atom.loss));
  return std::min(out, 1e10);
}

// `counts`: how often each runs, where that is not its own number of steps.
Run run_of(std::vector<Mechanism> mechanisms, Adjacency adjacency, Direction direction,
           std::vector<double> counts = {}) {
  Run run{std::move(mechanisms), adjacency, direction, std::move(counts), {}, {}};
  size_t terms = 0;
  for (const auto& mechanism : run.mechanisms) {
    if (run.counts.size() < run.mechanisms.size())
      run.counts.push_back(static_cast<double>(mechanism.steps));
    terms += mechanism.records;
  }
  const bool keep =
      run.mechanisms.size() == 1 || (run.mechanisms.size() <= kMostKept && terms <= kMostKeptTerms);
  for (size_t i = 0; i < run.mechanisms.size(); ++i) {
    LossPair pair = dominating_pair(run.mechanisms[i], adjacency, direction);
    run.spreads.push_back(pair.spread);
    run.highest += run.counts[i] * pair.highest_loss();
    run.extent = std::max(run.extent, extent_of(pair));
    if (run.edge == 0 && !pair.atoms.empty()) run.edge = std::abs(pair.atoms[0].loss);
    if (keep) run.kept.push_back(std::move(pair));
  }
  run.highest *= 1 + 1e-15 * static_cast<double>(1 + run.mechanisms.size());
  return run;
}

// A few kinds that stand for many in what decides no more than how the many are looked at: the
// loudest and those that spend most as they are, of the others each stands for a share.
Run spokesmen_of(const Run& run) {
  std::vector<size_t> order(run.mechanisms.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<Mechanism> chosen;
  std::vector<double> counts;
  // The first kSpokesmen of those that are left in this order.
  auto take = [&](auto&& size) {
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return size(a) > size(b); });
    const size_t most = std::min(kSpokesmen, order.size());
    for (size_t i = 0; i < most; ++i) {
      chosen.push_back(run.mechanisms[order[i]]);
      counts.push_back(run.counts[order[i]]);
    }
    order.erase(order.begin(), order.begin() + static_cast<ptrdiff_t>(most));
  };
  auto spent = [&](size_t i) { return run.counts[i] * run.spreads[i] * run.spreads[i]; };
  take(spent);
  take([&](size_t i) {
    return static_cast<double>(run.mechanisms[i].records) / run.mechanisms[i].scale;
  });
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return run.spreads[a] > run.spreads[b]; });
  for (size_t s = 0; s < kSpokesmen && !order.empty(); ++s) {
    const size_t from = s * order.size() / kSpokesmen, to = (s + 1) * order.size() / kSpokesmen;
    if (from == to) continue;
    double all = 0;
    for (size_t i = from; i < to; ++i) all += spent(order[i]);
    const size_t middle = order[(from + to) / 2];
    chosen.push_back(run.mechanisms[middle]);
    counts.push_back(all / (run.spreads[middle] * run.spreads[middle]));
  }
  return run_of(std::move(chosen), run.adjacency, run.direction, std::move(counts));
}

// `run` outlives what is returned.
Steps discretised(const Run& run, const Resolution& resolution) {
  return Steps(run.mechanisms.size(), [&run, resolution](size_t i) {
    return run.kept.empty() ? discretise(run.pair(i), run.counts[i], resolution)
                            : discretise(run.kept[i], run.counts[i], resolution);
  });
}

double spread_of(const Run& run) {
  double variance = 0, count = 0;
  for (size_t i = 0; i < run.spreads.size(); ++i) {
    variance += run.counts[i] * run.spreads[i] * run.spreads[i];
    count += run.counts[i];
  }
  return std::sqrt(variance / count);
}

// How far the many usual steps may carry the sum below zero: a rare large loss must be
// larger by that to matter.
double usual_fall(const Steps& steps, const Run& run) {
  double mean = 0, variance = 0;
  steps.for_each([&](size_t i, const StepLoss& step) {
    double reach = 5 * run.spreads[i], m = 0, v = 0;
    for (size_t k = 0; k < step.at.size(); ++k) {
      double loss = step.upper.loss[k], mass = step.upper.mass[k];
      if (std::abs(loss) > reach) continue;
      m += mass * loss;
      v += mass * loss * loss;
    }
    mean += step.count * m;
    variance += step.count * v;
  });
  return std::max(0.0, 6 * std::sqrt(variance) - mean);
}

// A loss that hardly one run in 1 / `chance` sees in any of its steps.
double rare_loss(const Steps& steps, double chance) {
  double out = 0;
  steps.for_each([&](size_t, const StepLoss& step) {
    const auto& side = step.upper;
    double mass = step.infinite;
    size_t k = side.mass.size();
    while (k > 1 &&
           (mass + side.mass[k - 1]) * step.count * static_cast<double>(steps.size()) < chance)
      mass += side.mass[--k];
    out = std::max(out, side.loss[k - 1]);
  });
  return out;
}

// A grid on which the first atom, if there is one, is a point, and whose points can be counted.
double snapped(double grid, const Run& run) {
  grid = std::max(grid, 1e-15 * run.extent);
  return run.edge > grid ? run.edge / std::ceil(run.edge / grid) : grid;
}

// How far apart bounds may be: then the upper one is within 0.1 % of epsilon, 2 % of delta.
double allowed_gap(const Target& target, double upper) {
  return target.delta ? 9.8e-4 * upper + 9.5e-5 : 1.8e-2;
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

// Points of a window at most: of many kinds fewer each.
size_t most_points_of(const Run& run) {
  const size_t kinds = run.mechanisms.size();
  if (kinds == 1) return ComposedLoss::kMaxPoints;
  return std::clamp(std::bit_floor(kMostPointsOfAll / kinds), kFewestPoints,
                    ComposedLoss::kMaxPointsOfSeveral);
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
