#include "contracts/records/codec.h"

namespace souk::contracts {
namespace codec {

template <>
const char* name_of<Credential>() {
  return "credential";
}

Json::Object members(const Credential& record) {
  return {{"subject", record.subject}, {"type", record.type}, {"expires_ms", record.expires_ms}};
}

Result<Credential> read(Fields& fields, Of<Credential>) {
  Credential record;
  record.subject = TRY(fields.named<PublicKey>("subject"));
  record.type = TRY(shown_text(fields, "type", 1, 128));
  record.expires_ms = TRY(fields.integer("expires_ms"));
  return record;
}

}  // namespace codec

ledger::Envelope sign_credential(const Credential& credential, const ledger::SigningKey& issuer,
                                 const MarketId& market) {
  auto body = codec::members(credential);
  body["author"] = issuer.public_key();
  body["market"] = market;
  body["nonce"] = fresh_nonce();
  return ledger::sign_envelope(issuer, Credential::kType, to_bytes(canonical(body)));
}

Result<VerifiedCredential> verify_credential(std::string_view envelope_json,
                                             const MarketId& market) {
  auto signed_entry = TRY(ledger::SignedEntry::decode(as_bytes(envelope_json)));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  if (entry.payload_type() != Credential::kType) {
    return Error(Code::kMalformed, "expected a credential");
  }
  if (entry.market() != to_hex(market)) {
    return Error(Code::kUnauthentic, "expected a credential for this market");
  }
  auto fields = TRY(Fields::of(entry.body(), "credential"));
  TRY(fields.any("author"));
  TRY(fields.any("market"));
  TRY(fields.any("nonce"));
  auto credential = TRY(codec::read(fields, codec::Of<Credential>{}));
  TRY(fields.done());
  return VerifiedCredential{entry.author(), std::move(credential)};
}

}  // namespace souk::contracts
