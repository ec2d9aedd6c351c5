// job.start, job.result, job.abort.
#include <limits>

#include "contracts/records/codec.h"

namespace souk::contracts {

std::string trainer_wrap_info(const MarketId& market, const ContractId& contract,
                              const DatasetId& dataset, const Digest& trainer_evidence) {
  return canonical(Json::Object{{"purpose", "urn:souk:wrap:trainer:v1"},
                                {"market", market},
                                {"contract", contract},
                                {"dataset", dataset},
                                {"trainer_evidence", trainer_evidence}});
}

std::string header_wrap_info(const MarketId& market, const ContractId& contract) {
  return canonical(Json::Object{
      {"purpose", "urn:souk:wrap:header:v1"}, {"market", market}, {"contract", contract}});
}

namespace codec {
namespace {

Json to_json(const JobStart::Input& input) {
  return Json::Object{{"dataset", input.dataset},
                      {"ciphertext", input.ciphertext},
                      {"size", input.size},
                      {"rows", input.rows}};
}

Result<JobStart::Input> input_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "job.start.inputs"));
  JobStart::Input input;
  input.dataset = TRY(fields.named<DatasetId>("dataset"));
  input.ciphertext = TRY(fields.digest("ciphertext"));
  input.size = TRY(fields.integer("size", 1));
  input.rows = TRY(fields.integer("rows", 1, kMaxRows));
  TRY(fields.done());
  return input;
}

Json to_json(const Wrap& wrap) {
  return Json::Object{{"dataset", wrap.dataset}, {"sealed", to_base64(wrap.sealed)}};
}

Result<Wrap> wrap_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "job.start.wraps"));
  Wrap wrap;
  wrap.dataset = TRY(fields.named<DatasetId>("dataset"));
  wrap.sealed = TRY(sealed_bytes(fields, "sealed"));
  TRY(fields.done());
  return wrap;
}

Json to_json(const JobStop::Spent& spent) {
  return Json::Object{{"charges", charges_json(spent.charges)},
                      {"dataset", spent.dataset},
                      {"epsilon_micro", spent.epsilon_micro}};
}

Result<JobStop::Spent> spent_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "job.stop.spent"));
  JobStop::Spent spent;
  spent.charges = TRY(charges_member(fields, "charges", 0));
  spent.dataset = TRY(fields.named<DatasetId>("dataset"));
  spent.epsilon_micro = TRY(fields.integer("epsilon_micro"));
  TRY(fields.done());
  return spent;
}

}  // namespace

template <>
const char* name_of<JobStart>() {
  return "job.start";
}
template <>
const char* name_of<JobResume>() {
  return "job.resume";
}
template <>
const char* name_of<JobResult>() {
  return "job.result";
}
template <>
const char* name_of<JobStop>() {
  return "job.stop";
}
template <>
const char* name_of<JobAbort>() {
  return "job.abort";
}

Json::Object members(const JobStart& record) {
  Json::Array inputs;
  for (const auto& input : record.inputs) inputs.push_back(to_json(input));
  Json::Array wraps;
  for (const auto& wrap : record.wraps) wraps.push_back(to_json(wrap));
  return {{"contract", record.contract},
          {"decision", record.decision},
          {"trainer", contracts::to_json(record.trainer)},
          {"receipt_key", record.receipt_key},
          {"trainer_kem", record.trainer_kem},
          {"spec", record.spec},
          {"recipient", record.recipient},
          {"obligations", record.obligations},
          {"inputs", std::move(inputs)},
          {"wraps", std::move(wraps)}};
}

Result<JobStart> read(Fields& fields, Of<JobStart>) {
  JobStart record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.decision = TRY(fields.digest("decision"));
  const Json* trainer = TRY(fields.any("trainer"));
  record.trainer = TRY(evidence_from_json(*trainer));
  record.receipt_key = TRY(fields.named<PublicKey>("receipt_key"));
  record.trainer_kem = TRY(fields.named<SealingKey>("trainer_kem"));
  record.spec = TRY(fields.digest("spec"));
  record.recipient = TRY(fields.text("recipient", 62));
  record.obligations = TRY(object_member(fields, "obligations"));
  record.inputs =
      TRY(list_member<JobStart::Input>(fields, "inputs", 1, kMaxDatasets, input_from_json));
  record.wraps = TRY(list_member<Wrap>(fields, "wraps", 1, kMaxDatasets, wrap_from_json));
  return record;
}

