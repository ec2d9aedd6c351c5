#include "ledger/proof/policy_check.h"

#include <algorithm>

namespace souk::ledger {
namespace {

// Adds who cosigned. kUnauthentic when a line in the name of a witness is false, or when they
// do not meet the quorum.
Status add_witnesses(const Note& note, const TlogPolicy& policy, PolicyVerdict& out) {
  for (const auto& witness : policy.witnesses()) {
    if (witness.key.type != KeyType::kCosignature) continue;
    auto key = TRY(CosignerKey::of(witness.key));
    auto time = TRY(cosigned_at(note, key));
    if (!time) continue;
    out.witnesses.insert(witness.name);
    out.newest = std::max(out.newest.value_or(0), *time);
  }
  if (policy.satisfied_by(out.witnesses)) return Done{};
  return Error(Code::kUnauthentic, "expected cosignatures that meet the policy's quorum");
}

}  // namespace

Result<PolicyVerdict> check_under_policy(std::string_view note_text, const TlogPolicy& policy) {
  auto note = TRY(parse_note(note_text));
  PolicyVerdict out;
  out.checkpoint = TRY(parse_checkpoint(note.text));
  for (const auto& log : policy.logs()) {
    if (log.key.type != KeyType::kEd25519 || log.key.name != out.checkpoint.origin) continue;
    auto key = TRY(NoteKey::of(log.key));
    bool named = false;
    for (const auto& line : note.signatures) {
      named = named || (line.name == key.name() && line.id == key.id());
    }
    if (!named) continue;
    TRY(verify_note(note, {&key, 1}));
    out.log_key = key.vkey();
  }
  if (out.log_key.empty()) {
    return Error(Code::kUnauthentic,
                 "expected the signature of a log of the policy with this origin");
  }
  TRY(add_witnesses(note, policy, out));
  return out;
}

Result<PolicyVerdict> check_under_policy(std::string_view note_text, const TlogPolicy& policy,
                                         const NoteKey& log) {
  auto out = TRY(check_under_key(note_text, log));
  const auto& logs = policy.logs();
  bool named = std::any_of(logs.begin(), logs.end(), [&](const TlogPolicy::Log& line) {
    auto key = NoteKey::of(line.key);
    return key && key->vkey() == log.vkey();
  });
  if (!logs.empty() && !named) {
    return Error(Code::kUnauthentic, "expected a log that the policy names");
  }
  auto note = TRY(parse_note(note_text));
  TRY(add_witnesses(note, policy, out));
  return out;
}

Result<PolicyVerdict> check_under_key(std::string_view note, const NoteKey& key) {
  auto checkpoint = TRY(open_checkpoint(note, key));
  return PolicyVerdict{.checkpoint = std::move(checkpoint),
                       .log_key = key.vkey(),
                       .witnesses = {},
                       .newest = std::nullopt};
}

}  // namespace souk::ledger
