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
  // example whose norm is not finite is not present. members[example]: which dataset of the pool
  // it is of; empty where they are alike.
  void factors(const ExampleNorms& norms, uint32_t examples, std::span<const uint32_t> members,
               std::span<float> factors, std::span<uint8_t> present) const;

 private:
  // `bound`: what a layer may use of the `whole` bound.
  double factor(double square, double rough, double bound, double whole) const;

  contracts::PrivacySpec::Clipping kind_;
  uint32_t shard_;
  std::vector<double> bounds_;  // of an example's clipped norm, by dataset
  // Of factor * error * roughness: one for all, the strictest, since what one example adds to a
  // sum blurs what its neighbours in the sum may hide behind.
  double rough_bound_;
  std::vector<double> error2_;  // of each group
};

}  // namespace souk::trainer
