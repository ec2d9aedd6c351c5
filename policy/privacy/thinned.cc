#include "policy/privacy/thinned.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "policy/privacy/moments.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
// How rare losses are to be in a step, since that much of the lower side is lost for each of them;
// of epsilon, where they begin at least, and at most.
constexpr double kMostInStep = 1e-4, kLeastLoss = 1.0 / 1000, kGreatestLoss = 1.0 / 3;
constexpr double kLosses = 0.3;         // of a run
constexpr double kSpacing = 1.0 / 300;  // of epsilon
constexpr double kCutOff = 1e-4;  // of delta: losses of a step that are rarer count as infinite
constexpr double kReach = 2;      // of the grid, in the greatest losses of a step
constexpr double kMostPoints = 1 << 13;  // of the grid
constexpr size_t kPoints = 1 << 12;      // of what usual steps are composed on
constexpr double kRareRun = 1e-3;        // runs in which one loss is so low that it is cut off
constexpr double kRareHigh = 1e-5;       // of delta: or so high
constexpr double kLittle = 1e-3;         // of delta: what usual ones have left is told down to that
constexpr double kNextTilt = 0.25;       // of theirs, over the one before
constexpr double kNextLimit = 0.6;       // the same of normal limits
constexpr int kMostTilts = 40;
constexpr double kLeastTilt = 0.1;  // times their deviation
// More steps are taken to their normal limits, to which they are the nearer, the less they see.
constexpr double kManySteps = 3e7, kLossesOfMany = 10;
constexpr double kPlaces = 12;  // of the grid, in the least of the rare losses
constexpr double kMostPointsOfMany = 1 << 14;
constexpr double kLeastFar = 6;    // a tilt times how far below zero usual steps are asked
constexpr double kExactly = 1e-6;  // relatively

// Calls add(c), which says what deviation there is then, for tilts from that on at which usual
// steps have but a little of delta left at epsilon, down to that at which they can be told that far
// below.
template <class LogMoment, class Asked, class Add>
void at_tilts(LogMoment&& log_moment, const Asked& asked, double next, Add&& add) {
  const double far = best_tilt(log_moment, std::nullopt, std::log(kLittle * asked.delta)),
               near = best_tilt(log_moment, asked.epsilon, 0);
  double c = std::min(far, near);
  for (int i = 0; i < kMostTilts && c * add(c) > kLeastTilt; ++i) c *= next;
  if (c * asked.below > kLeastFar) add(kLeastFar / asked.below);
}

// Where losses begin that a step sees more rarely than that, and of which a run sees no more.
double rare_from(const Steps& steps, double in_step, double in_run) {
  double out = 0;
  const auto kinds = static_cast<double>(steps.size());
  steps.for_each([&](size_t, const StepLoss& step) {
    const auto& [offset, loss, mass] = step.upper;
    const double most = std::min(in_step, in_run / step.count) / kinds;
    size_t k = mass.size();
    for (double above = 0; k > 1 && (above += mass[k - 1]) < most;) --k;
    out = std::max(out, loss[k - 1]);
  });
  return out;
}

}  // namespace

DeltaCurve::DeltaCurve(ComposedLoss&& loss)
    : loss_(std::move(loss)), upper_(sums_of(loss_.upper())), lower_(sums_of(loss_.lower())) {}

DeltaCurve::Sums DeltaCurve::sums_of(const ComposedLoss::Side& side) const {
  const double grid = loss_.grid(), fall = std::exp(-loss_.tilt() * grid), keep = std::exp(-grid),
               gain = -std::expm1(-grid);
  Sums out;
  out.all.resize(side.mass.size()), out.counted.resize(side.mass.size());
  double all = 0, counted = 0;
  for (size_t k = side.mass.size(); k-- > 0;) {
    counted = fall * (keep * counted + gain * all);
    all = fall * all + side.mass[k];
    out.all[k] = all, out.counted[k] = counted;
  }
  return out;
}

// In units of e^{log_scale - c epsilon}.
double DeltaCurve::tail(const ComposedLoss::Side& side, const Sums& sums, double epsilon) const {
  const double place = std::ceil((epsilon - side.start) / loss_.grid());
  if (!(place < static_cast<double>(side.mass.size()))) return 0;
  const auto k = static_cast<size_t>(std::max(0.0, place));
  const double up = std::max(0.0, side.start + static_cast<double>(k) * loss_.grid() - epsilon);
  return std::exp(-loss_.tilt() * up) *
         (std::exp(-up) * sums.counted[k] - std::expm1(-up) * sums.all[k]);
}

double DeltaCurve::errors() const {
  return std::exp(log_most(loss_.tilt())) * loss_.upper().eta;
}

