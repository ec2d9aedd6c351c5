#include "market_api/client/privacy_card.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "policy/privacy/accountant.h"
#include "policy/privacy/meaning.h"
#include "policy/privacy/run.h"
#include "policy/privacy/shown.h"

namespace souk::market {
namespace {

using policy::digits_down, policy::digits_up;

std::string digits(double value) {
  return policy::digits(value, 4);
}

// What the trainer measured of itself, if it was asked to.
std::string audit_row(const PrivacyClaim& claim) {
  if (!claim.audit) {
    return claim.evidence_kind ? "none was asked for by the providers' policies"
                               : "none; `souk privacy audit` attacks runs of such a specification";
  }
  const auto& audit = *claim.audit;
  std::string row = "one run with " + std::to_string(audit.canaries) +
                    " canaries: epsilon is at least " +
                    digits_down(static_cast<double>(audit.epsilon_lower_micro) * 1e-6) +
                    " (proven, wrong in 1 run of 100 at most) and looks like ";
  const double looks = static_cast<double>(audit.epsilon_gdp_micro) / 1e6;
  row += audit.epsilon_gdp_micro < kMaxJsonInteger ? digits(looks) : "no finite number";
  row += " (a Gaussian fit, no proof)";
  if (looks > claim.epsilon) row += ". WARNING: the fit is above the claimed epsilon";
  return row;
}

// Who has more rows than the unit is protected less, by what the accountant finds for groups.
std::string about_rows(const contracts::TrainingSpec& spec, uint32_t steps) {
  if (spec.privacy->user_cap > 1)
    return "nobody has more records than that, as those promise who brought them";
  std::string words =
      "nobody has more than one record. Who has several is protected less, by the accountant's "
      "epsilon for groups";
  contracts::TrainingSpec pair = spec;
  pair.privacy->user_cap = 2;
  if (auto epsilon = policy::epsilon_of_run(pair, steps); epsilon && std::isfinite(*epsilon))
    words += " (" + digits_up(*epsilon) + " for two records, at the same delta)";
  return words + "; `user_cap` in a contract protects persons with at most so many";
}

// How sure of a record somebody can become who thought even odds. With delta no limit holds always.
std::string certainty(const PrivacyClaim& claim) {
  if (claim.delta <= 0)
    return "at most " + digits_up(100 * policy::certainty_after(claim.epsilon, 0.5)) +
           " % sure after seeing the model";
  const double excess = std::log(2.0);
  return "more than " + digits_up(100 * policy::certainty_after(claim.epsilon + excess, 0.5)) +
         " % sure after seeing the model with a probability of " +
         digits_up(policy::rarely_passed(claim.delta, excess)) + " at most";
}

// How the datasets of a pool took part, where they did not all alike.
std::string pool_rows(const contracts::TrainingSpec& spec) {
  std::string rows;
  for (size_t i = 0; i < spec.privacy->pool.size(); ++i) {
    const auto& member = spec.privacy->pool[i];
    rows += "| its dataset " + std::to_string(i + 1) + " | Poisson rate " +
            digits(policy::rate_from_threshold(member.sampling_threshold)) + ", clipping norm " +
            digits(member.clip) + ", so noise multiplier " + digits(contracts::noise_on(spec, i)) +
            "; epsilon at most " + digits_up(static_cast<double>(member.epsilon_micro) * 1e-6) +
            " |\n";
  }
  return rows;
}

// What must be true for the numbers to be.
std::string assumptions(const contracts::TrainingSpec& spec, const PrivacyClaim& claim) {
  const bool market = claim.evidence_kind.has_value();
  std::string words =
      market ? "the measured enclave code ran as attested (evidence `" + *claim.evidence_kind + "`)"
             : "the owner's machine ran souk as it is and nobody looked on, which nothing attests";
  words += "; its random root was secret and never used twice; " + about_rows(spec, claim.steps);
  words += market ? "; a person in two datasets is covered by both budgets together only. Other "
                    "contracts on the same data spend more: the providers' ledgers add them up "
                    "(`souk dataset show`)."
                  : "; how many rows there are and the names of their classes are public. Other "
                    "runs on the same data spend more, and no ledger adds them up; accuracies "
                    "measured on the data are not covered.";
  return words;
}

}  // namespace

PrivacyClaim claim_of(const contracts::JobResult& result, const std::string& evidence_kind) {
  return {static_cast<double>(result.epsilon_micro) / 1e6,
          static_cast<double>(result.delta_pico) / 1e12, result.steps, result.audit, evidence_kind};
}

std::string privacy_unit(const contracts::TrainingSpec& spec) {
  const uint32_t cap = spec.privacy->user_cap;
  return cap == 1 ? "one record (row)"
                  : "one person with at most " + std::to_string(cap) + " records";
}

std::string privacy_card(const contracts::TrainingSpec& spec, const PrivacyClaim& claim) {
  std::ostringstream card;
  card << "## Privacy\n\n";
  if (!spec.privacy) {
    card << "None is promised: "
         << (claim.evidence_kind ? "every provider waived it by name"
                                 : "the specification asks for none")
         << ". The model may repeat what it was trained on.\n";
    return card.str();
  }
  const double rate = policy::rate_from_threshold(spec.sampling_threshold);
  const std::string unit = privacy_unit(spec);
  card << "| | |\n|---|---|\n"
       << "| epsilon | " << real_text(claim.epsilon) << " |\n"
       << "| delta | " << real_text(claim.delta) << " |\n"
       << "| unit | " << unit << " |\n"
       << "| adjacency | add or remove " << unit
       << ": what is removed counts as nothing in its place, and the number of rows is public; "
          "rates, steps, clipping norms and denominator are public constants of the "
          "specification |\n"
       << "| mechanism | DP-SGD: Poisson rate " << digits(rate) << ", noise multiplier "
       << digits(spec.privacy->noise_multiplier) << ", clipping norm " << digits(spec.privacy->clip)
       << ", " << claim.steps << " steps |\n"
       << pool_rows(spec)
       << "| accountant | privacy loss distribution, proven upper bound, with 1e-4 for the finite "
          "precision of the noise |\n"
       << "| audit | " << audit_row(claim) << " |\n"
       << "| assumptions | " << assumptions(spec, claim) << " |\n\n"
       << "What it means: whatever somebody knows besides, a test that wrongly accuses 1 % of the "
          "units that were not used "
          "recognises at most "
       << digits_up(100 * policy::most_recognised(claim.epsilon, claim.delta, 0.01))
       << " % of those that were, and who thinks even odds that one was used is "
       << certainty(claim) << ".\n";
  return card.str();
}

}  // namespace souk::market
