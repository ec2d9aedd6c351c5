#include "contracts/lifecycle/ancestry.h"

#include <vector>

namespace souk::contracts {
namespace {

// The contracts next above: named, or betrayed by the bytes.
std::set<ContractId> parents_of(const MarketState& state, const ContractSubmit& submit) {
  if (!submit.spec.initial) return {};
  std::set<ContractId> out(submit.initial_jobs.begin(), submit.initial_jobs.end());
  for (const auto& [id, contract] : state.contracts()) {
    if (contract.result && contract.result->model == *submit.spec.initial) out.insert(id);
  }
  return out;
}

}  // namespace

Ancestry ancestry_of(const MarketState& state, const ContractSubmit& submit) {
  Ancestry out;
  auto stands_against = [&](const char* code, const ContractId& id, const char* need) {
    if (!out.obstacle) out.obstacle = Obstacle{code, "", to_hex(id), need};
  };
  std::set<ContractId> left = parents_of(state, submit);
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
    if (job && job->result) left.merge(parents_of(state, job->submit));
  }
  return out;
}

std::set<DatasetId> learned_from(const MarketState& state, const ContractSubmit& submit) {
  std::set<DatasetId> out(submit.datasets.begin(), submit.datasets.end());
  for (const auto& id : ancestry_of(state, submit).jobs) {
    const Contract* job = state.contract(id);
    if (job) out.insert(job->submit.datasets.begin(), job->submit.datasets.end());
  }
  return out;
}

}  // namespace souk::contracts
