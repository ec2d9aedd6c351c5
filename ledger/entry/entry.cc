#include "ledger/entry/entry.h"

#include <algorithm>

#include "ledger/crypto/hash.h"

namespace souk::ledger {
namespace {

// A member that is `digits` lower-case hex digits.
Result<std::string> hex_member(const Json& object, const std::string& name, size_t digits) {
  const Json* member = object.find(name);
  auto* text = member ? member->string() : nullptr;
  auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (!text || text->size() != digits || !std::all_of(text->begin(), text->end(), is_digit)) {
    return Error(Code::kMalformed,
                 "payload." + name + ": expected " + std::to_string(digits) + " hex digits");
  }
  return *text;
}

}  // namespace

Result<SignedEntry> SignedEntry::decode(ByteView envelope_json) {
  auto json = TRY(parse_canonical(as_text(envelope_json), kMaxEnvelopeBytes));
  return read(Bytes(envelope_json.begin(), envelope_json.end()), json);
}

Result<SignedEntry> SignedEntry::decode(ReadLeaf leaf) {
  return read(leaf.take_envelope(), leaf.envelope());
}

Result<SignedEntry> SignedEntry::read(Bytes envelope_json, const Json& json) {
  SignedEntry entry;
  entry.envelope_bytes_ = std::move(envelope_json);
  entry.envelope_ = TRY(envelope_from_json(json));
  auto body = parse_canonical(as_text(entry.envelope_.payload));
  if (!body) return std::move(body).take_error().within("payload");
  entry.body_ = std::move(body).take();
  if (!entry.body_.object()) return Error(Code::kMalformed, "payload: expected an object");

  const Json* signed_part = &entry.body_;
  if (entry.envelope_.payload_type == kInTotoPayloadType) {
    signed_part = entry.body_.find("predicate");
    if (!signed_part || !signed_part->object()) {
      return Error(Code::kMalformed, "payload.predicate: expected an object");
    }
  }
  auto author = TRY(hex_member(*signed_part, "author", 64));
  if (author != to_hex(entry.envelope_.signatures.front().key)) {
    return Error(Code::kMalformed, "payload.author: expected the key that signs");
  }
  const Json* market = signed_part->find("market");
  bool no_market = market && market->string() && market->string()->empty();
  if (!no_market) entry.market_ = TRY(hex_member(*signed_part, "market", 64));
  entry.nonce_ = TRY(hex_member(*signed_part, "nonce", 32));
  return entry;
}

Result<AuthenticEntry> authenticate(SignedEntry entry) {
  const auto& envelope = entry.envelope_;
  const auto& signature = envelope.signatures.front();
  auto signed_bytes = pre_authentication_encoding(envelope.payload_type, envelope.payload);
  if (!verify(signature.key, signed_bytes, signature.sig)) {
    return Error(Code::kUnauthentic, "expected the author's signature over this payload");
  }
  auto payload_hash = sha256(envelope.payload);
  auto envelope_hash = sha256(entry.envelope_bytes_);
  return AuthenticEntry(std::move(entry), payload_hash, envelope_hash);
}

Result<Bytes> sign_entry(const SigningKey& key, std::string payload_type, const Json& body) {
  auto envelope = sign_envelope(key, std::move(payload_type), to_bytes(canonical(body)));
  auto bytes = to_bytes(canonical(to_json(envelope)));
  TRY(SignedEntry::decode(bytes));
  return bytes;
}

}  // namespace souk::ledger
