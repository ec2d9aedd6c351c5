// What a list of mechanisms costs in (epsilon, delta): proven bounds from above and below.
// The mechanisms were all fixed before the first of them ran; for the rest see budget.h.
// policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <span>

#include "policy/privacy/mechanism.h"

namespace souk::policy {

// lower <= exact <= upper. upper is infinite where nothing finite is proven.
struct Bounds {
  double lower = 0, upper = 0;
};
// The pair of neighbours has two orders; the answer is the larger.
struct DirectedBounds {
  Bounds remove, add;
  Bounds worst() const;
};

enum class Effort : uint8_t {
  kUsual,   // about 3e-4 of epsilon between the bounds
  kRefine,  // until they are within 1e-3 (epsilon) or 1.8 % (delta) of each other, or work ends
};

// Of the ideal mechanisms: without the slack of a real noise generator (accountant.h).
// 0 < delta < 1, epsilon >= 0, else kMalformed.
Result<DirectedBounds> epsilon_bounds(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                      double delta, Effort effort = Effort::kRefine);
Result<DirectedBounds> delta_bounds(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                    double epsilon, Effort effort = Effort::kRefine);

// Of epsilon, refined until the given epsilon is not between them, if work allows: whether a list
// stays within (epsilon, delta).
Result<Bounds> epsilon_bounds_around(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                     double epsilon, double delta);

// The least scale of mechanism `unknown` for which the whole list stays within (epsilon,
// delta): never under it, at most 5e-4 above, relatively. kRefused: no scale is enough.
Result<double> least_noise(std::vector<Mechanism> mechanisms, size_t unknown, Adjacency adjacency,
                           double epsilon, double delta);

}  // namespace souk::policy
