// Gaussian noise on a grid of powers of two, and the run's choice of that grid.
//
// Sums of clipped gradients are integers in units that divide the grid's step (release.h); what is
// released is round(S / g + sigma C / g * N(0,1)), S the sum and g the step: a function of the
// continuous mechanism, so its accounting applies. Every integer is reachable from every sum, so
// the low bits say nothing (Mironov 2012). trainer/SPEC.md, Engine, Noise.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "trainer/engine/chacha.h"

namespace souk::trainer {

// Trained parameters to one stream of a step's noise: a constant of the format.
inline constexpr uint64_t kNoiseStream = 4096;

struct NoiseGrid {
  double step = 0;             // g, a power of two
  double clip = 0;             // C
  double deviation_units = 0;  // sigma C / g, never below it

  // `draws` is how many noise values the whole run will need: more draws, coarser grid.
  // Nothing past 3e10 draws, where the finite precision would outgrow kSamplerSlack.
  static std::optional<NoiseGrid> make(double sigma, double clip, double draws);
};

// N(0,1) values. Box-Muller in double: radius from 128 random bits, angle from 64; own polynomials,
// no branch and no table index depends on the randomness.
void standard_normals(ChaCha20& random, std::span<double> out);

}  // namespace souk::trainer
