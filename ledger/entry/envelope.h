// The DSSE envelope: a payload, its type, and one Ed25519 signature over both.
// Format: ledger/SPEC.md, "Envelope".
#pragma once

#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/codec/json.h"
#include "ledger/crypto/sign.h"

namespace souk::ledger {

struct EnvelopeSignature {
  PublicKey key;
  Signature sig;

  friend bool operator==(const EnvelopeSignature&, const EnvelopeSignature&) = default;
};

struct Envelope {
  std::string payload_type;
  Bytes payload;
  std::vector<EnvelopeSignature> signatures;  // exactly one in what we accept

  friend bool operator==(const Envelope&, const Envelope&) = default;
};

Json to_json(const Envelope& envelope);
// kMalformed unless the object has exactly our members and exactly one signature.
// Does not look at the signature's value: see authenticate().
Result<Envelope> envelope_from_json(const Json& json);

// DSSE v1 PAE: what is really signed.
Bytes pre_authentication_encoding(std::string_view payload_type, ByteView payload);

Envelope sign_envelope(const SigningKey& key, std::string payload_type, Bytes payload);

}  // namespace souk::ledger
