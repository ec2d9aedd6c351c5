#include "policy/decide/lineage.h"

namespace souk::policy {

Json to_json(const Lineage& lineage) {
  Json::Array datasets;
  for (const DatasetId& id : lineage.datasets) datasets.push_back(id);
  return Json::Object{{"datasets", std::move(datasets)},
                      {"obligations", to_json(lineage.obligations)}};
}

Result<Lineage> lineage_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "lineage"));
  Lineage lineage;
  const Json::Array* datasets = TRY(fields.array("datasets"));
  for (const Json& item : *datasets) {
    if (!item.string()) return Error(Code::kMalformed, "lineage.datasets: expected ids");
    auto id = TRY(named_from_hex<DatasetId>(*item.string()));
    lineage.datasets.insert(id);
  }
  if (lineage.datasets.empty() || lineage.datasets.size() != datasets->size())
    return Error(Code::kMalformed, "lineage.datasets: expected at least one, each once");
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
    out.obligations = meet(out.obligations, other.obligations);
  }
  return out;
}

}  // namespace souk::policy
