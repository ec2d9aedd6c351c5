// The steps of a question in one direction, and how finely they are looked at: which stand for
// many, how far their losses lie, what grid the answer asks for. How finely decides what an answer
// costs and how tight it is, never whether it holds. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <limits>
#include <vector>

#include "policy/privacy/compose.h"
#include "policy/privacy/mechanism.h"

namespace souk::policy {

// One composition to be asked in one direction.
struct Run {
  std::vector<Mechanism> mechanisms;
  Adjacency adjacency;
  Direction direction;
  std::vector<double> counts, spreads;
  std::vector<LossPair> kept;  // empty where there are too many
  double highest = 0;          // no outcome of the whole run has a greater loss
  double extent = 0;           // losses of one step lie within this of zero, or are cut off
  double edge = 0;             // of the first atom, if there is one
  // Of each kind: outcomes with greater losses are left out. Empty where none are.
  std::vector<double> cuts = {};

  LossPair pair(size_t i) const {
    return kept.empty() ? dominating_pair(mechanisms[i], adjacency, direction) : kept[i];
  }
  bool many() const { return kept.empty(); }
  double cut(size_t i) const {
    return cuts.empty() ? std::numeric_limits<double>::infinity() : cuts[i];
  }
};

// `counts`: how often each runs, where that is not its own number of steps.
Run run_of(std::vector<Mechanism> mechanisms, Adjacency adjacency, Direction direction,
           std::vector<double> counts = {});

// A few kinds that stand for many in what decides no more than how the many are looked at: the
// loudest and those that spend most as they are, of the others each stands for a share.
Run spokesmen_of(const Run& run);

// `run` outlives what is returned.
Steps discretised(const Run& run, const Resolution& resolution);

// How blocks of steps are made: on grids from `fineness` of a kind's spread on. Runs that see
// losses of any step that are cut off are rarer than that: above, and below.
struct Fineness {
  double fineness = 0, growth = 0.02, highest = 0, above = 0, below = 0;
  Circle::Powers powers = Circle::Powers::kLessOne;
};
// Each kind on its finest grid.
Steps finest(const Run& run, const Fineness& fineness);
// Blocks of them. `run` outlives what is returned.
Blocks blocks_of(const Run& run, const Fineness& fineness);

// The usual size of a step's loss.
double spread_of(const Run& run);

// How far the many usual steps may carry the sum below zero: a rare large loss must be
// larger by that to matter.
double usual_fall(const Steps& steps, const Run& run);

// A loss that hardly one run in 1 / `chance` sees in any of its steps.
double rare_loss(const Steps& steps, double chance);

// A grid on which the first atom, if there is one, is a point, and whose points can be counted.
double snapped(double grid, const Run& run);

// Spacing and growth whose errors together are about three quarters of `allowed`, as the moments
// say: where rare large losses decide, usual ones may lie far apart, and a transform costs less.
Resolution planned(const Run& run, const Target& target, double allowed, double most,
                   const Resolution& usual);

// Points of a window at most: of many kinds fewer each.
size_t most_points_of(const Run& run);

}  // namespace souk::policy
