#include "policy/privacy/normal_limit.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace souk::policy {
namespace {

constexpr Bounds kNothing{0, std::numeric_limits<double>::infinity()};
constexpr double kTight = 1.0005;  // bounds: loud kinds are not looked for then
// Of delta, what may be cut off: as much as hardly counts, or, where rare losses decide, more.
constexpr double kRare[] = {1e-5, 1e-2, 0.15};
constexpr double kRareRun = 1e-6;    // runs in which one loss is so low that it is cut off
constexpr size_t kMostLoud = 32;     // kinds that are not taken for normal
constexpr size_t kPoints = 1 << 13;  // on which these are composed
constexpr double kFineness = 0.05;   // their finest grids, in deviations of a step
constexpr double kLittle = 1e-3;     // of delta: what the quiet ones have left is told down to that
constexpr double kNextTilt = 0.65;   // of theirs, over the one before
constexpr int kTilts = 12;

// Puts kinds[loud ...], which are those of `tilted`, in its order. How many are loud then.
size_t set_apart(const TiltedRun& tilted, std::vector<size_t>& kinds, size_t loud) {
  const auto before = kinds;
  const auto order = tilted.order();
  for (size_t i = 0; i < order.size(); ++i) kinds[loud + i] = before[loud + order[i]];
  return loud + tilted.loudest(kMostLoud - loud);
}

}  // namespace

Run NormalLimit::part(const std::vector<size_t>& kinds, size_t from, size_t to) const {
  std::vector<Mechanism> mechanisms;
  for (size_t i = from; i < to; ++i) mechanisms.push_back(run_.mechanisms[kinds[i]]);
  return run_of(std::move(mechanisms), run_.adjacency, run_.direction);
}

Bounds NormalLimit::bounds(std::optional<double> epsilon, bool of_epsilon) const {
  Bounds out = kNothing;
  auto take = [&](const Bounds& found) {
    out = {std::max(out.lower, found.lower), std::min(out.upper, found.upper)};
    return out.upper <= kTight * out.lower;
  };
  for (const double rare : kRare) {
    const Tilt tilt = tilt_for(guide_, epsilon, delta_, rare * delta_);
    const auto tilted = TiltedRun::of(run_, tilt);
    if (!tilted) continue;
    const QuietAndLoud all({}, SaddlePoint(*tilted), nullptr);
    if (take(of_epsilon ? all.epsilon(delta_) : all.delta(*epsilon))) break;
    // Loud kinds are composed once, which is dear; further cuts are tried where work is left.
    if (rare == kRare[0] && tilted->loudest(kMostLoud) > 0 &&
        take(with_loud(tilt, *tilted, epsilon, of_epsilon)))
      break;
  }
  return out;
}

Bounds NormalLimit::with_loud(const Tilt& tilt, const TiltedRun& tilted,
                              std::optional<double> epsilon, bool of_epsilon) const {
  std::vector<size_t> kinds(run_.mechanisms.size());
  std::iota(kinds.begin(), kinds.end(), size_t{0});
  size_t loud = set_apart(tilted, kinds, 0);
  // The others are to be next to normal also where they alone have little of delta left.
  Tilt far;
  Run quiet;
  for (size_t before = 0; before < loud;) {
    before = loud;
    quiet = part(kinds, loud, kinds.size());
    far = tilt_for(quiet.many() ? spokesmen_of(quiet) : quiet, std::nullopt, kLittle * delta_,
                   tilt.rare);
    const auto there = TiltedRun::of(quiet, far);
    if (there) loud = set_apart(*there, kinds, loud);
  }
  const Run few = part(kinds, 0, loud);
  const Fineness fineness{kFineness, 0.02, highest_, tilt.rare, kRareRun};
  Blocks blocks = blocks_of(few, fineness);
  Target target;
  (of_epsilon ? target.delta : target.epsilon) = of_epsilon ? delta_ : *epsilon;
  target.tilt = tilt.c, target.near = epsilon;
  const auto composed = ComposedLoss::of_blocks(blocks, finest(few, fineness), target, kPoints);
  const auto same = TiltedRun::of(quiet, tilt);
  if (!composed || !same) return kNothing;
  std::vector<SaddlePoint> points;
  for (int i = 0; i < kTilts; ++i, far.c *= kNextTilt) {
    if (const auto one = TiltedRun::of(quiet, far)) points.emplace_back(*one);
  }
  std::reverse(points.begin(), points.end());
  const QuietAndLoud all(std::move(points), SaddlePoint(*same), &*composed);
  return of_epsilon ? all.epsilon(delta_) : all.delta(*epsilon);
}

}  // namespace souk::policy
