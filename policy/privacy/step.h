// One step's privacy loss on a grid, from above and from below. policy/SPEC.md, Privacy.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "policy/privacy/pair.h"

namespace souk::policy {

// P-mass at the losses at[i] * grid + offset, of a distribution that dominates the step's
// (upper) and of one that it dominates (lower), both over any composition.
//
// Upper: connect-the-dots (Doroshenko et al. 2022, 2207.04380): an interval's mass goes to
// its two ends so that P- and Q-mass are kept. Lower: outcomes are merged into cells around
// the grid points; neighbouring cells exchange a little so that a cell's log P/Q is the grid
// point; what remains is rounded down. Merging is post-processing, rounding down couples.
struct StepLoss {
  struct Side {
    double offset = 0;
    std::vector<double> loss, mass;
  };
  std::vector<int64_t> at;
  Side upper, lower;
  double infinite = 0;    // P-mass of the upper one above all of them
  double count = 0;       // how many such steps
  double loss_error = 0;  // of one step: losses of the lower one may be this much too high
};

// Outcomes of a Gaussian pair whose losses lie above the one and not above the other, which are not
// negative. The upper side takes a little more at these ends and the lower side a little less: what
// lies on either side of one loss is in the upper sides in full, and in the lower ones but once.
struct Stretch {
  double above = -std::numeric_limits<double>::infinity();
  double upto = std::numeric_limits<double>::infinity();
};

// Points of the grid: 1 apart within the usual losses of a step, further apart by `growth` of
// the loss beyond. Losses above `highest` count as infinite (upper) or as `highest` (lower).
struct Resolution {
  double grid = 0, growth = 0.02, highest = 0;
  Stretch of = {};     // of others nothing is counted
  double lowered = 0;  // with of.above: how far the points of the upper side lie below the grid's
};
StepLoss discretise(const LossPair& pair, double count, const Resolution& resolution);

// Without the ends that are rarer than that in one step, by P: losses above count as infinite
// (upper) or as the highest left (lower), losses below as the lowest left (upper) or as none
// (lower).
void trim(StepLoss& step, double above, double below);

}  // namespace souk::policy
