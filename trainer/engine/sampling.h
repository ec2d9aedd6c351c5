// Which examples a step sees, and the keys of a run. trainer/SPEC.md, Engine, Randomness.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ledger/base/secret.h"

namespace souk::trainer {

// HKDF-SHA-256 of the noise root for one purpose ("sample", "noise", ...; at most 16 bytes) and one
// step.
Secret<32> derive_key(const Secret<32>& root, std::string_view purpose, uint64_t step);

// The same for a run's many steps, in place: after its construction nothing is allocated.
class KeySchedule {
 public:
  explicit KeySchedule(const Secret<32>& root);
  // The key stays until the next call.
  const Secret<32>& derive(std::string_view purpose, uint64_t step);

 private:
  Secret<32> extracted_, key_;
};

// Rows of one rate, after those of the part before.
struct Part {
  uint64_t rows = 0;
  uint64_t threshold = 0;
};
// Every row whose u64 is below its part's threshold, ascending: Poisson sampling exactly as
// accounted. Which word is a row's does not depend on the thresholds.
void poisson_batch(const Secret<32>& key, std::span<const Part> parts,
                   std::vector<uint64_t>& batch);
void poisson_batch(const Secret<32>& key, uint64_t rows, uint64_t threshold,
                   std::vector<uint64_t>& batch);
// A capacity for batches that none outgrows: mean and twelve deviations.
uint64_t poisson_capacity(uint64_t rows, uint64_t threshold);

// Endless epochs of shuffled rows; batch t is positions [t * batch, (t + 1) * batch).
class ShuffledRows {
 public:
  ShuffledRows(const Secret<32>& root, uint64_t rows) : keys_(root), rows_(rows), order_(rows) {}
  void batch(uint64_t step, uint32_t size, std::vector<uint64_t>& rows);

 private:
  KeySchedule keys_;
  uint64_t rows_;
  uint64_t epoch_ = UINT64_MAX;  // of order_
  std::vector<uint64_t> order_;
};

}  // namespace souk::trainer
