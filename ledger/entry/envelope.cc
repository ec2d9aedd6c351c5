#include "ledger/entry/envelope.h"

namespace souk::ledger {

Json to_json(const Envelope& envelope) {
  Json::Array signatures;
  for (const auto& signature : envelope.signatures) {
    signatures.push_back(
        Json::Object{{"keyid", signature.key}, {"sig", to_base64(signature.sig.value())}});
  }
  return Json::Object{{"payload", to_base64(envelope.payload)},
                      {"payloadType", envelope.payload_type},
                      {"signatures", std::move(signatures)}};
}

Result<Envelope> envelope_from_json(const Json& json) {
  auto fields = TRY(Fields::of(json, "envelope"));
  auto payload = TRY(fields.base64("payload"));
  auto payload_type = TRY(fields.text("payloadType", 256));
  auto* signatures = TRY(fields.array("signatures", 1));
  TRY(fields.done());
  if (payload_type.empty()) {
    return Error(Code::kMalformed, "envelope.payloadType: expected a type");
  }
  if (signatures->size() != 1) {
    return Error(Code::kMalformed, "envelope.signatures: expected exactly one");
  }
  auto signature = TRY(Fields::of(signatures->front(), "envelope.signatures"));
  auto key = TRY(signature.named<PublicKey>("keyid"));
  auto sig_bytes = TRY(signature.base64("sig"));
  TRY(signature.done());
  auto sig = TRY(fixed<64>(sig_bytes));
  return Envelope{.payload_type = std::move(payload_type),
                  .payload = std::move(payload),
                  .signatures = {{.key = key, .sig = Signature(sig)}}};
}

Bytes pre_authentication_encoding(std::string_view payload_type, ByteView payload) {
  std::string head = "DSSEv1 " + std::to_string(payload_type.size()) + " ";
  head += payload_type;
  head += " " + std::to_string(payload.size()) + " ";
  Bytes out = to_bytes(head);
  append(out, payload);
  return out;
}

Envelope sign_envelope(const SigningKey& key, std::string payload_type, Bytes payload) {
  auto sig = key.sign(pre_authentication_encoding(payload_type, payload));
  return {.payload_type = std::move(payload_type),
          .payload = std::move(payload),
          .signatures = {{.key = key.public_key(), .sig = sig}}};
}

}  // namespace souk::ledger
