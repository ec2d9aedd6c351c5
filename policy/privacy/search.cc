#include "policy/privacy/search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "policy/privacy/normal_limit.h"
#include "policy/privacy/thinned.h"
#include "policy/privacy/work.h"

namespace souk::policy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kMostWork = 3 << 19;  // points transformed before bounds are refined no more
constexpr size_t kFewPoints = 1 << 15;
constexpr double kLeastPad = -45;  // log of what errors may be of a Chernoff bound, at least
constexpr double kKappa = 0.05;    // grid, in deviations of a step: 2e-4 of epsilon
// Block by block where one grid would have to have more than so many times kFewPoints.
constexpr double kTooWide = 3;
constexpr double kManyKappa = 0.08;  // of blocks of many kinds
constexpr size_t kFewestLast = size_t{1} << 12, kMostLast = size_t{1} << 17;  // of the last grid
constexpr double kVeryMany = 1e6;  // steps, whose sum may be next to normal
// How far above delta Chernoff's bound lies where rare losses decide, alone or beside usual ones;
// logs.
constexpr size_t kMostThinned = 256;    // kinds
constexpr double kLeastDelta = 1e-280;  // of one rare loss
constexpr double kMostErrors = -9;      // of delta, their logarithm
constexpr double kLoose = 8, kLooseBeside = 12;
constexpr double kLooseAtAll = 3, kWide = 1.3;  // where nothing else has helped
constexpr double kSpacing = 1.0 / 300;          // of rare losses, in epsilon, at first
// Usual steps beside rare ones are taken to their normal limits, to which they are the nearer, the
// less they see; of more than so many they cannot be composed.
constexpr double kManySteps = 3e7, kVeryManySteps = 1e8;
constexpr double kRareRun = 1e-6;  // runs in which one loss is so low that it is cut off

// How far apart bounds may be: then the upper one is within 0.1 % of epsilon, 2 % of delta.
double allowed_gap(const Target& target, double upper) {
  return target.delta ? 9.8e-4 * upper + 9.5e-5 : 1.8e-2;
}

class Search {
 public:
  Search(const Run& run, const Target& target, Effort effort, double enough,
         std::optional<double> decide, Bounds& out)
      : run_(run),
        few_(run.many() ? spokesmen_of(run) : Run{}),
        guide_(run.many() ? few_ : run),
        target_(target),
        refine_(effort == Effort::kRefine),
        enough_(enough),
        decide_(decide),
        out_(out),
        steps_(std::accumulate(run.counts.begin(), run.counts.end(), 0.0)),
        spread_(spread_of(run)),
        coarse_(discretised(guide_, {snapped(0.3 * spread_, run), 0.02, 1e9})) {}

  void answer();

 private:
  // Losses of one step past this are infinite: that adds less than e^-10 of delta, or 1e-5 of it
  // where nothing else of it lies there.
  double reach() const { return std::min(epsilon_ + 10 + fall_, rare_); }
  std::optional<ComposedLoss> on_one_grid(double spacing, double* too_wide, size_t most) const;
  // Tightens the bounds. True where nothing is left to be gained, or wanted.
  bool take(const ComposedLoss& loss);
  bool take(Bounds found);
  // By what the tilted sum of very many losses comes to. True as of take().
  bool by_normal_limit();
  // Whether rare losses decide; if so, by what they come to. True as of take(), about.
  void look_for_rare();
  bool by_thinning();
  bool by_thinning(Thinned::Usually usually);
  // Where errors are too much of delta: what they may be. False where they are not.
  bool less_pad(const ComposedLoss& loss);
  void plan(double too_wide);
  // Block by block. False where that comes to nothing, and one grid may do better.
  bool by_blocks();

  const Run& run_;
  const Run few_;
  const Run& guide_;
  Target target_;
  const bool refine_;
  const double enough_;
  const std::optional<double> decide_;
  Bounds& out_;
  const double steps_, spread_;
  const Steps coarse_;
  double epsilon_ = 0, fall_ = 0, rare_ = kInfinity, highest_ = 0;
  double grid_ = 0, growth_ = 0.02, most_grid_ = 0;
  double gap_ = 0, allowed_ = 0;  // between the bounds
  struct {
    double about = 0, delta = 0;  // epsilon, about, and its delta, where one of them is asked
    double loose = 0;             // how far above Chernoff's bound lies, its logarithm, if far
    bool decide = false;          // so far that nothing else is worth while
    Thinned::Detail detail = {};
  } rare_losses_;
};

std::optional<ComposedLoss> Search::on_one_grid(double spacing, double* too_wide,
                                                size_t most) const {
  const Resolution resolution{spacing, growth_, highest_};
  const Steps steps = discretised(run_, resolution);
  if (!run_.many()) return ComposedLoss::make(steps, steps, spacing, target_, too_wide, most);
  return ComposedLoss::make(steps, discretised(guide_, resolution), spacing, target_, too_wide,
                            most);
}

