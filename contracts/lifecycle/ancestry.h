// Which of the market's models a contract starts from. contracts/SPEC.md, "Initial weights".
#pragma once

#include <optional>
#include <set>

#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

struct Ancestry {
  // The contracts whose models the initial weights descend from: those that the contract names,
  // every one whose recorded result is these very bytes whatever it names, and all of theirs.
  std::set<ContractId> jobs;
  // Why nothing may start from them: "unknown_parent", "parent_not_settled", "parent_destroyed".
  std::optional<Obstacle> obstacle;
};

// Of a contract that is recorded, or only asked about.
Ancestry ancestry_of(const MarketState& state, const ContractSubmit& submit);

// What a model has learned from: the contract's datasets and those of its ancestors.
std::set<DatasetId> learned_from(const MarketState& state, const ContractSubmit& submit);

}  // namespace souk::contracts
