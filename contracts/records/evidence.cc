#include "contracts/records/codec.h"
#include "ledger/crypto/hash.h"

namespace souk::contracts {

Json to_json(const Evidence& evidence) {
  return Json::Object{
      {"kind", evidence.kind}, {"claims", evidence.claims}, {"proof", to_base64(evidence.proof)}};
}

Result<Evidence> evidence_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "evidence"));
  Evidence evidence;
  evidence.kind = TRY(codec::shown_text(fields, "kind", 1, 32));
  evidence.claims = TRY(fields.text("claims", 16'384));
  evidence.proof = TRY(fields.base64("proof"));
  TRY(fields.done());
  return evidence;
}

Digest evidence_digest(const Evidence& evidence) {
  return ledger::sha256(as_bytes(canonical(to_json(evidence))));
}

}  // namespace souk::contracts
