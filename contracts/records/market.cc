// genesis, keeper.boot, treasury.deposit, tick.
#include <algorithm>

#include "contracts/records/codec.h"

namespace souk::contracts::codec {

template <>
const char* name_of<Genesis>() {
  return "genesis";
}
template <>
const char* name_of<KeeperBoot>() {
  return "keeper.boot";
}
template <>
const char* name_of<Deposit>() {
  return "treasury.deposit";
}
template <>
const char* name_of<Tick>() {
  return "tick";
}

Json::Object members(const Genesis& record) {
  Json::Array roots;
  for (const auto& root : record.evidence_roots) {
    roots.push_back(Json::Object{{"kind", root.kind}, {"key", root.key}});
  }
  Json::Array measurements;
  for (const auto& measurement : record.measurements) measurements.push_back(Json(measurement));
  Json::Object out{{"origin", record.origin},
                   {"ledger_key", record.ledger_key},
                   {"treasury", record.treasury},
                   {"currency", record.currency},
                   {"evidence_roots", std::move(roots)},
                   {"measurements", std::move(measurements)}};
  if (!record.witness_policy.empty()) out["witness_policy"] = record.witness_policy;
  return out;
}

Result<Genesis> read(Fields& fields, Of<Genesis>) {
  Genesis record;
  record.origin = TRY(shown_text(fields, "origin", 1, 256));
  record.ledger_key = TRY(shown_text(fields, "ledger_key", 1, 512));
  record.treasury = TRY(fields.named<PublicKey>("treasury"));
  record.currency = TRY(fields.text("currency", 8));
  auto capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (record.currency.size() < 3 ||
      !std::all_of(record.currency.begin(), record.currency.end(), capital)) {
    return malformed("genesis.currency", "3 to 8 capital letters");
  }
  auto root_item = [](const Json& json) -> Result<Genesis::Root> {
    auto item = TRY(Fields::of(json, "genesis.evidence_roots"));
    Genesis::Root root;
    root.kind = TRY(shown_text(item, "kind", 1, 32));
    root.key = TRY(item.named<PublicKey>("key"));
    TRY(item.done());
    return root;
  };
  record.evidence_roots =
      TRY(list_member<Genesis::Root>(fields, "evidence_roots", 1, 64, root_item));
  auto digest_item = [](const Json& json) -> Result<Digest> {
    const std::string* text = json.string();
    if (!text) return malformed("genesis.measurements", "64 hex digits each");
    auto bytes = TRY(from_hex(*text));
    return fixed<32>(bytes);
  };
  record.measurements = TRY(list_member<Digest>(fields, "measurements", 1, 64, digest_item));
  if (fields.has("witness_policy")) {
    record.witness_policy = TRY(fields.text("witness_policy", kMaxWitnessPolicyBytes));
    if (record.witness_policy.empty()) {
      return malformed("genesis.witness_policy", "a policy, or no such member");
    }
  }
  return record;
}

Json::Object members(const KeeperBoot& record) {
  return {{"kem", record.kem}, {"evidence", to_json(record.evidence)}};
}

Result<KeeperBoot> read(Fields& fields, Of<KeeperBoot>) {
  KeeperBoot record;
  record.kem = TRY(fields.named<SealingKey>("kem"));
  const Json* evidence = TRY(fields.any("evidence"));
  record.evidence = TRY(evidence_from_json(*evidence));
  return record;
}

Json::Object members(const Deposit& record) {
  return {{"account", record.account}, {"minor", record.minor}};
}

Result<Deposit> read(Fields& fields, Of<Deposit>) {
  Deposit record;
  record.account = TRY(fields.named<PublicKey>("account"));
  record.minor = TRY(fields.integer("minor", 1));
  return record;
}

Json::Object members(const Tick&) {
  return {};
}

Result<Tick> read(Fields&, Of<Tick>) {
  return Tick{};
}

}  // namespace souk::contracts::codec
