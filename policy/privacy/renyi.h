// What a list of mechanisms costs by Renyi divergences: an epsilon from above, found in another way
// than the bounds of bounds.h. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <span>

#include "policy/privacy/mechanism.h"

namespace souk::policy {

// The Renyi divergence of order alpha > 1 of one step, the larger of both directions, and
// the epsilon that the best of many orders gives (Canonne, Kamath, Steinke 2020, Prop. 12).
double renyi_of_step(const Mechanism& mechanism, Adjacency adjacency, double alpha);
Result<double> epsilon_by_renyi(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                                double delta);

}  // namespace souk::policy