Json::Object members(const JobResume& record) {
  return {{"contract", record.contract},
          {"job_start", record.job_start},
          {"attempt", record.attempt},
          {"steps", record.steps},
          {"boot", record.boot}};
}

Result<JobResume> read(Fields& fields, Of<JobResume>) {
  constexpr int64_t kMost = std::numeric_limits<uint32_t>::max();
  JobResume record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.job_start = TRY(fields.digest("job_start"));
  record.attempt = static_cast<uint32_t>(TRY(fields.integer("attempt", 1, kMost)));
  record.steps = static_cast<uint32_t>(TRY(fields.integer("steps", 0, kMost)));
  record.boot = TRY(hex_text(fields, "boot", 32));
  return record;
}

Json::Object members(const JobResult& record) {
  Json::Object out{{"contract", record.contract},
                   {"job_start", record.job_start},
                   {"model", record.model},
                   {"payload", record.payload},
                   {"payload_size", record.payload_size},
                   {"header", record.header},
                   {"steps", record.steps},
                   {"epsilon_micro", record.epsilon_micro},
                   {"delta_pico", record.delta_pico},
                   {"spec", record.spec},
                   {"trainer_evidence", record.trainer_evidence},
                   {"sealed_header", to_base64(record.sealed_header)}};
  if (record.audit) {
    out["audit"] = Json::Object{{"canaries", record.audit->canaries},
                                {"epsilon_lower_micro", record.audit->epsilon_lower_micro},
                                {"epsilon_gdp_micro", record.audit->epsilon_gdp_micro}};
  }
  return out;
}

Result<JobResult> read(Fields& fields, Of<JobResult>) {
  JobResult record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.job_start = TRY(fields.digest("job_start"));
  record.model = TRY(fields.digest("model"));
  record.payload = TRY(fields.digest("payload"));
  record.payload_size = TRY(fields.integer("payload_size", 1));
  record.header = TRY(fields.digest("header"));
  auto steps = TRY(fields.integer("steps", 0, std::numeric_limits<uint32_t>::max()));
  record.steps = static_cast<uint32_t>(steps);
  record.epsilon_micro = TRY(fields.integer("epsilon_micro"));
  record.delta_pico = TRY(fields.integer("delta_pico", 0, kMaxDeltaPico));
  record.spec = TRY(fields.digest("spec"));
  record.trainer_evidence = TRY(fields.digest("trainer_evidence"));
  record.sealed_header = TRY(sealed_bytes(fields, "sealed_header"));
  if (fields.has("audit")) {
    const Json* member = TRY(fields.any("audit"));
    auto audit = TRY(Fields::of(*member, "job.result.audit"));
    JobAudit figures;
    figures.canaries = TRY(audit.integer("canaries", 1));
    figures.epsilon_lower_micro = TRY(audit.integer("epsilon_lower_micro"));
    figures.epsilon_gdp_micro = TRY(audit.integer("epsilon_gdp_micro"));
    TRY(audit.done());
    record.audit = figures;
  }
  return record;
}

Json::Object members(const JobStop& record) {
  Json::Array spent;
  for (const auto& item : record.spent) spent.push_back(to_json(item));
  Json::Object out{{"contract", record.contract},
                   {"job_start", record.job_start},
                   {"spent", std::move(spent)},
                   {"steps", record.steps}};
  if (record.missing) out["missing"] = *record.missing;
  return out;
}

Result<JobStop> read(Fields& fields, Of<JobStop>) {
  JobStop record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.job_start = TRY(fields.digest("job_start"));
  auto steps = TRY(fields.integer("steps", 0, std::numeric_limits<uint32_t>::max()));
  record.steps = static_cast<uint32_t>(steps);
  record.spent =
      TRY(list_member<JobStop::Spent>(fields, "spent", 1, kMaxDatasets, spent_from_json));
  if (fields.has("missing")) record.missing = TRY(fields.named<DatasetId>("missing"));
  return record;
}

Json::Object members(const JobAbort& record) {
  Json::Object out{{"contract", record.contract}, {"reason", record.reason}};
  if (record.dataset) out["dataset"] = *record.dataset;
  return out;
}

Result<JobAbort> read(Fields& fields, Of<JobAbort>) {
  JobAbort record;
  record.contract = TRY(fields.named<ContractId>("contract"));
  record.reason = TRY(shown_text(fields, "reason", 1, 64));
  if (fields.has("dataset")) record.dataset = TRY(fields.named<DatasetId>("dataset"));
  return record;
}

}  // namespace codec
}  // namespace souk::contracts
