#include "trainer/engine/clipping.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace souk::trainer {

using Clipping = contracts::PrivacySpec::Clipping;

ClipRule::ClipRule(const contracts::PrivacySpec& privacy,
                   const std::vector<LayerStrategy>& strategies, uint32_t shard)
    : kind_(privacy.clipping), shard_(shard) {
  double least = privacy.clip;
  for (const auto& member : privacy.pool) {
    bounds_.push_back(member.clip * (1 - kClipMargin));
    least = std::min(least, member.clip);
  }
  if (bounds_.empty()) bounds_.push_back(privacy.clip * (1 - kClipMargin));
  std::set<uint32_t> chunks;
  for (const LayerStrategy& own : strategies) {
    chunks.insert(own.chunk);
    error2_.push_back(own.error * own.error);
  }
  // Both sums, with and without the example, may be off by this much. Layers whose chunks
  // differ have other neighbours in them: their errors are bounded apart.
  rough_bound_ = least * kSumMargin / 2 / std::sqrt(static_cast<double>(chunks.size()));
}

double ClipRule::factor(double square, double rough, double bound, double whole) const {
  const double norm = std::sqrt(square);
  double factor =
      kind_ == Clipping::kAutomatic ? bound / (norm + 0.01 * whole) : std::min(1.0, bound / norm);
  const double rough_bound = rough_bound_ * (bound / whole);
  if (factor * factor * rough > rough_bound * rough_bound) factor = rough_bound / std::sqrt(rough);
  // Down to single precision.
  return factor * (1 - 0x1p-22);
}

void ClipRule::factors(const ExampleNorms& norms, uint32_t examples,
                       std::span<const uint32_t> members, std::span<float> factors,
                       std::span<uint8_t> present) const {
  const size_t groups = error2_.size();
  for (uint32_t e = 0; e < examples; ++e) {
    double square = 0, rough = 0;
    for (size_t g = 0; g < groups; ++g) {
      square += norms.square[g * shard_ + e];
      rough += error2_[g] * norms.roughness[g * shard_ + e];
    }
    present[e] = std::isfinite(square) && std::isfinite(rough) ? 1 : 0;
    const double bound = bounds_[members.empty() ? 0 : members[e]];
    const double whole = present[e] ? factor(square, rough, bound, bound) : 0;
    for (size_t g = 0; g < groups; ++g) {
      double own = whole;
      if (kind_ == Clipping::kPerLayer && present[e]) {
        own = factor(norms.square[g * shard_ + e], error2_[g] * norms.roughness[g * shard_ + e],
                     bound / std::sqrt(static_cast<double>(groups)), bound);
      }
      factors[g * shard_ + e] = static_cast<float>(own);
    }
  }
}

}  // namespace souk::trainer
