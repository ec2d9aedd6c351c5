// What every verb starts from: the home, the chosen identity, the market.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "ledger/proof/quorum.h"
#include "market_api/cli/verb.h"
#include "market_api/client/audit.h"
#include "market_api/client/identity.h"
#include "market_api/client/local_files.h"
#include "market_api/client/market_line.h"
#include "market_api/client/market_view.h"

namespace souk::market {

// A market reached and read up to its newest checkpoint.
struct Connection {
  MarketLine line;
  MarketView view;
};

// The witnesses a pin demands, if it does. kMalformed when what is pinned is no policy.
Result<std::optional<ledger::WitnessQuorum>> pinned_quorum(const MarketPin& pin);

// Without an identity a market may be named on the command line.
struct MarketOptions {
  std::string url, market_id;
};

class Session : public CommandLine {
 public:
  explicit Session(Clock& clock) : clock_(clock) {}

  TimeMs now() { return clock_.now(); }
  Result<Home> home() const;
  // The chosen identity; kMalformed says how to make one.
  Result<Identity> identity() const;
  Result<Connection> connect(const Identity& identity) const;
  // The market named by the options, else the chosen identity's.
  Result<Connection> connect(const MarketOptions& options) const;
  // What this identity, and each other one of the home that pins its market, has seen of it.
  std::vector<AuditBasis::Seen> seen_at_home(const Identity& identity) const;
  // Whoever of this home pins this market: the chosen identity before the others, and among
  // those one that pins its witnesses. What one has pinned or seen, no call here forgets.
  Result<std::optional<Identity>> identity_for(const MarketId& market) const;
  // The pinned market, if an identity was named or there is a default one.
  Result<std::optional<Identity>> identity_if_any() const;
  // 64 hex digits, or the name of an identity of this home.
  Result<PublicKey> account(const std::string& text) const;

 private:
  Status agrees_with_home(Connection& connection) const;
  Clock& clock_;
};

// A path that somebody typed: a missing file is kMalformed.
Result<Bytes> load_argument(const std::string& path, size_t max_bytes);
// 64 lower-case hex digits; kMalformed names `what`.
template <class Name>
Result<Name> parse_hex_argument(const std::string& text, const std::string& what) {
  auto parsed = named_from_hex<Name>(text);
  if (parsed) return parsed;
  return Error(Code::kMalformed, what + ": expected 64 lower-case hexadecimal digits");
}

// The one key of `known` that starts with `prefix`: at least 6 hex digits.
template <class Name, class Value>
Result<Name> find_by_prefix(const contracts::SharedMap<Name, Value>& known,
                            const std::string& prefix, const std::string& what) {
  bool hex = prefix.size() >= 6 && prefix.size() <= 64 &&
             prefix.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex) {
    return Error(Code::kMalformed, what + ": expected 6 to 64 lower-case hexadecimal digits");
  }
  std::optional<Name> found;
  for (const auto& [name, value] : known) {
    if (to_hex(name).compare(0, prefix.size(), prefix) != 0) continue;
    if (found) {
      return Error(Code::kMalformed, what + ": more than one starts with " + prefix);
    }
    found = name;
  }
  if (!found) return Error(Code::kNotFound, "no " + what + " " + prefix + " on the ledger");
  return *found;
}

// The dataset with this id, with this prefix of an id, or with this name. kMalformed lists the
// candidates when there are several; kNotFound.
Result<DatasetId> find_dataset(const contracts::MarketState& state, const std::string& text);

// Each adds its verbs to the command line; the parsed verb becomes session.verb.
void add_identity_verbs(CLI::App& app, Session& session);    // init whoami version
void add_dataset_verbs(CLI::App& app, Session& session);     // dataset publish|list|show|revoke
void add_credential_verbs(CLI::App& app, Session& session);  // credential issue|add|list
void add_job_verbs(CLI::App& app, Session& session);         // job submit|status|watch
void add_ledger_verbs(CLI::App& app, Session& session);      // ledger log|show|prove|audit
void add_model_verbs(CLI::App& app, Session& session);       // model fetch|evaluate, receipt verify
void add_money_verbs(CLI::App& app, Session& session);   // treasury keygen|deposit, account balance
void add_bench_verbs(CLI::App& app, Session& session);   // bench train
void add_policy_verbs(CLI::App& app, Session& session);  // policy check|eval
void add_policy_study_verbs(CLI::App& app, Session& session);  // policy test|explain|whatif
void add_policy_tool_verbs(CLI::App& app,
                           Session& session);  // policy new|templates|prove|diff, after policy
void add_policy_version_verbs(
    CLI::App& app, Session& session);  // policy publish|activate|deprecate|revoke|versions
void add_train_verbs(CLI::App& app, Session& session);  // train-local

}  // namespace souk::market
