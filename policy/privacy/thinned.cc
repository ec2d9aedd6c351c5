#include "policy/privacy/thinned.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/privacy/moments.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kUnit = 0x1p-53;
// How rare losses are to be in a step, since that much of the lower side is lost for each of them;
// of epsilon, where they begin at least, and at most.
constexpr double kMostInStep = 1e-4, kLeastLoss = 1.0 / 1000, kGreatestLoss = 1.0 / 3;
constexpr double kLosses = 0.3;   // of a run
constexpr double kCutOff = 1e-4;  // of delta: losses of a step that are rarer count as infinite
constexpr double kReaches[] = {1.1, 1.25, 1.5, 2};  // of the grid, in the greatest losses of a step
constexpr double kMostPoints = 1 << 13, kMostPointsAlone = 1 << 15;  // of the grid; of one kind
constexpr double kMoreSteps = 1.2;   // than a sum can have rare losses
constexpr size_t kPoints = 1 << 12;  // of what usual steps are composed on
constexpr double kRareRun = 1e-3;    // runs in which one loss is so low that it is cut off
constexpr double kRareHigh = 1e-5;   // of delta: or so high
constexpr double kLittle = 1e-3;     // of delta: what usual ones have left is told down to that
constexpr double kNextTilt = 0.12;   // of theirs, over the one before
constexpr double kNextLimit = 0.6;   // the same of normal limits
constexpr int kMostTilts = 40;
constexpr double kLeastTilt = 0.1;   // times their deviation
constexpr double kLossesOfMany = 3;  // of a run whose usual steps are taken to their normal limits
constexpr double kPlaces = 12;       // of the grid, in the least of the rare losses
constexpr double kMostPointsOfMany = 1 << 14;
constexpr double kLeastFar = 6;    // a tilt times how far below zero usual steps are asked
constexpr double kExactly = 1e-6;  // relatively

// Calls add(c), which says what deviation there is then, for tilts from that on at which usual
// steps have but a little of delta left at epsilon. The last of them.
template <class LogMoment, class Asked, class Add>
double at_tilts(LogMoment&& log_moment, const Asked& asked, double next, Add&& add) {
  const double far = best_tilt(log_moment, std::nullopt, std::log(kLittle * asked.delta)),
               near = best_tilt(log_moment, asked.epsilon, 0);
  double c = std::min(far, near);
  for (int i = 0; i < kMostTilts && c * add(c) > kLeastTilt; ++i) c *= next;
  return c;
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

// How far sums of losses reach that are not rarer than that, none of them being above `highest`.
double reach_of(const Steps& steps, double highest, double log_chance) {
  const Moments moments(steps, true);
  for (const double reach : kReaches) {
    auto log_beyond = [&](double log_c) {
      const double c = std::exp(log_c);
      return moments(c) - c * reach * highest;
    };
    if (log_beyond(argmin(log_beyond, -2.0, 14.0, 0.1)) < log_chance) return reach * highest;
  }
  return std::end(kReaches)[-1] * highest;
}

// How many steps there are of the kind that has the most losses above `loss` in a run.
double loudest_count(const Steps& steps, double loss) {
  double most = -1, count = 1;
  steps.for_each([&](size_t, const StepLoss& step) {
    double above = step.infinite;
    for (size_t k = step.at.size(); k-- > 0 && step.upper.loss[k] > loss;)
      above += step.upper.mass[k];
    if (step.count * above > most) most = step.count * above, count = step.count;
  });
  return count;
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

Thinned::Usual Thinned::composed(const Run& run, const Fineness& fineness, const Asked& asked) {
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
  Usual usual{std::move(out)};
  if (asked.below > 0) usual.far.emplace(steps, asked.below);
  return usual;
}

Thinned::Usual Thinned::limits(const Run& run, const Asked& asked) {
  std::vector<SaddlePoint> out;
  const double rare = kRareHigh * asked.delta;
  const TiltedPairs pairs(run, rare);
  auto add = [&](double c) {
    const auto tilted = TiltedRun::of(run, {c, rare});
    if (!tilted) return kInfinity;
    out.emplace_back(*tilted);
    return out.back().deviation();
  };
  const double c =
      at_tilts([&](double tilt) { return pairs.log_moment(tilt); }, asked, kNextLimit, add);
  if (c * asked.below > kLeastFar) add(kLeastFar / asked.below);
  return {std::move(out)};
}

std::optional<Thinned> Thinned::make(const Run& run, double epsilon, double delta, Usually usually,
                                     const Detail& detail) {
  // About: of one step's losses, how far they reach that are not too rare, and then their sums.
  const Resolution rough{snapped(0.3 * spread_of(run), run), 0.02, 1e9};
  const Steps coarse = discretised(run, rough);
  const double highest = std::min(rare_loss(coarse, kCutOff * delta), epsilon + 10),
               reach = reach_of(discretised(run, {rough.grid, rough.growth, highest}), highest,
                                std::log(kCutOff * delta));
  const bool many = usually == Usually::kLimits;
  const double points = many                     ? kMostPointsOfMany
                        : run.counts.size() == 1 ? kMostPointsAlone
                                                 : kMostPoints,
               least = reach / points;  // of a grid
  // The sums of rare losses ask for so many steps.
  const double told = (1 + 1e-9) * kMoreSteps * reach / loudest_count(coarse, kLeastLoss * epsilon);
  const double start =
      std::min(kGreatestLoss * epsilon,
               std::max({rare_from(coarse, kMostInStep, many ? kLossesOfMany : kLosses),
                         kLeastLoss * epsilon, kPlaces * least, told}));
  // Where they could not be told from nothing, no grid is fine enough.
  if (!(highest > 1.2 * start) || start < kPlaces * least) return std::nullopt;
  const double grid = std::max(least, std::min(detail.spacing * epsilon, start / kPlaces));
  Run cut = cut_at(run, start, kMoreSteps * reach / start);
  if (std::none_of(cut.cuts.begin(), cut.cuts.end(), [](double at) { return std::isfinite(at); }))
    return std::nullopt;
  Thinned out(RareLosses(cut, grid, static_cast<size_t>(reach / grid) + 2, highest));
  const Fineness fine{detail.fineness,   0.02,     highest,
                      kRareHigh * delta, kRareRun, Circle::Powers::kTransformed};
  const Asked asked{epsilon, delta, reach - epsilon};
  auto usual = [&] { return many ? limits(cut, asked) : composed(cut, fine, asked); };
  out.all_ = usual();
  if (std::visit([](const auto& curves) { return curves.empty(); }, out.all_.curves))
    return std::nullopt;
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
double Thinned::mean(const std::vector<double>& mass, const Usual& usual, double epsilon,
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
          if (rest < 0 && usual.far) most = std::max(most, left(*usual.far, rest));
          sum += mass[k] * most;
        }
        return sum * (1 + 4 * kUnit * static_cast<double>(mass.size()));
      },
      usual.curves);
}

double Thinned::upper(double epsilon) const {
  double cut_off = 0;
  if (const auto* limits = std::get_if<std::vector<SaddlePoint>>(&all_.curves)) {
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
