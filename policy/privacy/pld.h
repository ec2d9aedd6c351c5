// The privacy loss distribution of composed subsampled Gaussians, bounded from above:
// connect-the-dots on a graded grid (Doroshenko et al. 2022, 2207.04380), split in the
// space of (P, Q) masses, composed by an FFT of the exponentially tilted distribution.
// Rounding is bounded and added to delta, so that tiny deltas stay sound.
#pragma once

#include <optional>
#include <span>

#include "policy/privacy/accountant.h"

namespace souk::policy {

// Upper bound of epsilon at delta for the ideal Gaussian (no sampler slack), the larger of
// both directions; nothing where the grid would outgrow 2^21 points or every loss is
// infinite. `renyi_epsilon` is any known bound: it sets the scale of the grid.
std::optional<double> epsilon_by_pld(std::span<const Event> events, double delta,
                                     double renyi_epsilon);

}  // namespace souk::policy
