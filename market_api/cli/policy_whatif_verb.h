// souk policy whatif: one contract against many datasets, or a policy against many contracts.
#pragma once

#include "market_api/cli/session.h"

namespace souk::market {

void add_policy_whatif_verb(CLI::App& group, Session& session);

}  // namespace souk::market
