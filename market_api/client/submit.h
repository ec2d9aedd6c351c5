// Submitting a training contract, and what became of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ledger/base/clock.h"
#include "market_api/client/identity.h"
#include "market_api/client/market_line.h"
#include "market_api/client/market_view.h"
#include "policy/jail/nursery.h"
#include "policy/lua/elaborate.h"

namespace souk::market {

// The contract program, run in a jailed child over the datasets of the verified
// ledger, with this identity's recipient and credentials. `price` replaces the
// contract's own offer; the files that it names (an architecture, initial weights) lie beside
// `path`. kMalformed also where the weights do not fit the model.
struct PreparedContract {
  contracts::ContractSubmit submit;
  // The whole file that submit.spec.initial names; empty where the run starts from the seed. It
  // becomes public with the contract.
  Bytes initial;
};
Result<PreparedContract> elaborate_contract(std::string_view source, const std::string& path,
                                            policy::Nursery& jail, const Identity& identity,
                                            const MarketView& view,
                                            std::optional<contracts::Minor> price, TimeMs now);

// What the keeper would decide now, as the host reports it. Nothing is recorded.
struct Quote {
  bool allow = false;
  std::string status;
  Json reasons = Json::Array{};
  contracts::Minor price = 0;
};
Result<Quote> ask_quote(const contracts::ContractSubmit& submit, const Identity& identity,
                        MarketLine& line, const MarketId& market);

// Uploads the initial weights, if any, then signs and records. kConflict: recorded without effect.
struct Submitted {
  ContractId contract;
  uint64_t entry = 0;
};
Result<Submitted> submit_contract(const PreparedContract& contract, const Identity& identity,
                                  MarketLine& line, MarketView& view, const Progress& progress);

// Reads the ledger until the contract is decided, or ended without. kTryAgain after
// `patience_ms`; the contract stands and can be asked about later.
Status await_decision(const ContractId& contract, MarketLine& line, MarketView& view,
                      int64_t patience_ms);

// Credentials of this identity, in order of their digests.
struct KeptCredential {
  PublicKey issuer;
  contracts::Credential credential;
  std::string envelope;  // canonical JSON
};
// A type that a policy can be asked about; others would make every contract malformed.
Status check_credential_type(const std::string& type);
// kUnauthentic: not signed, not for this market, or not about this identity.
Status keep_credential(const Identity& identity, std::string_view envelope);
Result<std::vector<KeptCredential>> kept_credentials(const Identity& identity);

}  // namespace souk::market
