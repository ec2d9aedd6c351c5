// The verbs that need no market: proofs, notes and logs of anybody.
#pragma once

#include "ledger/proof/policy_check.h"
#include "ledger/store/tiles_dir.h"
#include "market_api/cli/session.h"
#include "market_api/client/audit.h"

namespace souk::market {

// proof inclusion|consistency|check, note verify, policy-file check
void add_proof_verbs(CLI::App& app, Session& session);
void add_signature_verb(CLI::App& ledger, Session& session);  // ledger verify-signature
void add_audit_verb(CLI::App& ledger, Session& session);      // ledger audit
void add_tiles_verbs(CLI::App& ledger, Session& session);     // ledger tiles build|export|import

// The files of a log served at a URL.
ledger::FetchTileFile served_files(const std::string& url);
bool is_url(const std::string& text);
// By --key VKEY, --policy FILE or both, at least one of which is given.
using JudgeCheckpoint = std::function<Result<ledger::PolicyVerdict>(std::string_view)>;
Result<JudgeCheckpoint> judge_by(const std::string& vkey, const std::string& policy_file);

// What whoever pins the market (the named one, else the chosen identity's) knows of it: its
// id, the highest checkpoint seen, and the witnesses that must have cosigned.
Result<AuditBasis> pinned_basis(const Session& session, const std::string& market_id);

// A path that somebody typed, "-" being what comes on stdin. A missing file is kMalformed.
Result<Bytes> load_input(const std::string& path, size_t max_bytes);
// Whether it is read to its end and has no length before: stdin (-), a pipe, a device.
bool is_stream(const std::string& path);

}  // namespace souk::market
