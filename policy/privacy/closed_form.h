// Bounds that need no grid: Gaussians, sampled once or not at all, with little noise; what Laplace
// and pure mechanisms cost at least; and what a list costs at most when each of its mechanisms is
// taken for a Gaussian or a pure one. policy/SPEC.md, Privacy, Accountant.
#pragma once

#include <optional>
#include <span>

#include "policy/privacy/bounds.h"
#include "policy/privacy/pair.h"

namespace souk::policy {

// Of one Gaussian release whose means lie mu deviations apart:
// delta(eps) = Phi(-z) - phi(z) M(z + mu), z = eps/mu - mu/2, M the Mills ratio, which is Balle and
// Wang 2018 (1805.06530), Theorem 8, with e^eps taken out: nothing overflows at any mu. Any eps,
// known to `uncertain`. mu >= kLeastMu; below, its two terms nearly cancel.
inline constexpr double kLeastMu = 1e-3;
Bounds gaussian_epsilon(double mu, double delta);
Bounds gaussian_delta(double mu, double epsilon, double uncertain = 0);

// delta of one step of a sampled Gaussian, by that of the Gaussian: P - e^eps Q is a multiple of
// N(1) - e^{eps'} N(0) (remove), of N(0) - e^{eps'} N(1) (add), and nearly of the first
// (replace-one). For noise of at most kLeastNoise; nothing for other mechanisms.
inline constexpr double kLeastNoise = 0.05;
std::optional<Bounds> sampled_step_delta(const Mechanism& step, Adjacency adjacency,
                                         Direction direction, double epsilon);

// Of any list in which everything spends something.
// Upper: a sampled step is a Gaussian that is shown now and then, or costs delta where it is drawn
// at all, or more often than it is likely to be; a Laplace step is a pure one. Lower: the
// Gaussians, or the Laplace and pure mechanisms, alone: of the latter what the outcome of the
// greatest loss says, of as many releases as helps, and, by Cantelli, what the sum of their losses
// reaches.
Bounds rough_epsilon(std::span<const Mechanism> mechanisms, Adjacency adjacency,
                     Direction direction, double delta);
Bounds rough_delta(std::span<const Mechanism> mechanisms, Adjacency adjacency, Direction direction,
                   double epsilon);

}  // namespace souk::policy