bool Search::take(const ComposedLoss& loss) {
  if (!target_.delta)
    return take({loss.delta_lower(*target_.epsilon), loss.delta_upper(*target_.epsilon)});
  const bool settled =
      take({loss.epsilon_lower(*target_.delta), loss.epsilon_upper(*target_.delta)});
  if (std::isfinite(out_.upper)) target_.near = out_.upper;
  return settled;
}

bool Search::take(Bounds found) {
  // A delta that is less than a double holds is not nothing.
  if (target_.epsilon) found.upper = std::max(found.upper, std::numeric_limits<double>::min());
  out_.upper = std::min(out_.upper, found.upper);
  out_.lower = std::max(out_.lower, found.lower);
  gap_ = out_.upper - out_.lower;
  if (target_.epsilon) gap_ = out_.upper > 1e-290 ? gap_ / out_.upper : 0;
  allowed_ = allowed_gap(target_, out_.upper);
  if (decide_) {
    if (out_.upper <= *decide_ || out_.lower > *decide_) return true;
    allowed_ = 0.15 * gap_;
  }
  return std::isfinite(out_.upper) && (!(gap_ > allowed_) || out_.upper <= enough_);
}

bool Search::by_normal_limit() {
  if (target_.delta) {
    const NormalLimit limit(run_, guide_, highest_, *target_.delta);
    const Bounds first = limit.epsilon(std::nullopt);
    if (take(first)) return true;
    // Where the answer is known, so is where errors weigh least.
    return first.upper < 1.2 * first.lower && take(limit.epsilon(first.upper));
  }
  // Of delta, which is not known yet, only so much is to be cut off.
  double about = std::exp(ComposedLoss::log_delta_estimate(coarse_, epsilon_) - 3);
  for (int round = 0; round < 3; ++round) {
    const Bounds found = NormalLimit(run_, guide_, highest_, about).delta(*target_.epsilon);
    if (take(found)) return true;
    if (about <= 2 * found.lower) break;
    about = found.lower > 0 ? found.lower : 1e-4 * about;
  }
  return false;
}

void Search::look_for_rare() {
  if (run_.mechanisms.size() > kMostThinned) return;
  // Where one rare loss alone brings the run, and where usual ones do.
  const double delta = target_.delta ? *target_.delta : one_loss_delta(coarse_, epsilon_);
  const double one = target_.delta ? one_loss_epsilon(coarse_, delta) : epsilon_;
  if (!(one > 0 && delta > kLeastDelta)) return;
  const Run cut = cut_at(run_, one / 8, 1);
  const Steps usual = discretised(cut, {snapped(0.3 * spread_, run_), 0.02, 1e9});
  const double others = target_.delta ? ComposedLoss::epsilon_estimate(usual, delta)
                                      : ComposedLoss::log_delta_estimate(usual, epsilon_);
  const bool beside = others > (target_.delta ? one : std::log(delta));
  const double about = target_.delta ? std::max(one, others) : epsilon_,
               log_delta = target_.delta ? std::log(delta) : std::max(std::log(delta), others);
  rare_losses_.about = about, rare_losses_.delta = delta;
  rare_losses_.loose = ComposedLoss::log_delta_estimate(coarse_, about) - log_delta;
  rare_losses_.decide = rare_losses_.loose > (beside ? kLooseBeside : kLoose);
  if (!(rare_losses_.loose > kLooseAtAll)) rare_losses_.loose = 0;
  // The square of a spacing goes into the variance of the sum, whose half moves delta so steeply.
  const double slope =
      std::log(one_loss_delta(coarse_, about) / one_loss_delta(coarse_, 1.02 * about)) /
      (0.02 * about);
  double square = 0;
  for (size_t i = 0; i < cut.counts.size(); ++i)
    square += cut.counts[i] * cut.spreads[i] * cut.spreads[i];
  // Nothing is rare enough above that.
  if (!(slope > 0 && std::isfinite(slope) && square > 0)) rare_losses_.loose = 0;
  if (rare_losses_.loose == 0) return;
  const double allowed = allowed_gap(target_, about) / (target_.delta ? 1 : slope);
  rare_losses_.detail = {std::clamp(std::sqrt(allowed / (slope * square)), 0.03, 0.1), kSpacing};
}

bool Search::by_thinning() {
  rare_losses_.loose = 0;  // once
  const bool many = steps_ > kManySteps;
  // Near where one way gives place to the other, either may be the better.
  const bool both = many ? steps_ < kVeryManySteps : steps_ > kVeryMany;
  gap_ = kInfinity;
  for (const bool limits : {many, !many}) {
    if (limits != many && (!both || gap_ <= kWide * allowed_)) break;
    if (by_thinning(limits ? Thinned::Usually::kLimits : Thinned::Usually::kComposed)) return true;
  }
  return std::isfinite(out_.upper) && gap_ <= 2 * allowed_;
}

