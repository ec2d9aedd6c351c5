// Which examples a step sees, and the keys of a run. trainer/SPEC.md, Engine, Randomness.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "ledger/base/secret.h"

namespace souk::trainer {

// HKDF-SHA-256 of the noise root for one purpose ("sample", "noise", ...) and one step.
Secret<32> derive_key(const Secret<32>& root, std::string_view purpose, uint64_t step);

// Every row whose u64 is below `threshold`, ascending: Poisson sampling exactly as accounted.
std::vector<uint64_t> poisson_batch(const Secret<32>& key, uint64_t rows, uint64_t threshold);

// Endless epochs of shuffled rows; batch t is positions [t * batch, (t + 1) * batch).
class ShuffledRows {
 public:
  ShuffledRows(const Secret<32>& root, uint64_t rows)
      : root_(root.clone(SecretAccess())), rows_(rows) {}
  std::vector<uint64_t> batch(uint64_t step, uint32_t size);

 private:
  Secret<32> root_;
  uint64_t rows_;
  uint64_t epoch_ = UINT64_MAX;  // of order_
  std::vector<uint64_t> order_;
};

}  // namespace souk::trainer
