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
  // Coordinates behind the others of a release, as many sums as there is room in `out`.
  struct Behind {
    std::span<int64_t> sums;
    std::span<float> out;
  };
  // out[i] = share * (sums[i] + noise), on the grid; sums are zero afterwards. So are those behind,
  // of share 1, with normals of the same stream that no other takes (normal_runs.h).
  void release(ChaCha20& random, std::span<int64_t> sums, double share, std::span<float> out,
               const Behind& behind = {}) const;

 private:
  NoiseGrid grid_;
  double to_units_ = 0;
  int shift_ = 0;  // one grid step is 2^shift_ units
};

}  // namespace souk::trainer