double DeltaCurve::delta_upper(double epsilon) const {
  const auto& side = loss_.upper();
  const double at = epsilon - loss_.slack(), front = side.log_scale - loss_.tilt() * at;
  const double rounding =
      4 * kUnit *
      (static_cast<double>(4 * side.mass.size()) + std::abs(front) + std::abs(loss_.tilt() * at));
  const double sum = tail(side, upper_, at) * (1 + side.inflation) * (1 + rounding) + errors();
  return std::min(
      1.0, std::exp(std::min(0.0, front + std::log(sum))) * (1 + rounding) + loss_.infinite());
}

double DeltaCurve::delta_lower(double epsilon) const {
  const auto& side = loss_.lower();
  const double at = epsilon + loss_.slack() + loss_.loss_error(),
               front = side.log_scale - loss_.tilt() * at;
  const double rounding =
      4 * kUnit *
      (static_cast<double>(4 * side.mass.size()) + std::abs(front) + std::abs(loss_.tilt() * at));
  const double sum = tail(side, lower_, at) * (1 - side.inflation) * (1 - rounding) - errors();
  return sum > 0 ? std::exp(std::min(0.0, front + std::log(sum))) * (1 - rounding) : 0;
}

double one_loss_delta(const Steps& steps, double epsilon) {
  double out = 0;
  steps.for_each([&](size_t, const StepLoss& step) {
    const auto& [offset, loss, mass] = step.upper;
    double one = step.infinite;
    for (size_t k = mass.size(); k-- > 0 && loss[k] > epsilon;)
      one += mass[k] * -std::expm1(epsilon - loss[k]);
    out += step.count * one;
  });
  return out;
}

double one_loss_epsilon(const Steps& steps, double delta) {
  double low = 0, high = 1e-3;
  if (one_loss_delta(steps, 0) <= delta) return 0;
  while (one_loss_delta(steps, high) > delta && high < 1e9) low = high, high *= 2;
  for (int i = 0; i < 20; ++i) {
    const double middle = 0.5 * (low + high);
    (one_loss_delta(steps, middle) > delta ? low : high) = middle;
  }
  return high;
}

Thinned::Curves Thinned::composed(const Run& run, const Fineness& fineness, const Asked& asked) {
  std::vector<DeltaCurve> out;
  const Steps steps = finest(run, fineness);
  const Moments moments(steps, true);
  Blocks blocks = blocks_of(run, fineness);
  at_tilts(moments, asked, kNextTilt, [&](double c) {
    Target target;
    target.tilt = c, target.near = asked.epsilon;
    auto loss = ComposedLoss::of_blocks(blocks, steps, target, kPoints);
    if (loss) out.emplace_back(std::move(*loss));
    return 1.5 / reaches_of(moments, c, moments(c), 0)[0];
  });
  return out;
}

Thinned::Curves Thinned::limits(const Run& run, const Asked& asked) {
  std::vector<SaddlePoint> out;
  const double rare = kRareHigh * asked.delta;
  const TiltedPairs pairs(run, rare);
  at_tilts([&](double c) { return pairs.log_moment(c); }, asked, kNextLimit,
           [&](double c) {
             const auto tilted = TiltedRun::of(run, {c, rare});
             if (!tilted) return kInfinity;
             out.emplace_back(*tilted);
             return out.back().deviation();
           });
  return out;
}

std::optional<Thinned> Thinned::make(const Run& run, double epsilon, double delta,
                                     double fineness) {
  // About: of one step's losses, how far they reach that are not too rare.
  const Steps coarse = discretised(run, {snapped(0.3 * spread_of(run), run), 0.02, 1e9});
  const double highest = std::min(rare_loss(coarse, kCutOff * delta), epsilon + 10);
  const bool many = std::accumulate(run.counts.begin(), run.counts.end(), 0.0) > kManySteps;
  const double least = kReach * highest / (many ? kMostPointsOfMany : kMostPoints);  // of a grid
  const double start =
      std::min(kGreatestLoss * epsilon,
               std::max({rare_from(coarse, kMostInStep, many ? kLossesOfMany : kLosses),
                         kLeastLoss * epsilon, kPlaces * least}));
  // Where they could not be told from nothing, no grid is fine enough.
  if (!(highest > 1.2 * start) || start < kPlaces * least) return std::nullopt;
  const double grid = std::max(least, std::min(kSpacing * epsilon, start / kPlaces));
  // As the sums of rare losses ask for.
  Run cut = cut_at(run, start, 1.2 * kReach * highest / start);
  if (std::none_of(cut.cuts.begin(), cut.cuts.end(), [](double at) { return std::isfinite(at); }))
    return std::nullopt;
  Thinned out(RareLosses(cut, grid, static_cast<size_t>(kReach * highest / grid) + 2, highest));
  const Fineness fine{fineness,          0.02,     highest,
                      kRareHigh * delta, kRareRun, Circle::Powers::kTransformed};
  const Asked asked{epsilon, delta, kReach * highest - epsilon};
  auto usual = [&] { return many ? limits(cut, asked) : composed(cut, fine, asked); };
  out.all_ = usual();
  if (std::visit([](const auto& curves) { return curves.empty(); }, out.all_)) return std::nullopt;
  double fewest = kInfinity;
  for (size_t i = 0; i < cut.counts.size(); ++i) {
    if (std::isfinite(cut.cut(i)))
      fewest = std::min(fewest, cut.counts[i] -= out.rare_.most_rare());
  }
  if (fewest > 0) out.fewer_ = usual();
  return out;
}

