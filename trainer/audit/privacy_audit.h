// Everything this build can say against a specification's claimed epsilon, on somebody's own rows:
// the self-test of the engine, one run with canaries, and membership inference. trainer/SPEC.md,
// Audit.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "trainer/audit/membership.h"
#include "trainer/audit/one_run.h"
#include "trainer/audit/self_test.h"

namespace souk::trainer {

struct PrivacyAudit {
  double claimed = 0, delta = 0;  // what the specification says
  double accountant = 0;          // the proven upper bound of what it asks the engine to do
  SelfTest self_test;
  OneRunFigures one_run;
  std::optional<OneRunFigures> membership;
  double epsilon_lower = 0;  // the largest of the lower bounds
  // Nothing contradicts the claim: the accountant allows it, every check of the self-test holds,
  // and no lower bound is above it.
  bool ok = false;
  bool suspicious = false;  // the Gaussian fit of the one run is above the claim
};

// `shadows` 0: no membership inference. A claim below the accountant's is audited all the same, and
// found false. kMalformed: no privacy in the specification, or the rows do not fit it.
Result<PrivacyAudit> audit_privacy(
    const contracts::TrainingSpec& spec, Examples data, const Model* initial, uint32_t shadows,
    const NoiseRoot& seed, Workers& workers,
    const std::function<void(uint64_t done, uint64_t total)>& progress);

}  // namespace souk::trainer
