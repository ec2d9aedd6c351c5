// From norms to factors: how much of each example's gradient enters the sum, so that one example
// changes the released sum by at most C. trainer/SPEC.md, Engine, Sensitivity.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "contracts/training/spec.h"
#include "trainer/engine/strategy.h"

namespace souk::trainer {

// Share of C kept for what single precision loses between exact and computed sums (1/256), and
// for rounding the shard sums to fixed point (1e-4).
inline constexpr double kSumMargin = 1.0 / 256;
inline constexpr double kClipMargin = kSumMargin + 1e-4;

class ClipRule {
 public:
  ClipRule(const contracts::PrivacySpec& privacy, const std::vector<LayerStrategy>& strategies,
           uint32_t shard);

  // factors[group * shard + example] and present[example], for examples [0, examples). An
  // example whose norm is not finite is not present.
  void factors(const ExampleNorms& norms, uint32_t examples, std::span<float> factors,
               std::span<uint8_t> present) const;

 private:
  double factor(double square, double rough, double bound) const;

  contracts::PrivacySpec::Clipping kind_;
  uint32_t shard_;
  double bound_;                // of an example's clipped norm
  double rough_bound_;          // of factor * error * roughness
  std::vector<double> error2_;  // of each group
};

}  // namespace souk::trainer
