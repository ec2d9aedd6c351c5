// Masses of a block moved from a fine grid to a coarse one, with both bounds kept. policy/SPEC.md,
// Privacy, Accountant.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace souk::policy {

// What a sum of so many terms may round, relatively.
double rounding_of(size_t terms);

// A fine grid over a coarse one, whose points are the multiples of its spacing: what is hardly
// wider than that stays where it is, at zero. Mass k of the fine one lies point(k) * coarse +
// off(k).
class Places {
 public:
  // below: how many places of the fine grid below a point belong to it.
  Places(double start, double grid, size_t ratio, size_t below)
      : grid_(grid), ratio_(static_cast<int64_t>(ratio)), below_(static_cast<int64_t>(below)) {
    // The place next to zero, above it where none below belongs to a point.
    const double zero = below > 0 ? std::round(-start / grid) : std::ceil(-start / grid);
    counted_ = std::abs(zero) < 0x1p52;
    zero_ = counted_ ? static_cast<int64_t>(zero) : 0;
    rest_ = std::max(start + zero * grid, below > 0 ? -grid : 0.0);
    first_ = below_ - zero_ >= 0 ? (below_ - zero_) / ratio_
                                 : -((ratio_ - 1 - (below_ - zero_)) / ratio_);
  }
  bool counted() const { return counted_; }
  int64_t first() const { return first_; }  // the point of mass 0
  // Of mass k: its point, counted from that one, and its place by that.
  size_t point(size_t k) const { return (k + shift()) / static_cast<size_t>(ratio_); }
  size_t place(size_t k) const { return (k + shift()) % static_cast<size_t>(ratio_); }
  // Places are looked at once each, or once for each of so many masses where these are fewer.
  size_t different(size_t masses) const { return std::min(ratio(), masses); }
  size_t place_of(size_t i, size_t masses) const { return ratio() <= masses ? i : place(i); }
  size_t index(size_t k, size_t masses) const { return ratio() <= masses ? place(k) : k; }
  // How far above its point a place lies.
  double off(size_t place) const {
    return static_cast<double>(static_cast<int64_t>(place) - below_) * grid_ + rest_;
  }
  size_t ratio() const { return static_cast<size_t>(ratio_); }
  double coarse() const { return static_cast<double>(ratio_) * grid_; }

 private:
  size_t shift() const { return static_cast<size_t>(below_ - zero_ - first_ * ratio_); }

  double grid_;
  int64_t ratio_, below_, zero_ = 0, first_ = 0;
  double rest_ = 0;
  bool counted_ = false;
};

struct Moved {
  std::vector<double> mass;  // tilted, at the points of the coarse grid from the first one on
  double sum = 0;
};

// Connect-the-dots of the masses of a block: each goes to the two points around it so that its P-
// and its Q-mass are kept.
Moved split(const std::vector<double>& mass, const Places& places, double c);

// Cells around the points, neighbours exchanging what brings each one's loss to its point; what
// still falls between is rounded down. As StepLoss::lower.
Moved merge(const std::vector<double>& mass, const Places& places, double c);

// Where the coarse grid is to have a point for the lower masses: all of them together have a loss
// of a little less than 0 by what was rounded down, and a cell that holds them all must not lie
// below its point.
double origin_of(const std::vector<double>& mass, double start, double grid, double coarse,
                 double c);

}  // namespace souk::policy
