// The sum of very many losses, once it is tilted, is next to normal, and how near is known: bounds
// from a few moments of each kind of step, that are the tighter the more steps there are. Where a
// few kinds are so loud that they spoil it, these are composed on a grid, and only the others are
// taken for normal. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <optional>
#include <vector>

#include "policy/privacy/bounds.h"
#include "policy/privacy/composition.h"
#include "policy/privacy/tilted.h"

namespace souk::policy {

// Losses that all steps of a run together reach with less than `rare` may count as infinite.
struct Tilt {
  double c = 0, rare = 0;
};

// The logarithm of the moment of all steps, by quadrature; few kinds. The run outlives this.
class TiltedPairs {
 public:
  TiltedPairs(const Run& run, double rare);
  double log_moment(double c) const;

 private:
  const Run& run_;
  std::vector<LossPair> kept_;
  std::vector<TiltedPair> pairs_;
};

// The tilt at which Chernoff's bound of these steps, of few kinds, is least: of delta at epsilon,
// or else of epsilon at delta.
Tilt tilt_for(const Run& run, std::optional<double> epsilon, double delta, double rare);

// The kinds of a run, tilted, the loudest first: by what one adds to the distance from a normal
// distribution, over what it adds to the variance.
class TiltedRun {
 public:
  // Nothing where one of its steps has no moments (TiltedPair::loss).
  static std::optional<TiltedRun> of(const Run& run, const Tilt& tilt);

  // The fewest loud ones, up to `most`, without which the others are about as near to normal as
  // they get.
  size_t loudest(size_t most) const;
  std::vector<size_t> order() const;  // of the run's kinds

 private:
  friend class SaddlePoint;
  struct Kind {
    size_t index;
    double count;
    TiltedLoss loss;
    double loudness() const { return loss.third / loss.variance; }
  };
  struct Sum {
    double log_moment = 0, log_kept = 0, mean = 0, deviation = 0;
    // How far it may be from normal (Berry and Esseen, with the constants of Shevtsova 2010 and, of
    // equal losses, 2011, 1111.6554).
    double apart = 0;
  };
  Sum sum(size_t loud) const;  // of all but so many

  double c_ = 0;
  std::vector<Kind> kinds_;
};

// Saddle-point accounting (Alghamdi et al. 2023, 2208.09595), with a proof: the normal limit of a
// tilted sum, and how far it may be off.
class SaddlePoint {
 public:
  explicit SaddlePoint(const TiltedRun& run) : c_(run.c_), sum_(run.sum(0)) {}

  // delta(epsilon), which may be below zero here: E[(1 - e^{epsilon - L})+], L the run's loss.
  // The first but for the losses that are cut off, of which there are so many.
  double delta_upper(double epsilon) const;
  double delta_lower(double epsilon) const;
  double cut_off() const { return -std::expm1(sum_.log_kept) * (1 + 1e-9); }
  // Chernoff's bound of it, its logarithm.
  double log_delta_most(double epsilon) const;
  double mean() const { return sum_.mean; }  // of the tilted sum
  double tilt() const { return c_; }
  double deviation() const { return sum_.deviation; }

 private:
  double log_scale(double epsilon, double sign) const;
  struct Given {
    double value, wrong;
  };
  // What the tilted sum gives of delta in units of e^{log_scale}, were it normal, and how wrong
  // that is.
  Given given(double epsilon) const;

  double c_;
  TiltedRun::Sum sum_;
};

// Quiet kinds, by their normal limits at several tilts, and a few loud ones, composed: delta of all
// is the mean of what the quiet ones have left at epsilon less the loss of the loud ones.
class QuietAndLoud {
 public:
  // quiet: in ascending order of their tilts, that of `loud` among them (`same`). Without loud ones
  // that one alone counts. `loud` outlives this.
  QuietAndLoud(std::vector<SaddlePoint> quiet, SaddlePoint same, const ComposedLoss* loud)
      : quiet_(std::move(quiet)), same_(std::move(same)), loud_(loud) {}

  Bounds delta(double epsilon) const { return {lower(epsilon), upper(epsilon)}; }
  // epsilon at delta, by delta(): infinite where no finite one is proven.
  Bounds epsilon(double delta) const;

 private:
  double upper(double epsilon) const;
  double lower(double epsilon) const;
  // Calls with those among which the best for this epsilon is.
  template <class Visit>
  void near(double epsilon, Visit&& visit) const;
  template <class Left>
  double mean(const ComposedLoss::Side& side, double epsilon, Left&& left) const;
  double errors(double epsilon) const;

  std::vector<SaddlePoint> quiet_;
  SaddlePoint same_;
  const ComposedLoss* loud_;
};

}  // namespace souk::policy