bool Search::by_thinning(Thinned::Usually usually) {
  auto [about, delta, loose, decide, detail] = rare_losses_;
  double before = kInfinity;
  bool finer = false;
  for (int round = 0; round < 5; ++round) {
    const auto thinned = Thinned::make(run_, about, delta, usually, detail);
    if (!thinned) return false;
    const Bounds found = target_.delta ? thinned->epsilon(delta, about) : thinned->delta(epsilon_);
    if (take(found)) return true;
    if (!std::isfinite(found.upper) || (finer && gap_ > 0.8 * before)) break;
    before = gap_;
    // Looked at for what was found, or else more finely.
    double& guess = target_.delta ? about : delta;
    finer = std::abs(found.upper - guess) < 0.3 * guess;
    if (finer) detail.fineness *= 0.4, detail.spacing *= 0.4;
    guess = found.upper;
  }
  return false;
}

bool Search::less_pad(const ComposedLoss& loss) {
  if (!target_.epsilon) return false;
  // The Chernoff bound, of which errors are kept a share, may be far above delta.
  const double of_errors = loss.delta_of_errors(epsilon_);
  const double rest = std::max(loss.delta_upper(epsilon_) - of_errors, 1e-9 * of_errors);
  const double wanted = std::log(1e-3) + std::log(rest) - std::log(of_errors);
  if (!(wanted < -1 && target_.log_pad > kLeastPad)) return false;
  target_.log_pad = std::max(kLeastPad, target_.log_pad + wanted);
  // Now that delta is known, about, so is which losses are too rare to matter.
  // Errors may be more than Chernoff's bound, and say nothing then.
  const double chernoff = std::exp(ComposedLoss::log_delta_estimate(coarse_, epsilon_));
  if (!run_.many())
    highest_ = std::min(highest_, rare_loss(coarse_, 1e-5 * std::min(rest, 1e-3 * chernoff)));
  return true;
}

void Search::plan(double too_wide) {
  if (target_.delta) {
    // A rough answer first: where it is decides what is worth while. Of many kinds it is that
    // of a few, which proves nothing.
    const double rough = snapped(grid_ * 2 * too_wide, guide_);
    const Steps steps = discretised(guide_, {rough, growth_, highest_});
    if (auto scout =
            ComposedLoss::make(steps, steps, rough, target_, &too_wide, most_points_of(run_))) {
      const double upper = scout->epsilon_upper(*target_.delta);
      if (!run_.many()) {
        out_.upper = std::min(out_.upper, upper);
        out_.lower = std::max(out_.lower, scout->epsilon_lower(*target_.delta));
        if (out_.upper <= enough_) return;
      }
      if (std::isfinite(upper)) epsilon_ = upper, target_.near = epsilon_;
      highest_ = reach();
    }
  }
  // By moments, which see rare losses where they are: nothing is cut off for them.
  const auto plan = planned(guide_, target_, allowed_gap(target_, epsilon_), most_grid_,
                            {grid_, growth_, target_.epsilon ? highest_ : epsilon_ + 10 + fall_});
  grid_ = plan.grid, growth_ = run_.many() ? std::max(plan.growth, 0.01) : plan.growth;
}

bool Search::by_blocks() {
  const size_t kinds = run_.mechanisms.size();
  // On the last grid each kind is moved once more: the more of them, the finer it is.
  const size_t points =
      std::clamp(std::bit_ceil(static_cast<size_t>(600 * std::sqrt(static_cast<double>(kinds)))),
                 kFewestLast, kMostLast);
  double log_delta = target_.delta ? std::log(*target_.delta)
                                   : ComposedLoss::log_delta_estimate(coarse_, epsilon_) - 3;
  double fineness = run_.many() ? kManyKappa : kKappa, sparse = 0.02;
  for (int round = 0, most = run_.many() || !refine_ ? 2 : decide_ ? 5 : 3; round < most; ++round) {
    const Fineness now{fineness, sparse, highest_, std::exp(log_delta + std::log(1e-5)), kRareRun};
    Blocks blocks = blocks_of(run_, now);
    const auto loss = ComposedLoss::of_blocks(blocks, finest(guide_, now), target_, points);
    if (!loss) return false;
    const double before = gap_;
    if (take(*loss)) return true;
    if (less_pad(*loss)) {
      log_delta = std::log(std::max(out_.lower, 1e-2 * out_.upper));
      continue;
    }
    if (round > 0 && gap_ > 0.9 * before) break;
    const double shrink = std::clamp(0.9 * std::sqrt(allowed_ / gap_), 0.2, 0.8);
    fineness *= shrink, sparse = std::max(sparse * shrink, 1e-3);
    if (round > 1) target_.log_pad -= 2;
  }
  return gap_ <= 2 * allowed_gap(target_, out_.upper);
}

