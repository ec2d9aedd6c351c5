#include "trainer/engine/canaries.h"

#include <algorithm>
#include <cmath>

#include "trainer/engine/sampling.h"

namespace souk::trainer {

uint32_t canaries_for(uint64_t rows, uint64_t parameters, uint64_t batch) {
  // Nanoseconds, from below: 3 for each row that is drawn or not, 4 for each parameter's noise
  // and update, 150 and 0.1 for each parameter for an example, 10,000 for the step; a canary
  // costs about 10.
  const double parameters_ = static_cast<double>(parameters);
  const double step = 1e4 + 3 * static_cast<double>(rows) + 4 * parameters_ +
                      static_cast<double>(batch) * (150 + 0.1 * parameters_);
  return static_cast<uint32_t>(std::clamp(0.02 * step / 10, 32.0, double{kMostCanaries}));
}

Canaries::Canaries(const Secret<32>& coins, const Secret<32>& draws, uint32_t count, float length)
    : length_(length), draws_(draws.bytes(SecretAccess()), 0) {
  CHECK(count > 0 && count <= kMostCanaries);
  scores_.assign(count, 0.0);
  inside_.assign(count, 0);
  gradient_.assign(count, 0.0F);
  released_.assign(count, 0.0F);
  sums_.assign(count, 0);
  std::vector<uint64_t> in;
  poisson_batch(coins, count, uint64_t{1} << 63, in);
  for (uint64_t i : in) {
    inside_[i] = 1;
    members_.push_back(static_cast<uint32_t>(i));
  }
  words_.resize(members_.size());
}

float Canaries::clipped_length(const Clip& rule, size_t layers, uint32_t shard, double clip) {
  ExampleNorms norms;
  norms.square.assign(layers * shard, 256 * clip * clip / static_cast<double>(layers));
  norms.roughness.assign(layers * shard, 0.0);
  std::vector<float> factors(layers * shard);
  std::vector<uint8_t> present(shard);
  rule(norms, factors, present);
  double square = 0;
  for (size_t layer = 0; layer < layers; ++layer) {
    const double factor = factors[layer * shard];
    square += factor * factor * norms.square[layer * shard];
  }
  return static_cast<float>(std::sqrt(square) * (1 - 0x1p-22));
}

void Canaries::draw(uint64_t threshold, const FixedPoint& fixed) {
  draws_.fill(std::span<uint64_t>(words_));
  for (size_t i = 0; i < members_.size(); ++i)
    gradient_[members_[i]] = words_[i] < threshold ? length_ : 0;
  fixed.add(gradient_, sums_);
}

void Canaries::score() {
  for (size_t i = 0; i < scores_.size(); ++i) scores_[i] += static_cast<double>(released_[i]);
}

void Canaries::restore(uint32_t steps, std::span<const double> scores) {
  CHECK(scores.size() == scores_.size());
  std::copy(scores.begin(), scores.end(), scores_.begin());
  draws_.seek(uint64_t{steps} * words_.size() * sizeof(uint64_t));
}

}  // namespace souk::trainer
