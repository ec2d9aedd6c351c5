// The fold of what providers do: datasets and the versions of their policies, and what
// withdrawing one does to contracts.
#include <algorithm>

#include "contracts/lifecycle/ancestry.h"
#include "contracts/lifecycle/folding.h"

namespace souk::contracts {

constexpr size_t kMaxPolicyVersions = 256;  // of one dataset

Folding::Void Folding::on(DatasetOffer& offer) {
  if (state_.keeper_evidence_.count(offer.keeper_evidence) == 0) return "unknown_keeper_evidence";
  DatasetId id = dataset_id(offer.manifest);
  if (state_.dataset(id)) return "already_offered";
  Dataset dataset;
  dataset.id = id;
  dataset.provider = entry_.author();
  dataset.budget.caps = offer.manifest.budget_caps;
  dataset.manifest = std::move(offer.manifest);
  dataset.wrap = std::move(offer.wrap);
  dataset.keeper_evidence = offer.keeper_evidence;
  PolicyVersion first{dataset.manifest.policy,        dataset.manifest.policy_parameters,
                      dataset.manifest.policy_engine, PolicyVersion::Standing::kActive,
                      PolicyChange::Move::kActivate,  seq_};
  dataset.policies.emplace(policy_version(first.source, first.parameters, first.engine),
                           std::move(first));
  dataset.seq = seq_;
  dataset.changed = seq_;
  state_.datasets_.emplace(id, std::move(dataset));
  return kEffect;
}

Folding::Void Folding::on(const DatasetRevoke& revoke) {
  Dataset* known = find(revoke.dataset);
  if (!known) return "unknown_dataset";
  Dataset& dataset = *known;
  if (dataset.provider != entry_.author()) return "not_the_provider";
  if (dataset.revoked) return "revoked";
  dataset.revoked = true;
  dataset.changed = seq_;
  withdraw(revoke.dataset, "dataset_revoked", false);
  return kEffect;
}

Folding::Void Folding::on(const DatasetErase& erase) {
  Dataset* known = find(erase.dataset);
  if (!known) return "unknown_dataset";
  Dataset& dataset = *known;
  if (dataset.provider != entry_.author()) return "not_the_provider";
  if (dataset.erased) return "erased";
  dataset.revoked = true;
  dataset.erased = true;
  dataset.wrap.clear();
  dataset.changed = seq_;
  withdraw(erase.dataset, "dataset_erased", true);
  return kEffect;
}

Folding::Void Folding::on(PolicyPublish& publish) {
  Dataset* known = find(publish.dataset);
  if (!known) return "unknown_dataset";
  Dataset& dataset = *known;
  if (dataset.provider != entry_.author()) return "not_the_provider";
  if (dataset.revoked) return "revoked";
  if (dataset.policies.size() >= kMaxPolicyVersions) return "too_many";
  Digest version = policy_version(publish.source, publish.parameters, publish.engine);
  if (dataset.policies.count(version) != 0) return "already_published";
  dataset.policies.emplace(
      version, PolicyVersion{std::move(publish.source), std::move(publish.parameters),
                             std::move(publish.engine), PolicyVersion::Standing::kPublished,
                             PolicyChange::Move::kActivate, seq_});
  dataset.changed = seq_;
  return kEffect;
}

Folding::Void Folding::on(const PolicyChange& change) {
  using Standing = PolicyVersion::Standing;
  Dataset* known = find(change.dataset);
  if (!known) return "unknown_dataset";
  Dataset& dataset = *known;
  if (dataset.provider != entry_.author()) return "not_the_provider";
  auto found = dataset.policies.find(change.version);
  if (found == dataset.policies.end()) return "policy_unknown";
  PolicyVersion& policy = found->second;
  // A revocation may only become stronger; moves are in that order.
  if (policy.standing == Standing::kRevoked && change.move <= policy.last_move)
    return "policy_revoked";
  switch (change.move) {
    case PolicyChange::Move::kActivate:
      if (policy.standing == Standing::kActive) return "policy_active";
      for (auto& [version, other] : dataset.policies) {
        if (other.standing == Standing::kActive) other.standing = Standing::kDeprecated;
      }
      policy.standing = Standing::kActive;
      break;
    case PolicyChange::Move::kDeprecate:
      if (policy.standing != Standing::kActive) return "policy_not_active";
      policy.standing = Standing::kDeprecated;
      break;
    default:
      policy.standing = Standing::kRevoked;
      withdraw(change);
  }
  policy.last_move = change.move;
  dataset.changed = seq_;
  return kEffect;
}

// What the revocation of a version does to the contracts that were allowed under it, and to
// those that start from a model of theirs. Money returns. Before the start nothing was opened
// and the reservation is free again; a run that is to stop holds it until its trainer says how
// far it came.
void Folding::withdraw(const PolicyChange& change) {
  const bool stops = change.move != PolicyChange::Move::kRevokeNoNew;
  std::set<ContractId> under;
  for (const auto& [id, contract] : state_.contracts_) {
    if (allowed_under(contract, change)) under.insert(id);
  }
  under.merge(descendants_of(state_, under));
  for (const auto& id : under) {
    Contract& contract = *find(id);
    if (contract.policies.empty()) continue;  // not allowed yet, and will not be
    if (change.move == PolicyChange::Move::kRevokeDestroy) contract.destroyed = true;
    withdraw_from(contract, "policy_revoked", stops);
  }
}

// A revoked dataset is for no new run, an erased one for none: the same for contracts.
void Folding::withdraw(const DatasetId& dataset, const char* why, bool stops) {
  std::vector<ContractId> naming;
  for (const auto& [deadline, id] : state_.open_) {
    if (names(*state_.contract(id), dataset)) naming.push_back(id);
  }
  for (const auto& id : naming) {
    Contract& contract = *find(id);
    if (withdraw_from(contract, why, stops)) contract.ended_by_dataset = dataset;
  }
}

bool Folding::withdraw_from(Contract& contract, const char* why, bool stops) {
  bool waits = contract.phase == Phase::kEscrowed;
  if (!waits && !(contract.phase == Phase::kRunning && stops)) return false;
  give_back(contract);
  contract.ended_because = why;
  if (waits) {
    free_reservation(contract);
    end(contract, Phase::kRefunded);
  } else {
    contract.phase = Phase::kStopping;
  }
  return true;
}

bool Folding::allowed_under(const Contract& contract, const PolicyChange& change) {
  for (size_t i = 0; i < contract.policies.size(); ++i) {
    bool same = contract.policies[i] == change.version;
    if (same && contract.submit.datasets[i] == change.dataset) return true;
  }
  return false;
}

}  // namespace souk::contracts
