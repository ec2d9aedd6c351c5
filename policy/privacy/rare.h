// What the rare great losses of many steps add up to: their compound distribution, found place by
// place from positive terms alone, so that each mass is right relatively, however small it is.
// policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <cstddef>
#include <vector>

#include "policy/privacy/composition.h"

namespace souk::policy {

// The run without its losses above `loss`: Run::cuts is infinite for kinds that keep them, since
// they have none, have atoms, have fewer steps than that, or see more than a few of them in a run.
Run cut_at(const Run& run, double loss, double fewest);

class RareLosses {
 public:
  // Of a run that is cut, on a grid of so many points, each of which stands for P-mass in units of
  // that at zero. One step's losses above `highest` are not told apart.
  RareLosses(const Run& cut, double grid, size_t points, double highest);

  // At k * grid. The upper side goes with as many usual steps as the run has; the lower one, which
  // knows of no more than most_rare() losses, with that many less of each kind that is cut.
  const std::vector<double>& upper() const { return upper_; }
  const std::vector<double>& lower() const { return lower_; }
  double grid() const { return grid_; }
  double inflation() const { return inflation_; }  // relative error of upper()
  double infinite() const { return infinite_; }    // P-mass above, at most
  double most_rare() const { return most_rare_; }
  // The usual steps that a run of the lower side may have beside those: what share of it they leave
  // at least, its logarithm, and by how much they lower the loss.
  double log_left() const { return most_rare_ * log_left_; }
  double lowered() const { return most_rare_ * lowered_; }

 private:
  struct Kind {
    double count = 0;
    std::vector<size_t> at;
    std::vector<double> upper, lower;
  };
  Kind look_at(const Run& cut, size_t i, double highest);
  std::vector<double> sums_of(const std::vector<Kind>& kinds, std::vector<double> Kind::*side,
                              double times) const;
  double log_beyond(const std::vector<Kind>& kinds) const;

  double grid_;
  size_t points_;
  std::vector<double> upper_, lower_;
  size_t least_ = 0;  // the first place of a rare loss
  double inflation_ = 0, infinite_ = 0, most_rare_ = 0, log_left_ = 0, lowered_ = 0;
};

}  // namespace souk::policy
