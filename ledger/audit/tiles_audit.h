// Audits a log by what it serves as tlog-tiles: ours, or anybody's.
#pragma once

#include "ledger/audit/audit.h"
#include "ledger/proof/policy_check.h"
#include "ledger/store/tiles_dir.h"

namespace souk::ledger {

enum class EntryKind {
  kSouk,   // leaves of ours: chain, times, markets and authors were checked too
  kOther,  // opaque: only that they are in the tree
};

struct TilesAudit {
  AuditReport report;
  AuditPlace place;  // of the first fault
  // report.reason is a fetch's kTryAgain: what is served was not seen whole, and no fault in it.
  bool cannot_now = false;
  EntryKind kind = EntryKind::kOther;
  PolicyVerdict verdict;  // of the checkpoint
};

// Reads every bundle and every tile of the tree under the served checkpoint, which
// `judge` must accept; rehashes all of it. The replay is called for entries of ours.
TilesAudit audit_tiles(const FetchTileFile& fetch,
                       const std::function<Result<PolicyVerdict>(std::string_view note)>& judge,
                       const Replay& replay = nullptr);

}  // namespace souk::ledger
