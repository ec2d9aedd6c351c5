// The privacy loss of a whole run, from above and from below: the distributions of its steps
// composed by an FFT of their exponentially tilted form, with every error bounded and added
// (upper) or taken away (lower). policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <optional>
#include <vector>

#include "policy/privacy/blocks.h"
#include "policy/privacy/circle.h"
#include "policy/privacy/steps.h"

namespace souk::policy {

// What a composition is to be asked for; it decides the tilt, not the soundness.
struct Target {
  std::optional<double> epsilon = std::nullopt;
  std::optional<double> delta = std::nullopt;
  double log_pad = -11;  // what the bounds of the errors may be of delta, if that is possible
  // With a delta: where epsilon is known to be, about. Without it the Chernoff bound stands in,
  // which where rare large losses decide is far above.
  std::optional<double> near = std::nullopt;
  // The tilt, where it is part of something else that decides it.
  std::optional<double> tilt = std::nullopt;
};

class ComposedLoss {
 public:
  // Points of a window at most, of one kind of step and of several: 32 MiB of work.
  static constexpr size_t kMaxPoints = size_t{1} << 20, kMaxPointsOfSeveral = size_t{1} << 19;

  // A bound of epsilon without a transform: Chernoff at the best tilt, a few per cent above.
  static double epsilon_estimate(const Steps& steps, double delta);

  // The same of delta, its logarithm.
  static double log_delta_estimate(const Steps& steps, double epsilon);

  // Such a bound, proven, of all steps, at the tilt that is best for `guide`.
  static double epsilon_bound(const Steps& steps, const Steps& guide, double delta);

  // About how far the bounds of the answer will lie apart, without a transform: the moments of the
  // two distributions at the best tilt say it. Of epsilon, or, relatively, of delta.
  static double gap_estimate(const Steps& steps, const Target& target);

  // All steps on the one `grid`. Where the window outgrows `most` points there is none, and
  // *too_wide is the factor by which it does. `guide`: few steps that are about as much together,
  // by which the tilt is chosen; the steps themselves unless there are many.
  static std::optional<ComposedLoss> make(const Steps& steps, const Steps& guide, double grid,
                                          const Target& target, double* too_wide, size_t most);

  // Very many steps, or many kinds of them, block by block, on a circle of `points`, a power of
  // two. `guide`: those few of one step each on its finest grid. Nothing where its errors would
  // be too much.
  static std::optional<ComposedLoss> of_blocks(Blocks& blocks, const Steps& guide,
                                               const Target& target, size_t points);

  // Bounds of delta at epsilon and of epsilon at delta; epsilon is never negative, and
  // infinite where no finite one is certified.
  double delta_upper(double epsilon) const;
  double delta_lower(double epsilon) const;
  // How much of delta_upper stands for errors alone: log_pad decides it.
  double delta_of_errors(double epsilon) const;
  double epsilon_upper(double delta) const;
  double epsilon_lower(double delta) const;
  double tilt() const { return tilt_; }
  size_t points() const { return upper_.mass.size(); }

  // One of the two distributions: e^{log_scale} e^{-c x} mass[k] at x = start + k * grid.
  struct Side {
    double start = 0;
    double log_scale = 0;      // log of the moment at c
    double eta = 0;            // absolute error of all masses together
    double inflation = 0;      // relative error of everything else
    std::vector<double> mass;  // not negative
  };
  const Side& upper() const { return upper_; }
  const Side& lower() const { return lower_; }
  double grid() const { return grid_; }
  double infinite() const { return infinite_; }      // P-mass of what is cut off, or lies above
  double slack() const { return slack_; }            // what losses may be wrong by
  double loss_error() const { return loss_error_; }  // how much too high those of the lower are

 private:
  void cut(Circle::Masses&& masses, const double (&lows)[2], const double (&shifts)[2]);
  // Sums over x > epsilon of mass e^{-c (x - origin)} (1 - e^{epsilon - x}).
  double tail(const Side& side, double epsilon) const;
  double crossing(const Side& side, double delta, bool upper) const;
  double log_pad() const;

  double grid_ = 0, tilt_ = 0, infinite_ = 0, slack_ = 0, loss_error_ = 0;
  double origin_ = 0;  // about where it will be asked
  Side upper_, lower_;
};

}  // namespace souk::policy
