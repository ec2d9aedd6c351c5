// The rules of an allowing decision, asked by the keeper before it signs and by
// apply when it is recorded. contracts/SPEC.md, "Admission".
#include <map>

#include "contracts/lifecycle/budget.h"

namespace souk::contracts {
namespace {

bool in_range(int64_t value) {
  return value >= 0 && value <= kMaxJsonInteger;
}

bool in_range(const Charges& charges) {
  return std::all_of(charges.begin(), charges.end(), [](int64_t c) { return in_range(c); });
}

// The best order's figures, for people: what is free and what was asked there.
Obstacle exhausted(const char* code, const Charges& caps, const Spending& spending,
                   const Grant& grant) {
  Obstacle obstacle{code, to_hex(grant.dataset), "none", "an order with room"};
  int64_t least_missing = kMaxJsonInteger;
  for (size_t order = 0; order < grant.charges.size(); ++order) {
    if (caps[order] < 0) continue;
    int64_t spent = saturating_sum(spending.committed[order], spending.reserved[order]);
    int64_t free = std::max<int64_t>(0, caps[order] - spent);
    int64_t missing = grant.charges[order] - free;
    if (missing >= least_missing) continue;
    least_missing = missing;
    obstacle.got = std::to_string(free);
    obstacle.need = std::to_string(grant.charges[order]);
  }
  return obstacle;
}

std::optional<Obstacle> price_obstacle(const ContractSubmit& submit,
                                       const ContractDecision& decision) {
  Minor sum = 0;  // of at most 16 prices below 2^53
  for (const auto& grant : decision.grants) {
    if (!in_range(grant.price)) return Obstacle{"overflow", to_hex(grant.dataset), "", ""};
    sum += grant.price;
  }
  if (!in_range(sum)) return Obstacle{"overflow", "", "", ""};
  if (sum != decision.price) {
    return Obstacle{"wrong_price", "", std::to_string(decision.price), std::to_string(sum)};
  }
  if (sum > submit.offered) {
    return Obstacle{"over_offer", "", std::to_string(submit.offered), std::to_string(sum)};
  }
  return std::nullopt;
}

// Nothing of it yet is a spending of its own.
template <class Name>
const Spending& spending_of(const std::map<Name, Spending>& all, const Name& name) {
  static const Spending kNothing;
  auto it = all.find(name);
  return it == all.end() ? kNothing : it->second;
}

// All three budgets bear the charges, or none is touched.
std::optional<Obstacle> budget_obstacle(const Dataset& dataset, const ContractSubmit& submit,
                                        const PublicKey& consumer, const Grant& grant) {
  if (!has_room(dataset.budget.caps, dataset.budget, grant.charges)) {
    return exhausted("budget_exhausted", dataset.budget.caps, dataset.budget, grant);
  }
  if (grant.consumer_caps) {
    const Spending& spent = spending_of(dataset.consumers, consumer);
    if (!has_room(*grant.consumer_caps, spent, grant.charges)) {
      return exhausted("consumer_budget_exhausted", *grant.consumer_caps, spent, grant);
    }
  }
  if (grant.purpose_caps) {
    const Spending& spent = spending_of(dataset.purposes, submit.purpose);
    if (!has_room(*grant.purpose_caps, spent, grant.charges)) {
      return exhausted("purpose_budget_exhausted", *grant.purpose_caps, spent, grant);
    }
  }
  return std::nullopt;
}

std::optional<Obstacle> privacy_obstacle(const Dataset& dataset, const ContractSubmit& submit,
                                         const PublicKey& consumer, const Grant& grant) {
  std::string id = to_hex(grant.dataset);
  bool is_private = submit.spec.privacy.has_value();
  if (grant.waived) {
    if (is_private) return Obstacle{"needless_waiver", id, "waived", "charges"};
    bool charged = grant.charges != Charges{} || grant.epsilon_micro != 0;
    if (charged) return Obstacle{"charged_waiver", id, "charges", "none"};
    return std::nullopt;
  }
  if (!is_private) return Obstacle{"privacy_required", id, "none", "differential privacy"};
  if (!in_range(grant.charges) || !in_range(grant.epsilon_micro)) {
    return Obstacle{"overflow", id, "", ""};
  }
  return budget_obstacle(dataset, submit, consumer, grant);
}

}  // namespace

std::optional<Obstacle> obstacle_of_terms(const MarketState& state, const PublicKey& consumer,
                                          const ContractSubmit& submit,
                                          const ContractDecision& decision) {
  const auto& wanted = submit.datasets;
  bool one_each =
      std::equal(wanted.begin(), wanted.end(), decision.grants.begin(), decision.grants.end(),
                 [](const DatasetId& id, const Grant& grant) { return id == grant.dataset; });
  if (!one_each) return Obstacle{"wrong_grants", "", "", "one for each dataset, in order"};
  for (size_t i = 0; i < wanted.size(); ++i) {
    const Dataset* dataset = state.dataset(wanted[i]);
    if (!dataset) return Obstacle{"unknown_dataset", to_hex(wanted[i]), "", ""};
    if (dataset->revoked) return Obstacle{"revoked", to_hex(wanted[i]), "", ""};
    auto choice = policy_for(*dataset, submit, i);
    if (!choice.policy) return Obstacle{choice.obstacle, to_hex(wanted[i]), "", ""};
  }
  if (auto found = price_obstacle(submit, decision)) return found;
  for (const auto& grant : decision.grants) {
    auto found = privacy_obstacle(*state.dataset(grant.dataset), submit, consumer, grant);
    if (found) return found;
  }
  return std::nullopt;
}

std::optional<Obstacle> obstacle(const MarketState& state, const ContractDecision& decision) {
  const Contract* contract = state.contract(decision.contract);
  if (!contract) return Obstacle{"unknown_contract", "", "", ""};
  if (contract->phase == Phase::kExpired) {
    return Obstacle{"expired", "", std::to_string(state.time()),
                    std::to_string(contract->deadline)};
  }
  if (contract->phase != Phase::kSubmitted) {
    return Obstacle{"not_submitted", "", phase_name(contract->phase), "submitted"};
  }
  if (auto found = obstacle_of_terms(state, contract->consumer, contract->submit, decision))
    return found;
  Minor balance = state.balance(contract->consumer);
  if (balance < decision.price) {
    return Obstacle{"unfunded", "", std::to_string(balance), std::to_string(decision.price)};
  }
  return std::nullopt;
}

std::map<PublicKey, Minor> payouts(const MarketState& state, const Contract& contract) {
  std::map<PublicKey, Minor> out;
  if (!contract.decision || !contract.decision->allow) return out;
  for (const auto& grant : contract.decision->grants) {
    const Dataset* dataset = state.dataset(grant.dataset);
    CHECK(dataset);  // a dataset is never forgotten
    out[dataset->provider] += grant.price;
  }
  return out;
}

}  // namespace souk::contracts
