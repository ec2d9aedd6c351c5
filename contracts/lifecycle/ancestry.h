// Which of the market's models a contract starts from. contracts/SPEC.md, "Initial weights".
#pragma once

#include <cstdint>
#include <optional>
#include <set>

#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

// SHA-256 of the model that a settled contract made; nothing where it made none, or gave back the
// very weights it started from: those were there before, and whoever uses them owes it nothing.
const Digest* made_by(const Contract& contract);

struct Ancestry {
  // The contracts whose models the initial weights descend from: those that the contract names,
  // every one that had made these very bytes before the contract was recorded, whatever it names,
  // and all of theirs. Bytes that a later job arrives at came from elsewhere.
  std::set<ContractId> jobs;
  // Why nothing may start from them: "unknown_parent", "parent_not_settled", "parent_destroyed".
  std::optional<Obstacle> obstacle;
};

// Of a contract recorded as entry `submit_seq` (Contract::submit_seq), or only asked about.
constexpr uint64_t kNotRecorded = UINT64_MAX;
Ancestry ancestry_of(const MarketState& state, const ContractSubmit& submit, uint64_t submit_seq);

// What a model has learned from: the contract's datasets and those of its ancestors.
std::set<DatasetId> learned_from(const MarketState& state, const ContractSubmit& submit,
                                 uint64_t submit_seq);

// The other way: the contracts whose initial weights descend from the models of these, in any
// phase. One that is here has one of `jobs` among its own ancestry_of(). O(n log n) in contracts.
std::set<ContractId> descendants_of(const MarketState& state, const std::set<ContractId>& jobs);

}  // namespace souk::contracts
