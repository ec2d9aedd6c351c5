#include "policy/privacy/composition.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace souk::policy {
namespace {

constexpr size_t kMostPointsOfAll = 1 << 25, kFewestPoints = 1 << 15;  // of the kinds of a list
constexpr size_t kMostKept = 64;           // kinds of steps that are kept; of more only a few
constexpr size_t kMostKeptTerms = 20'000;  // of their mixtures
constexpr double kCoarsest = 8;            // of a grid, of what that of a usual kind would be
constexpr double kLeastFine = 0.64;        // of its own deviations
constexpr size_t kSpokesmen = 24;          // of many kinds, how many are picked for each reason

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

}  // namespace

Run run_of(std::vector<Mechanism> mechanisms, Adjacency adjacency, Direction direction,
           std::vector<double> counts) {
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
    const Mechanism& one = run.mechanisms[i];
    return one.kind == Mechanism::Kind::kPure ? one.scale
                                              : static_cast<double>(one.records) / one.scale;
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

namespace {

// A step of that kind on that grid.
StepLoss step_of(const Run& run, size_t kind, Resolution resolution) {
  resolution.of.upto = run.cut(kind);
  return run.many() ? discretise(run.pair(kind), run.counts[kind], resolution)
                    : discretise(run.kept[kind], run.counts[kind], resolution);
}

StepLoss trimmed_step(const Run& run, size_t kind, double grid, const Fineness& fineness) {
  StepLoss step = step_of(run, kind, {grid, fineness.growth, fineness.highest});
  const double steps = run.counts[kind] * static_cast<double>(run.mechanisms.size());
  trim(step, fineness.above / steps, fineness.below / steps);
  return step;
}

// What is told apart of a kind's losses: its places can be counted.
double seen_spread(const Run& run, size_t kind, double fineness) {
  return std::max(run.spreads[kind], 1e-15 * run.extent / fineness);
}

}  // namespace

Steps discretised(const Run& run, const Resolution& resolution) {
  return Steps(run.mechanisms.size(),
               [&run, resolution](size_t i) { return step_of(run, i, resolution); });
}

Steps finest(const Run& run, const Fineness& fineness) {
  return Steps(run.mechanisms.size(), [&run, fineness](size_t i) {
    return trimmed_step(run, i, fineness.fineness * seen_spread(run, i, fineness.fineness),
                        fineness);
  });
}

Blocks blocks_of(const Run& run, const Fineness& fineness) {
  std::vector<Blocks::Kind> kinds;
  const double coarsest = std::clamp(kLeastFine / fineness.fineness, 1.0, kCoarsest);
  double all = 0;
  for (size_t i = 0; i < run.mechanisms.size(); ++i)
    all += run.counts[i] * run.spreads[i] * run.spreads[i];
  for (size_t i = 0; i < run.mechanisms.size(); ++i) {
    // What a kind adds to the error goes with the square of its grid: those that add little to the
    // whole are looked at less finely, but for atoms, which lie where they lie.
    const auto kind = run.mechanisms[i].kind;
    const bool atoms = kind == Mechanism::Kind::kLaplace || kind == Mechanism::Kind::kPure;
    const double share = run.counts[i] * run.spreads[i] * run.spreads[i] / all,
                 fair =
                     atoms ? 1 : 1 / std::sqrt(share * static_cast<double>(run.mechanisms.size()));
    kinds.push_back(
        {run.counts[i], seen_spread(run, i, fineness.fineness) * std::clamp(fair, 1.0, coarsest)});
  }
  return Blocks(
      std::move(kinds),
      [&run, fineness](size_t kind, double grid) {
        return trimmed_step(run, kind, grid, fineness);
      },
      fineness.fineness, fineness.powers, !run.cuts.empty());
}

double spread_of(const Run& run) {
  double variance = 0, count = 0;
  for (size_t i = 0; i < run.spreads.size(); ++i) {
    variance += run.counts[i] * run.spreads[i] * run.spreads[i];
    count += run.counts[i];
  }
  return std::sqrt(variance / count);
}

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

double snapped(double grid, const Run& run) {
  grid = std::max(grid, 1e-15 * run.extent);
  return run.edge > grid ? run.edge / std::ceil(run.edge / grid) : grid;
}

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

size_t most_points_of(const Run& run) {
  const size_t kinds = run.mechanisms.size();
  if (kinds == 1) return ComposedLoss::kMaxPoints;
  return std::clamp(std::bit_floor(kMostPointsOfAll / kinds), kFewestPoints,
                    ComposedLoss::kMaxPointsOfSeveral);
}

}  // namespace souk::policy
