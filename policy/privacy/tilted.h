// One step's loss, tilted: its moment and what it looks like there, by quadrature of the pair
// itself and not of a grid. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "policy/privacy/pair.h"

namespace souk::policy {

// The loss L of one step under P, tilted by e^{c L}.
struct TiltedLoss {
  double log_moment = 0;  // log E_P[e^{c L}]
  double cut_off = 0;     // P-mass of the greatest losses, which count for nothing here
  double mean = 0, variance = 0;
  double size = 0;   // mean of |L|
  double third = 0;  // mean of |L - mean|^3, from above
};
// Mean and variance are right to so much of `size` and of the variance.
inline constexpr double kTiltedError = 1e-13;

class TiltedPair {
 public:
  // Outcomes above, which have less than `rare` of P, may be cut off: where a tilt lifts them so
  // far that they would decide. Those of a loss above `highest` are left out, and not counted as
  // cut off. The pair outlives this.
  explicit TiltedPair(const LossPair& pair, double rare = 0,
                      double highest = std::numeric_limits<double>::infinity());

  // log E_P[e^{c L}], c > 0, to a relative 1e-10; infinity or NaN where it is more than a double
  // holds. With next to no noise a bound from above.
  double log_moment(double c) const;
  // Nothing where the noise is so little, or the tilt so large, that the quadrature proves nothing.
  std::optional<TiltedLoss> loss(double c) const;

 private:
  struct Place {
    double loss, log_q;  // Q's mass, of a rule
  };
  struct Places {
    std::vector<Place> at;
    std::vector<double> log_more;  // logs of what stands for parts that have too many
    double missing = 0, cut_off = 0;
  };
  double cut(size_t i, double c) const;
  Places places(double c) const;
  double log_moment(const Places& places, double c) const;

  const LossPair& pair_;
  std::vector<double> ends_;  // of each Gaussian part: above, outcomes are that rare, or left out
  bool left_out_;
};

// Renyi divergence of order alpha > 1 of one step: log E_P[e^{(alpha - 1) L}] / (alpha - 1).
double renyi_divergence(const LossPair& pair, double alpha);

}  // namespace souk::policy
