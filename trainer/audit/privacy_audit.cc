#include "trainer/audit/privacy_audit.h"

#include <algorithm>
#include <cmath>

#include "policy/privacy/run.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {

Result<PrivacyAudit> audit_privacy(
    const contracts::TrainingSpec& whole, Examples data, const Model* initial, uint32_t shadows,
    const NoiseRoot& seed, Workers& workers,
    const std::function<void(uint64_t done, uint64_t total)>& progress) {
  if (!whole.privacy) {
    return Error(Code::kMalformed,
                 "audit: expected a specification with privacy; this one claims none");
  }
  if (whole.shuffle) return Error(Code::kRefused, "audit: expected Poisson sampling");
  // Of a pool, the part that costs its people most: the rows here stand for theirs.
  const contracts::TrainingSpec spec = policy::alone(whole, TRY(policy::most_exposed(whole)));
  PrivacyAudit out;
  out.claimed = static_cast<double>(spec.privacy->epsilon_micro) * 1e-6;
  out.delta = static_cast<double>(spec.privacy->delta_pico) * 1e-12;
  out.accountant = TRY(policy::epsilon_of_run(spec, spec.steps));
  const int64_t needed = policy::epsilon_micro_up(out.accountant);
  // The engine runs nothing that claims less than it spends: what is false is still measured.
  contracts::TrainingSpec honest = spec;
  honest.privacy->epsilon_micro = std::max(honest.privacy->epsilon_micro, needed);

  const uint64_t total = shadows + 3;
  progress(0, total);
  out.self_test = TRY(self_test(honest, derive_key(seed, "audit-self-test", 0)));
  progress(1, total);
  auto run = TRY(
      TrainingRun::create(honest, data, derive_key(seed, "audit-one-run", 0), workers, initial));
  TRY(run.plant_canaries(kMostCanaries));
  TRY(run.run_to_end());
  out.one_run = one_run_figures(*run.canaries(), out.delta);
  progress(2, total);
  if (shadows > 0) {
    out.membership = TRY(membership_inference(
        honest, data, shadows, derive_key(seed, "audit-membership", 0), workers, initial,
        [&](uint32_t models) { progress(2 + models, total); }));
  }
  out.epsilon_lower = std::max(out.self_test.epsilon_lower, out.one_run.epsilon_lower);
  if (out.membership)
    out.epsilon_lower = std::max(out.epsilon_lower, out.membership->epsilon_lower);
  out.suspicious = out.one_run.epsilon_gdp > out.claimed;
  out.ok =
      needed <= spec.privacy->epsilon_micro && out.self_test.ok && out.epsilon_lower <= out.claimed;
  return out;
}

}  // namespace souk::trainer
