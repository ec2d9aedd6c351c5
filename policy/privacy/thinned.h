// Runs in which rare losses decide, so that no tilt makes the sum of all next to normal: each step
// has either a usual outcome or one of a rare great loss. The usual ones are composed at several
// tilts, the rare ones by themselves, and delta is the mean of what the usual ones have left at
// epsilon less the loss of the rare ones. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "policy/privacy/bounds.h"
#include "policy/privacy/compose.h"
#include "policy/privacy/composition.h"
#include "policy/privacy/far_below.h"
#include "policy/privacy/rare.h"
#include "policy/privacy/saddle.h"

namespace souk::policy {

// Bounds of delta at any epsilon, found once for a composition.
class DeltaCurve {
 public:
  explicit DeltaCurve(ComposedLoss&& loss);
  double delta_upper(double epsilon) const;
  double delta_lower(double epsilon) const;

 private:
  // In units of their side, from a place of it upwards: all masses e^{-c d}, d being how far above
  // it they lie, and e^{-c d} (1 - e^{-d}) of them.
  struct Sums {
    std::vector<double> all, counted;
  };
  Sums sums_of(const ComposedLoss::Side& side) const;
  double tail(const ComposedLoss::Side& side, const Sums& sums, double epsilon) const;
  double errors() const;

  ComposedLoss loss_;
  Sums upper_, lower_;
};

// delta at epsilon, about, by one loss of any of the steps alone; and the other way round.
double one_loss_delta(const Steps& steps, double epsilon);
double one_loss_epsilon(const Steps& steps, double delta);

class Thinned {
 public:
  // A run whose kinds are kept, asked for delta at about `epsilon` or the other way round. Nothing
  // where there are no such losses, or the usual ones cannot be composed. The run outlives this.
  // Usual steps are composed block by block, or taken to their normal limits.
  // `fineness`: of the finest grid of the usual ones, in deviations of a step; `spacing`: of that
  // of the rare ones, in epsilon.
  enum class Usually : uint8_t { kComposed, kLimits };
  struct Detail {
    double fineness = 0, spacing = 0;
  };
  static std::optional<Thinned> make(const Run& run, double epsilon, double delta, Usually usually,
                                     const Detail& detail);

  Bounds delta(double epsilon) const { return {lower(epsilon), upper(epsilon)}; }
  // epsilon at delta; `near`: about where it is. Infinite where no finite one is proven.
  Bounds epsilon(double delta, double near) const;

 private:
  explicit Thinned(RareLosses&& rare) : rare_(std::move(rare)) {}
  double upper(double epsilon) const;
  double lower(double epsilon) const;
  // Of usual steps, tilted less and less.
  using Curves = std::variant<std::vector<DeltaCurve>, std::vector<SaddlePoint>>;
  // What they are asked: from epsilon, where a little of delta counts, down to that far below zero.
  struct Asked {
    double epsilon, delta, below;
  };
  // Usual steps, as they are asked.
  struct Usual {
    Curves curves;
    std::optional<FarBelow> far = std::nullopt;
  };
  static Usual composed(const Run& run, const Fineness& fineness, const Asked& asked);
  static Usual limits(const Run& run, const Asked& asked);
  template <class Left>
  double mean(const std::vector<double>& mass, const Usual& usual, double epsilon,
              Left&& left) const;

  RareLosses rare_;
  Usual all_, fewer_;  // of the usual steps: all, and fewer by most_rare()
};

}  // namespace souk::policy