// The sum over the masses of the rare ones of what `left` says of each curve at `epsilon` less
// their loss, at the place's best curve, or one next to it: the greatest.
template <class Left>
double Thinned::mean(const std::vector<double>& mass, const Curves& all, double epsilon,
                     Left&& left) const {
  WorkBudget::pay(10 * mass.size());
  return std::visit(
      [&](const auto& curves) {
        double sum = 0;
        size_t best = 0;
        for (size_t k = 0; k < mass.size() && !curves.empty(); ++k) {
          if (mass[k] == 0) continue;
          const double rest = epsilon - static_cast<double>(k) * rare_.grid();
          double most = left(curves[best], rest);
          // Curves are in descending order of their tilts.
          while (best + 1 < curves.size()) {
            const double next = left(curves[best + 1], rest);
            if (next < most) break;
            most = next, ++best;
          }
          sum += mass[k] * most;
        }
        return sum * (1 + 4 * kUnit * static_cast<double>(mass.size()));
      },
      all);
}

double Thinned::upper(double epsilon) const {
  double cut_off = 0;
  if (const auto* limits = std::get_if<std::vector<SaddlePoint>>(&all_)) {
    for (const auto& limit : *limits) cut_off = std::max(cut_off, limit.cut_off());
  }
  const double sum = -mean(rare_.upper(), all_, epsilon, [](const auto& curve, double rest) {
    return -std::min(1.0, curve.delta_upper(rest));
  });
  return std::min(1.0, sum * (1 + rare_.inflation()) + (rare_.infinite() + cut_off) * (1 + 1e-15));
}

double Thinned::lower(double epsilon) const {
  const double sum = mean(rare_.lower(), fewer_, epsilon + rare_.lowered(),
                          [](const auto& curve, double rest) { return curve.delta_lower(rest); });
  const double rounding = 8 * kUnit * static_cast<double>(rare_.lower().size());
  return std::max(0.0, sum * std::exp(rare_.log_left()) * (1 - rounding));
}

namespace {

struct Place {
  double epsilon, over;  // log of a bound of delta there, over what is asked
};

// Two places close together, at the first of which the bound is too much, and at the second not;
// infinite where there is no second, below 0 where there is no first.
template <class Over>
std::pair<double, double> crossing(Over&& over, double near) {
  Place low{near, over(near)}, high = low;
  for (int i = 0; i < 60 && high.over > 0; ++i)
    low = high, high.epsilon *= 1.2, high.over = over(high.epsilon);
  if (high.over > 0) return {high.epsilon, kInfinity};
  while (!(low.over > 0)) {
    high = low;
    if (low.epsilon == 0) return {-1, 0};
    low.epsilon = low.epsilon > 1e-3 * near ? 0.8 * low.epsilon : 0;
    low.over = over(low.epsilon);
  }
  for (int i = 0; i < 80 && high.epsilon - low.epsilon > kExactly * high.epsilon; ++i) {
    const double width = high.epsilon - low.epsilon,
                 share = std::isfinite(high.over) && i % 3 != 2
                             ? std::clamp(low.over / (low.over - high.over), 0.02, 0.98)
                             : 0.5;
    Place middle{low.epsilon + share * width, 0};
    middle.over = over(middle.epsilon);
    (middle.over > 0 ? low : high) = middle;
  }
  return {low.epsilon, high.epsilon};
}

}  // namespace

Bounds Thinned::epsilon(double delta, double near) const {
  auto over = [&](double bound) { return std::log(bound) - std::log(delta); };
  return {std::max(0.0, crossing([&](double at) { return over(lower(at)); }, near).first),
          crossing([&](double at) { return over(upper(at)); }, near).second};
}

}  // namespace souk::policy
