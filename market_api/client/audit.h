// The whole ledger, from its first byte, through the market's own rules.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ledger/audit/tiles_audit.h"
#include "ledger/proof/quorum.h"
#include "market_api/client/market_line.h"

namespace souk::market {

struct LedgerAudit {
  bool ok = false;
  ledger::AuditReport counts;               // what was checked
  std::optional<ledger::AuditPlace> place;  // of the first fault
  double seconds = 0;
  uint64_t entries = 0;               // found good, in order
  Digest root{};                      // recomputed over them
  std::optional<uint64_t> first_bad;  // nullopt also when the fault is none of an entry
  std::string reason;                 // empty when ok
  bool cannot_now = false;            // not ok, for want of an answer: nothing was found bad
  MarketId market;
  bool market_from_ledger = false;  // nobody said which market
  uint64_t without_effect = 0;      // entries recorded void: lawful, and said
};

// What the auditor knows beforehand.
struct AuditBasis {
  std::optional<MarketId> market;
  // Signed notes from earlier, each over a beginning of the ledger. By another identity of the
  // home: one that the log did not sign says nothing, and one past what a quorum has cosigned is no
  // roll-back of what is served.
  struct Seen {
    std::string checkpoint;
    std::string by;  // that identity, or ""
  };
  std::vector<Seen> seen = {};
  // Who must have cosigned: of a served ledger the checkpoint that is served, of one on disk
  // the newest witnessed one that is kept beside it.
  std::optional<ledger::WitnessQuorum> quorum = std::nullopt;
};

// The file `path` of a ledger store, read as it lies on disk; and `witnessed.state` beside it,
// whose checkpoint must be a beginning of it under the quorums of genesis and of the basis.
LedgerAudit audit_ledger_file(const std::string& path, const AuditBasis& basis);
// A log by its tlog-tiles, `judge` being what is asked of its checkpoint. The market's
// rules are replayed if it is one of ours; other logs are only rehashed.
LedgerAudit audit_log_tiles(
    const ledger::FetchTileFile& fetch,
    const std::function<Result<ledger::PolicyVerdict>(std::string_view)>& judge,
    const AuditBasis& basis);
// Everything the host serves, read anew. An error only when it serves nothing.
Result<LedgerAudit> audit_served_ledger(MarketLine& line, const AuditBasis& basis);

}  // namespace souk::market
