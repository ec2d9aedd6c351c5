// Inside contracts/records: what the writers and readers of records share.
// Other rooms include records.h.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "contracts/records/records.h"

namespace souk::contracts::codec {

inline constexpr int64_t kMaxRows = int64_t{1} << 31;  // trainer/data/table.h
inline constexpr int64_t kMaxFeatures = int64_t{1} << 24;
inline constexpr size_t kMaxClasses = 4096;
inline constexpr int64_t kMaxDeltaPico = 1'000'000'000'000;
inline constexpr size_t kMaxSealedBytes = 4096;

template <class R>
struct Of {};  // says which record a reader reads

// Writer and reader of each record's own members, side by side in market.cc,
// dataset.cc, contract.cc and job.cc.
Json::Object members(const Genesis& record);
Json::Object members(const KeeperBoot& record);
Json::Object members(const Deposit& record);
Json::Object members(const Tick& record);
Json::Object members(const DatasetOffer& record);
Json::Object members(const DatasetRevoke& record);
Json::Object members(const DatasetErase& record);
Json::Object members(const PolicyPublish& record);
Json::Object members(const PolicyChange& record);
Json::Object members(const ContractSubmit& record);
Json::Object members(const ContractDecision& record);
Json::Object members(const JobStart& record);
Json::Object members(const JobResume& record);
Json::Object members(const JobResult& record);
Json::Object members(const JobStop& record);
Json::Object members(const JobAbort& record);
Json::Object members(const Credential& record);

Result<Genesis> read(Fields& fields, Of<Genesis>);
Result<KeeperBoot> read(Fields& fields, Of<KeeperBoot>);
Result<Deposit> read(Fields& fields, Of<Deposit>);
Result<Tick> read(Fields& fields, Of<Tick>);
Result<DatasetOffer> read(Fields& fields, Of<DatasetOffer>);
Result<DatasetRevoke> read(Fields& fields, Of<DatasetRevoke>);
Result<DatasetErase> read(Fields& fields, Of<DatasetErase>);
Result<PolicyPublish> read(Fields& fields, Of<PolicyPublish>);
Result<PolicyChange> read(Fields& fields, Of<PolicyChange>);
Result<ContractSubmit> read(Fields& fields, Of<ContractSubmit>);
Result<ContractDecision> read(Fields& fields, Of<ContractDecision>);
Result<JobStart> read(Fields& fields, Of<JobStart>);
Result<JobResume> read(Fields& fields, Of<JobResume>);
Result<JobResult> read(Fields& fields, Of<JobResult>);
Result<JobStop> read(Fields& fields, Of<JobStop>);
Result<JobAbort> read(Fields& fields, Of<JobAbort>);
Result<Credential> read(Fields& fields, Of<Credential>);

// "dataset.offer": how messages and people call a record.
template <class R>
const char* name_of();

inline Error malformed(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": expected " + expected);
}

// Text that people will see on a terminal: at least `min_bytes`, no control characters.
Result<std::string> shown_text(Fields& fields, const std::string& name, size_t min_bytes,
                               size_t max_bytes);
Result<std::vector<std::string>> shown_texts(Fields& fields, const std::string& name,
                                             size_t max_items, size_t max_bytes);
// `digits` lower-case hex digits, kept as text.
Result<std::string> hex_text(Fields& fields, const std::string& name, size_t digits);
// What HPKE made: longer than its 32 + 16 bytes of overhead, at most kMaxSealedBytes.
Result<Bytes> sealed_bytes(Fields& fields, const std::string& name);
Result<Json> object_member(Fields& fields, const std::string& name);
Result<Json> array_member(Fields& fields, const std::string& name);

Json charges_json(const Charges& charges);
Result<Charges> charges_member(Fields& fields, const std::string& name, int64_t min);

Json texts_json(const std::vector<std::string>& texts);

// A list whose items `read_item(const Json&)` reads.
template <class Item, class ReadItem>
Result<std::vector<Item>> list_member(Fields& fields, const std::string& name, size_t min_items,
                                      size_t max_items, ReadItem read_item) {
  const Json::Array* items = TRY(fields.array(name, max_items));
  if (items->size() < min_items) {
    return malformed(name, "at least " + std::to_string(min_items) + " items");
  }
  std::vector<Item> out;
  out.reserve(items->size());
  for (const Json& json : *items) {
    Item item = TRY(read_item(json));
    out.push_back(std::move(item));
  }
  return out;
}

// An item that is itself a name in hex.
template <class Name>
Result<Name> name_item(const Json& json) {
  const std::string* text = json.string();
  if (!text) return Error(Code::kMalformed, "expected hex digits");
  return named_from_hex<Name>(*text);
}

}  // namespace souk::contracts::codec
