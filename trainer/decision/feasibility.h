// What a trainer would fail on after the start, when the budget is spent already: the consumer
// would burn it and have the money back. So it is refused before.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "contracts/lifecycle/market_state.h"
#include "policy/decide/decide.h"

namespace souk::trainer {

// Why no trainer could run it: shapes, columns, classes, categories, the unit of privacy, the
// noise. Empty: nothing stands against it.
std::vector<policy::Reason> infeasible(const contracts::ContractSubmit& submit,
                                       const std::vector<const contracts::Dataset*>& datasets);

// Why datasets cannot go on from the model that the contract starts from, made by one of these jobs
// of its ancestry: both name their columns, and differently.
std::vector<policy::Reason> foreign_to_initial(
    const contracts::MarketState& state, const contracts::ContractSubmit& submit,
    const std::set<ContractId>& ancestors, const std::vector<const contracts::Dataset*>& datasets);

// At most `max` bytes, cut between characters.
std::string cut(const std::string& text, size_t max);

}  // namespace souk::trainer
