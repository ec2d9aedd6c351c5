#include "contracts/lifecycle/market_state.h"

namespace souk::contracts {

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::kSubmitted:
      return "submitted";
    case Phase::kRefused:
      return "refused";
    case Phase::kEscrowed:
      return "escrowed";
    case Phase::kRunning:
      return "running";
    case Phase::kSettled:
      return "settled";
    case Phase::kRefunded:
      return "refunded";
    case Phase::kExpired:
      return "expired";
    case Phase::kStopping:
      return "stopping";
  }
  return "unknown";
}

const char* standing_name(PolicyVersion::Standing standing) {
  switch (standing) {
    case PolicyVersion::Standing::kPublished:
      return "published";
    case PolicyVersion::Standing::kActive:
      return "active";
    case PolicyVersion::Standing::kDeprecated:
      return "deprecated";
    case PolicyVersion::Standing::kRevoked:
      return "revoked";
  }
  return "unknown";
}

PolicyChoice policy_for(const Dataset& dataset, const ContractSubmit& submit, size_t index) {
  using Standing = PolicyVersion::Standing;
  if (index >= submit.policies.size()) {
    for (const auto& [version, policy] : dataset.policies) {
      if (policy.standing == Standing::kActive) return {version, &policy, nullptr};
    }
    return {{}, nullptr, "policy_not_active"};
  }
  const Digest& pinned = submit.policies[index];
  auto it = dataset.policies.find(pinned);
  if (it == dataset.policies.end()) return {pinned, nullptr, "policy_unknown"};
  if (it->second.standing == Standing::kRevoked) return {pinned, nullptr, "policy_revoked"};
  if (it->second.standing == Standing::kPublished) return {pinned, nullptr, "policy_not_active"};
  return {pinned, &it->second, nullptr};
}

Minor MarketState::balance(const PublicKey& account) const {
  const Account* known = accounts_.get(account);
  return known ? known->balance : 0;
}

Minor MarketState::escrow_total() const {
  Minor total = 0;
  for (const auto& [id, contract] : contracts_) total += contract.escrow;
  return total;
}

const Dataset* MarketState::dataset(const DatasetId& id) const {
  return datasets_.get(id);
}

const Contract* MarketState::contract(const ContractId& id) const {
  return contracts_.get(id);
}

}  // namespace souk::contracts
