#include "trainer/session/kept_run.h"

#include <algorithm>

#include "ledger/codec/json.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {
namespace {

// Length of the text (4 bytes, little endian) | text, canonical JSON | three secrets | state.
constexpr size_t kLength = 4, kSecret = 32, kSecrets = 3 * kSecret;
constexpr size_t kMaxText = size_t{64} << 10;

}  // namespace

Bytes to_bytes(const KeptRun& run, uint64_t more, SecretAccess access) {
  const std::string text = canonical(Json::Object{{"attempt", run.attempt},
                                                  {"evidence", contracts::to_json(run.evidence)},
                                                  {"ledger_root", run.ledger_root},
                                                  {"ledger_size", run.ledger_size},
                                                  {"machine", run.machine},
                                                  {"steps", run.steps}});
  CHECK(text.size() <= kMaxText);
  Bytes out;
  out.reserve(kLength + text.size() + kSecrets + run.state.size() + more);
  for (size_t i = 0; i < kLength; ++i) out.push_back(static_cast<uint8_t>(text.size() >> (8 * i)));
  append(out, as_bytes(text));
  append(out, run.receipt_key.seed(access).bytes(access));
  append(out, run.kem.secret(access).bytes(access));
  append(out, run.root.bytes(access));
  append(out, run.state);
  return out;
}

Result<KeptRun> kept_run_from(ByteView bytes) {
  auto malformed = [] { return Error(Code::kMalformed, "expected a kept training run"); };
  if (bytes.size() < kLength) return malformed();
  size_t length = 0;
  for (size_t i = kLength; i-- > 0;) length = length << 8 | bytes[i];
  bytes = bytes.subspan(kLength);
  if (length > kMaxText || bytes.size() < length + kSecrets) return malformed();
  auto json = TRY(parse_canonical(as_text(bytes.first(length)), kMaxText));
  auto fields = TRY(Fields::of(json, "kept run"));
  KeptRun run;
  run.attempt = static_cast<uint32_t>(TRY(fields.integer("attempt", 0, UINT32_MAX)));
  const Json* evidence = TRY(fields.any("evidence"));
  run.evidence = TRY(contracts::evidence_from_json(*evidence));
  run.ledger_root = TRY(fields.digest("ledger_root"));
  run.ledger_size = static_cast<uint64_t>(TRY(fields.integer("ledger_size")));
  run.machine = TRY(fields.text("machine"));
  run.steps = static_cast<uint32_t>(TRY(fields.integer("steps", 0, UINT32_MAX)));
  TRY(fields.done());
  auto secrets = bytes.subspan(length);
  run.receipt_key = TRY(ledger::SigningKey::from_seed(secrets.first(kSecret)));
  run.kem = TRY(ledger::KemKey::from_bytes(secrets.subspan(kSecret, kSecret)));
  auto root = TRY(fixed<kSecret>(secrets.subspan(2 * kSecret, kSecret)));
  run.root = NoiseRoot::copy_of(root);
  wipe(root.data(), root.size());
  auto state = secrets.subspan(kSecrets);
  run.state.assign(state.begin(), state.end());
  return run;
}

}  // namespace souk::trainer
