// Very many steps composed block by block: on a fine grid so many that they fit, then the block on
// a coarser one as if it were a step, and so on. A block is as smooth as its grid is coarse, so
// what each of these moves costs stays the same share of the whole. policy/SPEC.md, Privacy,
// Accountant.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "policy/privacy/circle.h"
#include "policy/privacy/moments.h"

namespace souk::policy {

// A step, or a block of them, tilted by e^{c loss}: the masses of each side add up to 1.
struct Unit {
  struct Side {
    double offset = 0;      // the loss of place 0
    double log_moment = 0;  // at c, of what was tilted
  };
  TiltedStep step;
  Side upper, lower;
  double log_finite = 0;  // log of the P-mass that is not infinite
  double loss_error = 0;  // losses of the lower side may be this much too high
  double loss_scale = 0;  // of all losses that were added up, for their roundings
  double relative = 0;    // error of each mass, by roundings
  // The masses of a block before it was moved to this grid were wrong by `error` in all, in units
  // of their sum; since then they have lost e^-shrink of their sum at most.
  double error = 0, shrink = 0;
};

// How far a sum of tilted units reaches, by Chernoff.
class Extent {
 public:
  // deviation: of the whole sum, about.
  Extent(double deviation, double c);
  void add(const Unit& unit, double grid, double count);
  // Outside of it each side has at most e^log_tail at either end.
  Window upper(double log_tail) const { return window(upper_, log_tail); }
  Window lower(double log_tail) const { return window(lower_, log_tail); }

 private:
  struct Logs {
    std::vector<double> above, below;  // logs of moments, so far from the tilt
  };
  Window window(const Logs& logs, double log_tail) const;
  void add(const std::vector<double>& masses, const std::vector<int64_t>& at, double grid,
           double offset, double count, Logs& logs) const;

  std::vector<double> reaches_;
  Logs upper_, lower_;
};

class Blocks {
 public:
  struct Kind {
    double count = 0;
    double spread = 0;  // deviation of a step's loss, about
  };
  // make(kind, grid): a step of that kind on that grid. The finest is `fineness` of a spread.
  // `cut`: outcomes of some are left out, so that a step does not stand for less than none.
  Blocks(std::vector<Kind> kinds, std::function<StepLoss(size_t, double)> make, double fineness,
         Circle::Powers powers = Circle::Powers::kLessOne, bool cut = false)
      : kinds_(std::move(kinds)),
        make_(std::move(make)),
        fineness_(fineness),
        powers_(powers),
        cut_(cut) {}

  size_t size() const { return kinds_.size(); }
  Circle::Powers powers() const { return powers_; }
  const Transform& transform(size_t n);

  struct Part {
    Unit unit;
    double count = 0;
  };
  // Whether some steps would not go into blocks and lie far apart instead: looser, still sound.
  bool loose() const { return loose_; }

  // All steps of a kind, tilted by c, as parts on the grid that is asked for. What blocks may wrap
  // around is all together less than e^log_tail.
  std::vector<Part> parts(size_t kind, double grid, double c, double log_tail);

 private:
  struct Composed;
  struct Tilt {
    double c, log_tail;
  };
  std::vector<Part> parts(size_t kind, double count, double times, double grid, const Tilt& tilt,
                          int depth);
  std::optional<Unit> block(size_t kind, double count, double times, double grid, const Tilt& tilt,
                            int depth);
  std::optional<Composed> composed(const std::vector<Part>& parts, double grid, double c,
                                   double log_tail);
  static std::optional<Composed> stretched(const Unit& unit, double grid);
  std::optional<Unit> moved(Composed&& block, int64_t ratio, double c) const;
  Unit direct(size_t kind, double grid, double c) const;

  std::vector<Kind> kinds_;
  std::function<StepLoss(size_t, double)> make_;
  double fineness_;
  Circle::Powers powers_;
  bool cut_;
  bool loose_ = false;
  std::map<size_t, std::unique_ptr<Transform>> transforms_;
};

}  // namespace souk::policy
