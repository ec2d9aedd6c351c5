// Which of the market's models a contract starts from. contracts/SPEC.md, "Initial weights".
#pragma once

#include <optional>
#include <set>

#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

// SHA-256 of the model that a settled contract made; nothing where it made none, or gave back the
// very weights it started from: those were there before, and whoever uses them owes it nothing.
const Digest* made_by(const Contract& contract);

struct Ancestry {
  // The contracts whose models the initial weights descend from: those that the contract names,
  // every one that made these very bytes whatever it names, and all of theirs.
  std::set<ContractId> jobs;
  // Why nothing may start from them: "unknown_parent", "parent_not_settled", "parent_destroyed".
  std::optional<Obstacle> obstacle;
};

// Of a contract that is recorded, or only asked about.
Ancestry ancestry_of(const MarketState& state, const ContractSubmit& submit);

// What a model has learned from: the contract's datasets and those of its ancestors.
std::set<DatasetId> learned_from(const MarketState& state, const ContractSubmit& submit);

// The other way: the contracts whose initial weights descend from the models of these, in any
// phase. One that is here has one of `jobs` among its own ancestry_of(). O(n log n) in contracts.
std::set<ContractId> descendants_of(const MarketState& state, const std::set<ContractId>& jobs);

}  // namespace souk::contracts
