// Bounds of a composition, looked for: on which grid, on one or block by block, refined while that
// helps. What it tries decides what an answer costs and how tight it is, never whether it holds.
// policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <optional>

#include "policy/privacy/bounds.h"
#include "policy/privacy/composition.h"

namespace souk::policy {

// Bounds of epsilon at target.delta or of delta at target.epsilon, by which `out` is tightened.
// Refined while they are wide, but not once they are below `enough`: the other direction is worse.
// `decide`: an epsilon between them they are refined for, and for nothing else.
void composed_bounds(const Run& run, const Target& target, Effort effort, double enough,
                     std::optional<double> decide, Bounds& out);

}  // namespace souk::policy
