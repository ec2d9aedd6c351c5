#include "market_api/client/spending.h"

#include <algorithm>

#include "policy/privacy/run.h"

namespace souk::market {

Result<Spending> spending_of(const contracts::MarketState& state,
                             const contracts::Dataset& dataset) {
  std::vector<policy::Event> ran, all;
  Spending out;
  for (const auto& [id, contract] : state.contracts()) {
    const auto& privacy = contract.submit.spec.privacy;
    if (!privacy || !contract.decision || !contract.decision->allow) continue;
    bool granted = false;
    for (const auto& grant : contract.decision->grants) {
      granted |= grant.dataset == dataset.id && !grant.waived;
    }
    if (!granted) continue;
    const auto& all_of_it = contract.submit.datasets;
    const auto index =
        std::find(all_of_it.begin(), all_of_it.end(), dataset.id) - all_of_it.begin();
    const auto event =
        policy::event_of_run(contract.submit.spec, static_cast<size_t>(index),
                             contract.stop ? contract.stop->steps : contract.submit.spec.steps,
                             static_cast<uint32_t>(dataset.manifest.user_cap));
    bool holds = dataset.budget.holders.count(id) != 0;
    bool spent = !holds && contract.start.has_value();
    if (!holds && !spent) continue;  // ended before it started: nothing was opened
    all.push_back(event);
    if (spent) ran.push_back(event);
    ++(spent ? out.runs : out.reservations);
  }
  const auto& budget = dataset.budget;
  int64_t delta = dataset.manifest.budget_delta_pico;
  out.committed = TRY(policy::odometer(ran, budget.committed, delta));
  out.with_reserved =
      TRY(policy::odometer(all, policy::add(budget.committed, budget.reserved), delta));
  return out;
}

}  // namespace souk::market
