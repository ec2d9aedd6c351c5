// contract.submit and contract.decision.
#include <algorithm>
#include <set>

#include "contracts/records/codec.h"
#include "ledger/crypto/hash.h"

namespace souk::contracts {

ContractId contract_id(ByteView submit_payload) {
  return ContractId(ledger::sha256(submit_payload));
}

Digest spec_hash(const TrainingSpec& spec) {
  return ledger::sha256(as_bytes(canonical(to_json(spec))));
}

namespace codec {
namespace {

// The shape of an age X25519 recipient; its checksum is looked at by who encrypts.
bool looks_like_recipient(const std::string& text) {
  constexpr std::string_view kBech32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
  constexpr std::string_view kPrefix = "age1";
  if (text.size() != 62 || text.compare(0, kPrefix.size(), kPrefix) != 0) return false;
  return std::all_of(text.begin() + 4, text.end(),
                     [&](char c) { return kBech32.find(c) != std::string_view::npos; });
}

Json to_json(const Grant& grant) {
  Json::Object out{{"dataset", grant.dataset},
                   {"price", grant.price},
                   {"charges", charges_json(grant.charges)},
                   {"epsilon_micro", grant.epsilon_micro},
                   {"waived", grant.waived}};
  if (grant.consumer_caps) out["consumer_caps"] = charges_json(*grant.consumer_caps);
  if (grant.purpose_caps) out["purpose_caps"] = charges_json(*grant.purpose_caps);
  if (grant.obligations) out["obligations"] = *grant.obligations;
  return out;
}

Result<Digest> digest_item(const Json& json) {
  const Json item = Json::Object{{"policy", json}};  // Fields points into it
  auto fields = TRY(Fields::of(item, "contract.submit.policies"));
  return fields.digest("policy");
}

Result<Grant> grant_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "contract.decision.grants"));
  Grant grant;
  grant.dataset = TRY(fields.named<DatasetId>("dataset"));
  grant.price = TRY(fields.integer("price"));
  grant.charges = TRY(charges_member(fields, "charges", 0));
  grant.epsilon_micro = TRY(fields.integer("epsilon_micro"));
  grant.waived = TRY(fields.boolean("waived"));
  if (fields.has("consumer_caps")) {
    grant.consumer_caps = TRY(charges_member(fields, "consumer_caps", -1));
  }
  if (fields.has("purpose_caps")) {
    grant.purpose_caps = TRY(charges_member(fields, "purpose_caps", -1));
  }
  if (fields.has("obligations")) grant.obligations = TRY(object_member(fields, "obligations"));
  TRY(fields.done());
  return grant;
}

}  // namespace

template <>
const char* name_of<ContractSubmit>() {
  return "contract.submit";
}
template <>
const char* name_of<ContractDecision>() {
  return "contract.decision";
}

Json::Object members(const ContractSubmit& record) {
  Json::Array datasets;
  for (const auto& dataset : record.datasets) datasets.push_back(dataset);
  Json::Object out{
      {"spec", to_json(record.spec)},  {"datasets", std::move(datasets)},
      {"purpose", record.purpose},     {"region", record.region},
      {"offered", record.offered},     {"deadline_minutes", record.deadline_minutes},
      {"recipient", record.recipient}, {"credentials", texts_json(record.credentials)}};
  if (record.spec.initial) {
    Json::Array jobs;
    for (const auto& job : record.initial_jobs) jobs.push_back(job);
    out["initial_jobs"] = std::move(jobs);
  }
  if (record.policies.empty()) return out;  // left out, so that there is one text of each record
  Json::Array policies;
  for (const auto& policy : record.policies) policies.push_back(policy);
  out["policies"] = std::move(policies);
  return out;
}

Result<ContractSubmit> read(Fields& fields, Of<ContractSubmit>) {
  ContractSubmit record;
  const Json* spec = TRY(fields.any("spec"));
  record.spec = TRY(training_spec_from_json(*spec));
  record.datasets =
      TRY(list_member<DatasetId>(fields, "datasets", 1, kMaxDatasets, name_item<DatasetId>));
  std::set<DatasetId> distinct(record.datasets.begin(), record.datasets.end());
  if (distinct.size() != record.datasets.size()) {
    return malformed("contract.submit.datasets", "each dataset once");
  }
  if (record.spec.privacy && !record.spec.privacy->pool.empty() &&
      record.spec.privacy->pool.size() != record.datasets.size()) {
    return malformed("contract.submit.spec.privacy.pool", "one for each dataset");
  }
  record.purpose = TRY(shown_text(fields, "purpose", 0, 256));
  record.region = TRY(shown_text(fields, "region", 0, 64));
  record.offered = TRY(fields.integer("offered"));
  record.deadline_minutes = TRY(fields.integer("deadline_minutes", 1, kMaxDeadlineMinutes));
  record.recipient = TRY(fields.text("recipient", 62));
  if (!looks_like_recipient(record.recipient)) {
    return malformed("contract.submit.recipient", "an age1... recipient");
  }
  record.credentials = TRY(shown_texts(fields, "credentials", 16, 8192));
  if (record.spec.initial) {
    record.initial_jobs = TRY(
        list_member<ContractId>(fields, "initial_jobs", 0, kMaxInitialJobs, name_item<ContractId>));
    std::set<ContractId> once(record.initial_jobs.begin(), record.initial_jobs.end());
    if (once.size() != record.initial_jobs.size())
      return malformed("contract.submit.initial_jobs", "each job once");
  }
  if (!fields.has("policies")) return record;
  record.policies = TRY(list_member<Digest>(fields, "policies", 1, kMaxDatasets, digest_item));
  if (record.policies.size() != record.datasets.size()) {
    return malformed("contract.submit.policies", "one for each dataset");
  }
  return record;
}

Json::Object members(const ContractDecision& record) {
  Json::Array grants;
  for (const auto& grant : record.grants) grants.push_back(to_json(grant));
  return {{"contract", record.contract},
          {"allow", record.allow},
          {"status", record.status},
          {"reasons", record.reasons},
          {"obligations", record.obligations},
          {"inputs", record.inputs},
          {"price", record.price},
          {"grants", std::move(grants)},
          {"head_size", record.head_size},
          {"head_root", record.head_root}};
}

Result<ContractDecision> read(Fields& fields, Of<ContractDecision>) {
  ContractDecision record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.allow = TRY(fields.boolean("allow"));
  record.status = TRY(shown_text(fields, "status", 0, 64));
  record.reasons = TRY(array_member(fields, "reasons"));
  record.obligations = TRY(object_member(fields, "obligations"));
  record.inputs = TRY(object_member(fields, "inputs"));
  record.price = TRY(fields.integer("price"));
  record.grants = TRY(list_member<Grant>(fields, "grants", 0, kMaxDatasets, grant_from_json));
  auto head_size = TRY(fields.integer("head_size"));
  record.head_size = static_cast<uint64_t>(head_size);
  record.head_root = TRY(fields.digest("head_root"));
  return record;
}

}  // namespace codec
}  // namespace souk::contracts
