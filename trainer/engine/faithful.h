// Where a broken trainer would be broken: the seam at which tests plant faults, to show that the
// audits catch them. Programs are compiled with this one, in which every door is a wall; a test
// program compiles engine.cc once more with another header in its place (SOUK_TRAINER_SEAM), and a
// test looks that no program carries that.
#pragma once

#include <cstdint>
#include <span>

#include "trainer/engine/noise.h"
#include "trainer/engine/strategy.h"

namespace souk::trainer::seam {

constexpr uint64_t threshold(uint64_t own) {
  return own;
}
constexpr uint64_t noise_step(uint64_t own) {
  return own;
}
constexpr NoiseGrid noise_grid(const NoiseGrid& own) {
  return own;
}
constexpr void factors(const ExampleNorms&, size_t, uint32_t, uint32_t, double, std::span<float>) {}

}  // namespace souk::trainer::seam
