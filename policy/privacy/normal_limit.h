// Bounds of a run from the normal limit of its tilted losses: of all kinds where there are very
// many steps of each, else of all but a few loud kinds, which are composed on a grid.
// policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <optional>
#include <vector>

#include "policy/privacy/saddle.h"

namespace souk::policy {

class NormalLimit {
 public:
  // guide: few kinds that are about as much together, which say how to tilt. Losses of one step
  // above `highest` need not be told apart. delta: what is asked, or about what will be found. Both
  // runs outlive this.
  NormalLimit(const Run& run, const Run& guide, double highest, double delta)
      : run_(run), guide_(guide), highest_(highest), delta_(delta) {}

  Bounds delta(double epsilon) const { return bounds(epsilon, false); }
  // At delta. `near`: about where it is, if that is known.
  Bounds epsilon(std::optional<double> near) const { return bounds(near, true); }

 private:
  Bounds bounds(std::optional<double> epsilon, bool of_epsilon) const;
  Bounds with_loud(const Tilt& tilt, const TiltedRun& tilted, std::optional<double> epsilon,
                   bool of_epsilon) const;
  Run part(const std::vector<size_t>& kinds, size_t from, size_t to) const;

  const Run& run_;
  const Run& guide_;
  double highest_, delta_;
};

}  // namespace souk::policy
