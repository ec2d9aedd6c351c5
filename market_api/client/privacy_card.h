// The privacy section of MODEL_CARD.md: what was promised, about whom, on which assumptions.
#pragma once

#include <optional>
#include <string>

#include "contracts/records/records.h"

namespace souk::market {

// A run as its card tells of it.
struct PrivacyClaim {
  double epsilon = 0, delta = 0;  // spent
  uint32_t steps = 0;
  std::optional<contracts::JobAudit> audit;
  // Of the enclave, as in the start; nothing: the owner's machine, outside any enclave and market.
  std::optional<std::string> evidence_kind;
};
PrivacyClaim claim_of(const contracts::JobResult& result, const std::string& evidence_kind);

// "one record (row)", or a person's: what epsilon protects. With privacy only.
std::string privacy_unit(const contracts::TrainingSpec& spec);

// Markdown, from "## Privacy" on, ending with a line break.
std::string privacy_card(const contracts::TrainingSpec& spec, const PrivacyClaim& claim);

}  // namespace souk::market
