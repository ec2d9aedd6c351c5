// A checkpoint under a tlog-policy: signed by one of its logs, cosigned by its quorum.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "ledger/proof/checkpoint.h"
#include "ledger/proof/cosignature.h"
#include "ledger/proof/tlog_policy.h"

namespace souk::ledger {

struct PolicyVerdict {
  Checkpoint checkpoint;
  std::string log_key;               // vkey of the log that signed
  std::set<std::string> witnesses;   // names in the policy of those that cosigned
  std::optional<CosignTime> newest;  // of their cosignatures
};

// kMalformed when it is no checkpoint. kUnauthentic when no log of the policy whose name
// is the origin signed it, when a signature in the name of one of the policy's keys is
// false, or when its witnesses do not meet the quorum. ML-DSA-44 keys are never met.
Result<PolicyVerdict> check_under_policy(std::string_view note, const TlogPolicy& policy);

// The same where the log is known by its key: a policy that names logs must name this one, and
// one that names none speaks of its witnesses alone.
Result<PolicyVerdict> check_under_policy(std::string_view note, const TlogPolicy& policy,
                                         const NoteKey& log);

// The same for one key and no witnesses.
Result<PolicyVerdict> check_under_key(std::string_view note, const NoteKey& key);

}  // namespace souk::ledger
