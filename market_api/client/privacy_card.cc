#include "market_api/client/privacy_card.h"

#include <cstdio>
#include <sstream>

#include "policy/privacy/accountant.h"
#include "policy/privacy/meaning.h"

namespace souk::market {
namespace {

std::string digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// What the trainer measured of itself, if it was asked to.
std::string audit_row(const contracts::JobResult& result) {
  if (!result.audit) return "none was asked for by the providers' policies";
  const auto& audit = *result.audit;
  const double looks = static_cast<double>(audit.epsilon_gdp_micro) * 1e-6;
  std::string row = "one run with " + std::to_string(audit.canaries) +
                    " canaries: epsilon is at least " +
                    digits(static_cast<double>(audit.epsilon_lower_micro) * 1e-6) +
                    " (proven, wrong in 1 run of 100 at most) and looks like ";
  row += audit.epsilon_gdp_micro < kMaxJsonInteger ? digits(looks) : "no finite number";
  row += " (a Gaussian fit, no proof)";
  if (audit.epsilon_gdp_micro > result.epsilon_micro)
    row += ". WARNING: the fit is above the claimed epsilon";
  return row;
}

// How the datasets of a pool took part, where they did not all alike.
std::string pool_rows(const contracts::TrainingSpec& spec) {
  std::string rows;
  for (size_t i = 0; i < spec.privacy->pool.size(); ++i) {
    const auto& member = spec.privacy->pool[i];
    rows += "| its dataset " + std::to_string(i + 1) + " | Poisson rate " +
            digits(policy::rate_from_threshold(member.sampling_threshold)) + ", clipping norm " +
            digits(member.clip) + ", so noise multiplier " + digits(contracts::noise_on(spec, i)) +
            "; epsilon at most " + digits(static_cast<double>(member.epsilon_micro) * 1e-6) +
            " |\n";
  }
  return rows;
}

}  // namespace

std::string privacy_card(const contracts::TrainingSpec& spec, const contracts::JobResult& result,
                         const std::string& evidence_kind) {
  std::ostringstream card;
  card << "## Privacy\n\n";
  if (!spec.privacy) {
    card << "None is promised: every provider waived it by name. The model may repeat what it was "
            "trained on.\n";
    return card.str();
  }
  const double epsilon = static_cast<double>(result.epsilon_micro) / 1e6,
               delta = static_cast<double>(result.delta_pico) / 1e12;
  const double rate = policy::rate_from_threshold(spec.sampling_threshold);
  const uint32_t cap = spec.privacy->user_cap;
  const std::string unit =
      cap == 1 ? "one record (row)" : "one person with at most " + std::to_string(cap) + " records";
  card << "| | |\n|---|---|\n"
       << "| epsilon | " << real_text(epsilon) << " |\n"
       << "| delta | " << real_text(delta) << " |\n"
       << "| unit | " << unit << " |\n"
       << "| adjacency | add or remove " << unit
       << "; rates, steps, clipping norms and denominator are public constants of the contract |\n"
       << "| mechanism | DP-SGD: Poisson rate " << digits(rate) << ", noise multiplier "
       << digits(spec.privacy->noise_multiplier) << ", clipping norm " << digits(spec.privacy->clip)
       << ", " << result.steps << " steps |\n"
       << pool_rows(spec)
       << "| accountant | privacy loss distribution, proven upper bound, with 1e-4 for the finite "
          "precision of the noise |\n"
       << "| audit | " << audit_row(result) << " |\n\n"
       << "What it means: whatever somebody knows besides, a test that wrongly accuses 1 % of the "
          "records that were not used "
          "recognises at most "
       << digits(100 * policy::most_recognised(epsilon, delta, 0.01))
       << " % of those that were, and who thinks even odds that a record was used is at most "
       << digits(100 * policy::most_certainty(epsilon, 0.5))
       << " % sure after seeing the model.\n\n"
       << "It rests on these assumptions: the measured enclave code ran as attested (evidence `"
       << evidence_kind << "`); its random root was secret and never used twice; "
       << (cap == 1 ? "a person's rows are one record (who owns k rows is protected k times less)"
                    : "nobody has more records than that, as the providers promise")
       << "; a person in two datasets is covered by both budgets together "
          "only. Other contracts on the "
          "same data spend more: the providers' ledgers add them up (`souk dataset show`).\n";
  return card.str();
}

}  // namespace souk::market