void Search::answer() {
  epsilon_ =
      target_.epsilon ? *target_.epsilon : ComposedLoss::epsilon_estimate(coarse_, *target_.delta);
  if (!std::isfinite(epsilon_)) return;
  epsilon_ = std::max(0.0, epsilon_);
  fall_ = usual_fall(coarse_, guide_);
  // Of many kinds each has its own.
  if (target_.delta && !run_.many()) rare_ = rare_loss(coarse_, 1e-5 * *target_.delta);
  highest_ = reach();
  look_for_rare();
  bool settled = false;
  auto thinned = [&] {
    WorkBudget::within(question_units(run_.mechanisms.size()) / 2,
                       [&] { settled = rare_losses_.loose > 0 && by_thinning(); });
    return settled;
  };
  if (steps_ >= kVeryMany || run_.many()) {
    const uint64_t units = question_units(run_.mechanisms.size());
    WorkBudget::within(run_.many() ? units / 2 : units / 3, [&] { settled = by_normal_limit(); });
    if (settled) return;
  }
  // Where the errors of a transform, which grow with the steps, would be too much of delta.
  const double log_errors = std::log(3e-13 + std::min(steps_ * 5e-15, 2e-7));
  if (rare_losses_.decide && rare_losses_.loose + log_errors > kMostErrors && thinned()) return;
  if (run_.many() && target_.delta && epsilon_ <= enough_) {
    const Resolution rough{snapped(0.3 * spread_, run_), 0.05, highest_};
    out_.upper = std::min(out_.upper,
                          ComposedLoss::epsilon_bound(discretised(run_, rough),
                                                      discretised(guide_, rough), *target_.delta));
    if (out_.upper <= enough_) return;
  }
  most_grid_ = 0.003 * std::max(epsilon_, 0.03);
  grid_ = std::min(kKappa * spread_, most_grid_);
  const size_t max_points = most_points_of(run_);
  // Past few points it is worth while to look for a better plan.
  size_t most_points = std::min(kFewPoints, max_points);
  bool planning = true;
  double least = 0;  // no finer grid fits
  size_t work = 0;
  const int rounds = !refine_ || run_.many() ? 1 : decide_ ? 8 : 5;
  for (int round = 0, tries = 0; round < rounds && tries < 20; ++tries) {
    grid_ = snapped(grid_, run_);
    double too_wide = 0;
    auto loss = on_one_grid(grid_, &too_wide, most_points);
    if (!loss && planning && too_wide > 0 && std::isfinite(too_wide)) {
      planning = false;
      most_points = max_points;
      if (epsilon_ <= enough_) continue;  // nothing hangs on it
      if (rare_losses_.decide && thinned()) break;
      if ((run_.many() || too_wide > kTooWide) && by_blocks()) break;
      plan(too_wide);
      if (target_.delta && !run_.many() && out_.upper <= enough_) break;
      continue;
    }
    if (!loss) {
      if (!(too_wide > 0) || !std::isfinite(too_wide)) return;
      least = grid_ *= 1.05 * std::max(1.0, too_wide);  // looser, still sound
      continue;
    }
    ++round;
    work += loss->points();
    if (take(*loss)) break;
    if (run_.many() && planning) {
      by_blocks();
      break;
    }
    // No finer grid fits: what is left to gain is little.
    const bool at_end = loss->points() == max_points && !decide_ && gap_ <= 2 * allowed_;
    if (work > kMostWork || at_end) break;
    if (less_pad(*loss)) {
      --round;
      continue;
    }
    // Both errors go with the square of the spacing.
    const double shrink = std::clamp(0.9 * std::sqrt(allowed_ / gap_), 0.2, 0.8);
    const double finer = std::max(grid_ * shrink, least),
                 sparser = std::max(growth_ * shrink, 1e-3);
    if (finer > 0.97 * grid_ && sparser > 0.97 * growth_ && round > 2) break;
    grid_ = std::min(grid_, finer);
    growth_ = sparser;
    if (round > 1) target_.log_pad -= 2;
  }
  if (refine_ && !decide_ && out_.upper > enough_ && gap_ > kWide * allowed_) thinned();
  // Each on its own side of the exact value, but for roundings.
  if (out_.lower > out_.upper) std::swap(out_.lower, out_.upper);
}

}  // namespace

void composed_bounds(const Run& run, const Target& target, Effort effort, double enough,
                     std::optional<double> decide, Bounds& out) {
  Search(run, target, effort, enough, decide, out).answer();
}

}  // namespace souk::policy
