// Whether this build's engine does to one record what its accountant counts: short runs of the real
// engine on rows made so that the gradient of each is known, every release watched.
// trainer/SPEC.md, Audit.
#pragma once

#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"
#include "trainer/engine/engine.h"

namespace souk::trainer {

struct SelfTestCheck {
  std::string name;  // "noise_deviation", ...
  bool ok = false;
  double measured = 0, least = 0, most = 0;
};

struct SelfTest {
  bool ok = false;
  std::vector<SelfTestCheck> checks;
  // At the specification's delta and steps, of what was measured; infinite where noise repeats or
  // is not there. Each measured number is taken six deviations towards less privacy lost.
  double epsilon_lower = 0;
};

// With the sampling rate, noise multiplier, clipping and steps of `spec`, which must have privacy
// (kMalformed). `seed` stands for all randomness: 32 bytes, fresh unless for a test.
Result<SelfTest> self_test(const contracts::TrainingSpec& spec, const NoiseRoot& seed);

}  // namespace souk::trainer
