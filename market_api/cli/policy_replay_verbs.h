// souk policy replay, and what whatif takes from it.
#pragma once

#include <string>

#include "market_api/cli/session.h"
#include "market_api/client/replay.h"
#include "policy/jail/nursery.h"

namespace souk::market {

// Every recorded decision of the ledger under `data`, made again in the jail.
Result<PolicyReplay> replay_data(Session& session, policy::Nursery& jail, const std::string& data,
                                 const std::string& market_id,
                                 const std::vector<Draft>& drafts = {});

void add_policy_replay_verb(CLI::App& group, Session& session);

}  // namespace souk::market
