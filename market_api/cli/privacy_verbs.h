// souk privacy epsilon|delta|noise|rdp|filter|plan|explain: what training costs in privacy, before
// anybody is asked. All of it is computed on this machine, and nothing but the accountant is
// needed.
#pragma once

#include "market_api/cli/verb.h"

namespace souk::market {

// Answers the group.
CLI::App* add_privacy_verbs(CLI::App& app, CommandLine& line);

}  // namespace souk::market
