#include "contracts/lifecycle/ancestry.h"

#include <map>
#include <vector>

namespace souk::contracts {
namespace {

// The contracts next above: named, or betrayed by the bytes.
std::set<ContractId> parents_of(const MarketState& state, const ContractSubmit& submit,
                                uint64_t submit_seq) {
  if (!submit.spec.initial) return {};
  std::set<ContractId> out(submit.initial_jobs.begin(), submit.initial_jobs.end());
  for (const auto& [id, contract] : state.contracts()) {
    const Digest* made = made_by(contract);
    if (made && *made == *submit.spec.initial && contract.result_seq < submit_seq) out.insert(id);
  }
  return out;
}

}  // namespace

const Digest* made_by(const Contract& contract) {
  if (!contract.result || contract.submit.spec.initial == contract.result->model) return nullptr;
  return &contract.result->model;
}

Ancestry ancestry_of(const MarketState& state, const ContractSubmit& submit, uint64_t submit_seq) {
  Ancestry out;
  auto stands_against = [&](const char* code, const ContractId& id, const char* need) {
    if (!out.obstacle) out.obstacle = Obstacle{code, "", to_hex(id), need};
  };
  std::set<ContractId> left = parents_of(state, submit, submit_seq);
  while (!left.empty()) {
    const ContractId id = left.extract(left.begin()).value();
    if (!out.jobs.insert(id).second) continue;
    const Contract* job = state.contract(id);
    if (!job) {
      stands_against("unknown_parent", id, "a job of this market");
    } else if (!job->result) {
      stands_against("parent_not_settled", id, "a job whose result is recorded");
    } else if (job->destroyed) {
      stands_against("parent_destroyed", id, "a job whose model was not revoked");
    }
    if (job && job->result) left.merge(parents_of(state, job->submit, job->submit_seq));
  }
  return out;
}

std::set<DatasetId> learned_from(const MarketState& state, const ContractSubmit& submit,
                                 uint64_t submit_seq) {
  std::set<DatasetId> out(submit.datasets.begin(), submit.datasets.end());
  for (const auto& id : ancestry_of(state, submit, submit_seq).jobs) {
    const Contract* job = state.contract(id);
    if (job) out.insert(job->submit.datasets.begin(), job->submit.datasets.end());
  }
  return out;
}

std::set<ContractId> descendants_of(const MarketState& state, const std::set<ContractId>& jobs) {
  std::multimap<ContractId, ContractId> by_name;
  std::multimap<Digest, ContractId> by_bytes;
  for (const auto& [id, contract] : state.contracts()) {
    if (!contract.submit.spec.initial) continue;
    by_bytes.emplace(*contract.submit.spec.initial, id);
    for (const auto& job : contract.submit.initial_jobs) by_name.emplace(job, id);
  }
  std::set<ContractId> out;
  std::vector<ContractId> left(jobs.begin(), jobs.end());
  auto children = [&](const auto& all, const auto& of, uint64_t after) {
    for (auto [it, end] = all.equal_range(of); it != end; ++it) {
      if (state.contract(it->second)->submit_seq <= after) continue;
      if (out.insert(it->second).second) left.push_back(it->second);
    }
  };
  while (!left.empty()) {
    const ContractId id = left.back();
    left.pop_back();
    const Contract* job = state.contract(id);
    if (!job || !job->result) continue;  // no model, nothing starts from it
    children(by_name, id, 0);
    if (const Digest* made = made_by(*job)) children(by_bytes, *made, job->result_seq);
  }
  return out;
}

}  // namespace souk::contracts
