// The verbs that need no market: proofs, notes and logs of anybody.
#pragma once

#include "market_api/cli/session.h"

namespace souk::market {

// proof inclusion|consistency|check, note verify, policy-file check
void add_proof_verbs(CLI::App& app, Session& session);
void add_signature_verb(CLI::App& ledger, Session& session);  // ledger verify-signature
void add_audit_verb(CLI::App& ledger, Session& session);      // ledger audit
void add_tiles_verbs(CLI::App& ledger, Session& session);     // ledger tiles build|export|import

// A path that somebody typed, "-" being what comes on stdin. A missing file is kMalformed.
Result<Bytes> load_input(const std::string& path, size_t max_bytes);

}  // namespace souk::market
