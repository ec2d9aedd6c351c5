#include "policy/decide/lineage.h"

namespace souk::policy {

namespace {

template <class Id>
Result<std::set<Id>> ids_member(Fields& fields, const std::string& name) {
  const Json::Array* items = TRY(fields.array(name));
  std::set<Id> out;
  for (const Json& item : *items) {
    if (!item.string()) return Error(Code::kMalformed, "lineage." + name + ": expected ids");
    auto id = TRY(named_from_hex<Id>(*item.string()));
    out.insert(id);
  }
  if (out.size() != items->size())
    return Error(Code::kMalformed, "lineage." + name + ": expected each once");
  return out;
}

}  // namespace

Json to_json(const Lineage& lineage) {
  Json::Array datasets;
  for (const DatasetId& id : lineage.datasets) datasets.push_back(id);
  Json::Array jobs;
  for (const ContractId& id : lineage.jobs) jobs.push_back(id);
  return Json::Object{{"datasets", std::move(datasets)},
                      {"jobs", std::move(jobs)},
                      {"obligations", to_json(lineage.obligations)}};
}

Result<Lineage> lineage_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "lineage"));
  Lineage lineage;
  lineage.datasets = TRY(ids_member<DatasetId>(fields, "datasets"));
  if (lineage.datasets.empty())
    return Error(Code::kMalformed, "lineage.datasets: expected at least one");
  lineage.jobs = TRY(ids_member<ContractId>(fields, "jobs"));
  const Json* obligations = TRY(fields.any("obligations"));
  lineage.obligations = TRY(obligations_from_json(*obligations));
  TRY(fields.done());
  return lineage;
}

Lineage derive(const std::vector<Lineage>& from) {
  CHECK(!from.empty());
  Lineage out = from.front();
  for (const Lineage& other : from) {
    out.datasets.insert(other.datasets.begin(), other.datasets.end());
    out.jobs.insert(other.jobs.begin(), other.jobs.end());
    out.obligations = meet(out.obligations, other.obligations);
  }
  return out;
}

}  // namespace souk::policy
