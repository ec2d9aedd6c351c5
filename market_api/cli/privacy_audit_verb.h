// souk privacy audit, one of the verbs of `souk privacy`.
#pragma once

#include "market_api/cli/session.h"

namespace souk::market {

void add_privacy_audit_verb(CLI::App& group, Session& session);

}  // namespace souk::market
