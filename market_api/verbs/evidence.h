// What was caught of this ledger, in EVIDENCE/witness-N.json of the market's folder:
// market_api/SPEC.md, Acknowledgement.
#pragma once

#include <string>

#include "ledger/proof/note.h"

namespace souk::market {

// Answers the path of the new file, or why there is none. No file is written over.
std::string keep_evidence(const std::string& directory, const std::string& json);

// kUnauthentic names the file that says a witness has caught this ledger: whoever believed it once
// believes it from then on, whether or not that witness is still there. Evidence against a witness
// stops nothing. kMalformed where a file is no evidence about the log of this key.
Status check_evidence(const std::string& directory, const ledger::NoteKey& log);

}  // namespace souk::market
