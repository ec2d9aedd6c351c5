// The decision on one contract: every provider's policy, the privacy budget, the
// money. Pure but for the policies, which run where `evaluate` runs them.
#pragma once

#include <functional>
#include <optional>
#include <set>

#include "contracts/lifecycle/market_state.h"
#include "policy/decide/decide.h"

namespace souk::trainer {

// Whose clock a decision was made by; its entry says so.
inline constexpr const char* kHostTime = "host time";       // the ledger's, monotone
inline constexpr const char* kWitnessedTime = "witnessed";  // of a quorum's cosignatures
struct DecisionTime {
  TimeMs ms = 0;
  const char* source = kHostTime;
};

using EvaluatePolicy = std::function<policy::PolicyDecision(
    std::string_view source, const Json& request, const Json& dataset, const Json& ctx)>;

// What `submit` by `consumer` is worth in this state, at this head. Never fails: what
// cannot be judged is denied, with a reason. A contract that is not recorded is quoted:
// everything but the consumer's balance. `unavailable`: datasets whose ciphertext the host says
// it does not hold; a contract that names one is denied. `engine`: whose policy versions answer,
// and what the decision names; another than this one only to make a recorded decision again.
contracts::ContractDecision decide_contract(const contracts::MarketState& state, uint64_t head_size,
                                            const Digest& head_root, const ContractId& id,
                                            const PublicKey& consumer,
                                            const contracts::ContractSubmit& submit,
                                            const DecisionTime& now, const EvaluatePolicy& evaluate,
                                            const std::set<DatasetId>& unavailable = {},
                                            const Digest& engine = policy::engine_hash());
// Those that a recorded decision was told of.
std::set<DatasetId> unavailable_in(const contracts::ContractDecision& decision);
// The engine that a recorded decision names, if it names one.
std::optional<Digest> engine_of(const contracts::ContractDecision& decision);

}  // namespace souk::trainer
