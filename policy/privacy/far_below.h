// delta of a composition far below zero, where all but a rare outcome counts: of P's mass and Q's
// no more is asked than their moments. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <vector>

#include "policy/privacy/steps.h"

namespace souk::policy {

class FarBelow {
 public:
  // `below`: how far below zero it will be asked at most; more than 0.
  FarBelow(const Steps& steps, double below);

  // Bounds of delta at an epsilon below zero; of any other they are 1 and 0.
  double delta_upper(double epsilon) const;
  double delta_lower(double epsilon) const;

 private:
  // The logarithm of a moment of the run's loss, and by how much it may be wrong.
  struct Moment {
    double log = 0, error = 0;
  };
  struct Side {
    Moment p, q;  // of 1, and of e^{-loss}
  };
  struct Chernoff {
    double tilt = 0, log_moment = 0;  // of e^{-tilt loss}, from above
  };
  Side upper_, lower_;
  std::vector<Chernoff> chernoff_;  // of the upper side
  double infinite_ = 0, slack_ = 0, loss_error_ = 0;
};

}  // namespace souk::policy
