// policy.publish and policy.change.
#include <array>

#include "contracts/records/codec.h"
#include "ledger/crypto/hash.h"

namespace souk::contracts {
namespace {

constexpr std::array<const char*, 5> kMoveNames = {"activate", "deprecate", "revoke_no_new",
                                                   "revoke_stop", "revoke_destroy"};

}  // namespace

const char* move_name(PolicyChange::Move move) {
  return kMoveNames[static_cast<size_t>(move)];
}

Digest policy_version(const std::string& source, const Json& parameters,
                      const std::string& engine) {
  return ledger::sha256(as_bytes(canonical(Json::Object{
      {"source", policy_hash(source)}, {"parameters", parameters}, {"engine", engine}})));
}

namespace codec {

template <>
const char* name_of<PolicyPublish>() {
  return "policy.publish";
}
template <>
const char* name_of<PolicyChange>() {
  return "policy.change";
}

Json::Object members(const PolicyPublish& record) {
  return {{"dataset", record.dataset},
          {"source", record.source},
          {"parameters", record.parameters},
          {"engine", record.engine}};
}

Result<PolicyPublish> read(Fields& fields, Of<PolicyPublish>) {
  PolicyPublish record;
  record.dataset = TRY(fields.named<DatasetId>("dataset"));
  record.source = TRY(fields.text("source", kMaxPolicyBytes));
  record.parameters = TRY(object_member(fields, "parameters"));
  if (canonical(record.parameters).size() > kMaxParameterBytes) {
    return malformed("policy.publish.parameters", "at most 8192 bytes");
  }
  record.engine = TRY(shown_text(fields, "engine", 0, 64));
  return record;
}

Json::Object members(const PolicyChange& record) {
  return {
      {"dataset", record.dataset}, {"version", record.version}, {"move", move_name(record.move)}};
}

Result<PolicyChange> read(Fields& fields, Of<PolicyChange>) {
  PolicyChange record;
  record.dataset = TRY(fields.named<DatasetId>("dataset"));
  record.version = TRY(fields.digest("version"));
  auto name = TRY(fields.text("move", 32));
  for (size_t i = 0; i < kMoveNames.size(); ++i) {
    if (name != kMoveNames[i]) continue;
    record.move = static_cast<PolicyChange::Move>(i);
    return record;
  }
  return malformed("policy.change.move",
                   "activate, deprecate, revoke_no_new, revoke_stop or revoke_destroy");
}

}  // namespace codec
}  // namespace souk::contracts
