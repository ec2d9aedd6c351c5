// Gaussian noise on an integer grid, and the gradients that it covers.
//
// A clipped gradient is rounded to integers z = v / grid with sum z^2 <= floor((C/grid)^2);
// integers add exactly in any order; the noise n = round(sigma C / grid * N(0,1)) is added
// to the sum. For integers x, x + round(N) = round(x + N): the result is a function of the
// continuous mechanism, so its accounting applies. Every integer is reachable from every
// input, so the low bits say nothing (Mironov 2012). trainer/SPEC.md, Engine, Noise.
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
  double clip_units = 0;       // C / g, exact
  int64_t square_bound = 0;    // floor((C / g)^2), or one less
  double deviation_units = 0;  // sigma C / g, never below it

  // `draws` is how many noise values the whole run will need: more draws, coarser grid.
  // Nothing past 3e10 draws, where the finite precision would outgrow kSamplerSlack.
  static std::optional<NoiseGrid> make(double sigma, double clip, double draws);
};

// Clips `gradient` to L2 norm C and rounds it; all zero if any value is not finite.
// Always sum z^2 <= grid.square_bound. Returns the norm before clipping.
double clip_to_grid(std::span<const float> gradient, const NoiseGrid& grid,
                    std::span<int32_t> units);

// Adds one rounded Gaussian to each sum. Box-Muller in double: radius from 128 random bits,
// angle from 64; own polynomials, no branch and no table index depends on the randomness.
void add_noise(ChaCha20& random, const NoiseGrid& grid, std::span<int64_t> sums);

// The N(0,1) values under add_noise, in the same order.
void standard_normals(ChaCha20& random, std::span<double> out);

}  // namespace souk::trainer
