// Publishing a dataset: everything that is secret stays on this side.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "market_api/client/identity.h"
#include "market_api/client/market_line.h"
#include "market_api/client/market_view.h"
#include "trainer/attest/appraisal.h"
#include "trainer/data/table.h"

namespace souk::market {

struct Offer {
  std::string name, provider_name;
  std::string policy;                       // Lua source that check_source accepted
  Json policy_parameters = Json::Object{};  // what it reads as `parameters`
  contracts::Minor price = 0;
  int64_t budget_epsilon_micro = 0;
  int64_t budget_delta_pico = 0;
  std::string policy_engine;  // hash of the semantics the policy is for, in hex; empty: any
  int64_t user_cap = 1;       // the provider's promise: rows of one person at most
  std::map<std::string, std::vector<std::string>> categories;  // Manifest::categories
};

struct Published {
  DatasetId dataset;
  uint64_t entry = 0;
  Digest ciphertext{};
  int64_t rows = 0;
  // Others of this provider, still on offer: one of the same name, and one that this identity made
  // of the same rows. Who trains on both learns as much as both budgets allow.
  std::optional<DatasetId> same_name, same_rows;
};

// The keeper that runs now, by fresh evidence, and whose keys are those of the newest
// boot on the verified ledger. kUnauthentic names what does not agree.
Result<trainer::AppraisedEnclave> appraise_keeper(MarketLine& line, MarketView& view);

// Encrypts to the provider's own recipient, uploads, wraps the file key to the appraised keeper,
// and records the offer; in that order: a crash before the last step leaves ciphertext that nobody
// can read. A keeper that takes another key meanwhile, as each erasure makes it, has it wrapped
// anew, a few times; then kTryAgain. kConflict: recorded without effect.
Result<Published> publish(const trainer::Dataset& dataset, const Offer& offer,
                          const Identity& identity, MarketLine& line, MarketView& view,
                          const Progress& progress);

}  // namespace souk::market
