// What a model made from providers' data carries on. policy/SPEC.md, Composition.
#pragma once

#include <set>
#include <vector>

#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "policy/decide/obligations.h"

namespace souk::policy {

// What holds for a model, wherever it goes: the datasets it has learned from, its own and
// its ancestors', and everything that any of their providers obliged it to.
struct Lineage {
  std::set<DatasetId> datasets;
  Obligations obligations;
  // The jobs of a market that made it and its ancestors; a contract that starts from it names them.
  std::set<ContractId> jobs = {};
  friend bool operator==(const Lineage&, const Lineage&) = default;
};
Json to_json(const Lineage& lineage);  // {datasets, jobs, obligations}
Result<Lineage> lineage_from_json(const Json& json);

// Of a model made from all of these, in any order: never looser than one of them. At
// least one; a run in a market is one itself.
Lineage derive(const std::vector<Lineage>& from);

}  // namespace souk::policy
