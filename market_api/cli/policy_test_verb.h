// souk policy test: the cases beside a policy, what they cover, and which mutants they miss.
#pragma once

#include "market_api/cli/session.h"

namespace souk::market {

void add_policy_test_verb(CLI::App& group, Session& session);

}  // namespace souk::market
