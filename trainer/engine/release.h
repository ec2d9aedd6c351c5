// Shard sums become integers in units of 2^-30 C or less: from there on addition is exact, in any
// order, and one shard's rounding is no other's. The release is round(sum + noise) on the noise
// grid: a function of the continuous Gaussian mechanism (noise.h).
#pragma once

#include <cstdint>
#include <span>

#include "trainer/engine/noise.h"

namespace souk::trainer {

class FixedPoint {
 public:
  explicit FixedPoint(const NoiseGrid& grid);

  // sums[i] += values[i], rounded to units. |values[i]| < 2^20 C.
  void add(std::span<const float> values, std::span<int64_t> sums) const;
  // out[i] = share * (sums[i] + noise), on the grid; sums are zero afterwards.
  void release(ChaCha20& random, std::span<int64_t> sums, double share, std::span<float> out) const;

 private:
  NoiseGrid grid_;
  double to_units_ = 0;
  int shift_ = 0;  // one grid step is 2^shift_ units
};

}  // namespace souk::trainer
