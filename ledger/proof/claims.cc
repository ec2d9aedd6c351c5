#include "ledger/proof/claims.h"

#include <algorithm>

#include "ledger/codec/json.h"
#include "ledger/crypto/sign.h"
#include "ledger/proof/merkle.h"

namespace souk::ledger {
namespace {

constexpr size_t kMaxHashText = 4096;
constexpr size_t kMaxProofHashes = 4096;  // 64 are the most that can be true
constexpr size_t kMaxMessageText = 32 << 20;

Error wrong(const char* expected) {
  return Error(Code::kUnauthentic, std::string("expected ") + expected);
}

Result<Bytes> any_case_hex(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
  }
  return from_hex(text);
}

// 64 hex digits are hex; what else is base64 is base64; what else is hex has another length.
Result<Bytes> hash_of(const Json& value, const std::string& place) {
  auto* text = value.string();
  if (text && text->size() <= kMaxHashText) {
    auto hex = any_case_hex(*text);
    if (hex && text->size() == 64) return hex;
    auto base64 = from_base64(*text);
    if (base64) return base64;
    if (hex) return hex;
  }
  return Error(Code::kMalformed, place + ": expected a hash in hex or base64");
}

Result<Bytes> hash(Fields& fields, const std::string& name) {
  const Json* value = TRY(fields.any(name));
  return hash_of(*value, name);
}

Result<uint64_t> number(Fields& fields, const std::string& name) {
  const Json* value = TRY(fields.any(name));
  auto number = value->natural();
  if (!number) return Error(Code::kMalformed, name + ": expected an integer from 0 to 2^64 - 1");
  return *number;
}

// null is how some write no hashes.
Result<std::vector<Bytes>> hashes(Fields& fields) {
  const Json* value = TRY(fields.any("proof"));
  std::vector<Bytes> out;
  if (value->is_null()) return out;
  auto* list = value->array();
  if (!list || list->size() > kMaxProofHashes) {
    return Error(Code::kMalformed, "proof: expected a list of hashes");
  }
  for (const auto& item : *list) {
    auto bytes = TRY(hash_of(item, "proof"));
    out.push_back(std::move(bytes));
  }
  return out;
}

Result<Digest> digest(ByteView bytes) {
  auto out = fixed<32>(bytes);
  if (!out) return wrong("hashes of 32 bytes");
  return out;
}

Result<std::vector<Digest>> digests(const std::vector<Bytes>& hashes) {
  std::vector<Digest> out;
  for (const auto& bytes : hashes) {
    auto one = TRY(digest(bytes));
    out.push_back(one);
  }
  return out;
}

Result<Json> object(std::string_view text, size_t max_bytes) {
  auto json = parse_wide_json(text, max_bytes);
  if (!json) return json;
  if (!json->object()) return Error(Code::kMalformed, "expected one JSON object");
  return json;
}

}  // namespace

Result<InclusionClaim> InclusionClaim::parse(std::string_view text) {
  auto json = TRY(object(text, 1 << 20));
  auto fields = TRY(Fields::of(json, "inclusion"));
  InclusionClaim out;
  out.leaf_hash = TRY(hash(fields, "leaf_hash"));
  out.index = TRY(number(fields, "index"));
  out.size = TRY(number(fields, "size"));
  out.root = TRY(hash(fields, "root"));
  out.proof = TRY(hashes(fields));
  TRY(fields.done());
  return out;
}

Status InclusionClaim::check() const {
  auto leaf = TRY(digest(leaf_hash));
  auto top = TRY(digest(root));
  auto path = TRY(digests(proof));
  return verify_inclusion(leaf, index, size, path, top);
}

Result<ConsistencyClaim> ConsistencyClaim::parse(std::string_view text) {
  auto json = TRY(object(text, 1 << 20));
  auto fields = TRY(Fields::of(json, "consistency"));
  ConsistencyClaim out;
  out.size1 = TRY(number(fields, "size1"));
  out.root1 = TRY(hash(fields, "root1"));
  out.size2 = TRY(number(fields, "size2"));
  out.root2 = TRY(hash(fields, "root2"));
  out.proof = TRY(hashes(fields));
  TRY(fields.done());
  return out;
}

Status ConsistencyClaim::check() const {
  if (size1 == 0) return wrong("an old tree that is not empty");
  if (size1 == size2) {
    if (!proof.empty()) return wrong("an empty proof for one and the same size");
    if (root1 != root2) return wrong("one root for one size");
    return Done{};
  }
  auto old_root = TRY(digest(root1));
  auto new_root = TRY(digest(root2));
  auto path = TRY(digests(proof));
  return verify_consistency(size1, size2, path, old_root, new_root);
}

Result<SignatureClaim> SignatureClaim::parse(std::string_view text) {
  auto json = TRY(object(text, kMaxMessageText + 4096));
  auto fields = TRY(Fields::of(json, "signature"));
  SignatureClaim out;
  for (auto [name, bytes] :
       {std::pair{"public_key", &out.public_key}, std::pair{"message", &out.message},
        std::pair{"signature", &out.signature}}) {
    auto digits = TRY(fields.text(name, kMaxMessageText));
    auto read = any_case_hex(std::move(digits));
    if (!read) return Error(Code::kMalformed, std::string(name) + ": expected hex digits");
    *bytes = std::move(*read);
  }
  TRY(fields.done());
  return out;
}

Status SignatureClaim::check() const {
  auto key = fixed<32>(public_key);
  if (!key) return wrong("a public key of 32 bytes");
  auto bytes = fixed<64>(signature);
  if (!bytes) return wrong("a signature of 64 bytes");
  if (!verify(PublicKey(*key), message, Signature(*bytes))) {
    return wrong("a signature that holds under libsodium's rule");
  }
  return Done{};
}

}  // namespace souk::ledger
