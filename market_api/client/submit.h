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
// contract's own offer; `models` finds architecture files that it names.
Result<contracts::ContractSubmit> elaborate_contract(std::string_view source, policy::Nursery& jail,
                                                     const Identity& identity,
                                                     const MarketView& view,
                                                     std::optional<contracts::Minor> price,
                                                     TimeMs now,
                                                     const policy::ModelSource& models = {});

// What the keeper would decide now, as the host reports it. Nothing is recorded.
struct Quote {
  bool allow = false;
  std::string status;
  Json reasons = Json::Array{};
  contracts::Minor price = 0;
};
Result<Quote> ask_quote(const contracts::ContractSubmit& submit, const Identity& identity,
                        MarketLine& line, const MarketId& market);

// Signs and records. kConflict: recorded without effect.
struct Submitted {
  ContractId contract;
  uint64_t entry = 0;
};
Result<Submitted> submit_contract(const contracts::ContractSubmit& submit, const Identity& identity,
                                  MarketLine& line, MarketView& view);

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
