// The privacy section of MODEL_CARD.md: what was promised, about whom, on which assumptions.
#pragma once

#include <string>

#include "contracts/records/records.h"

namespace souk::market {

// Markdown, from "## Privacy" on, ending with a line break. `evidence_kind` as in the start.
std::string privacy_card(const contracts::TrainingSpec& spec, const contracts::JobResult& result,
                         const std::string& evidence_kind);

}  // namespace souk::market
