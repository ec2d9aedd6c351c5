#include "ledger/entry/leaf.h"

#include "ledger/codec/json.h"
#include "ledger/crypto/hash.h"
#include "ledger/entry/entry.h"

namespace souk::ledger {
namespace {

constexpr std::string_view kLeafStart = "{\"envelope\":";

std::string after_envelope(const Leaf& leaf) {
  return ",\"prev\":\"" + to_hex(ByteView(leaf.prev)) + "\",\"seq\":" + std::to_string(leaf.seq) +
         ",\"time\":" + std::to_string(leaf.time) + "}";
}

}  // namespace

Bytes encode_leaf(const Leaf& leaf) {
  CHECK(leaf.envelope.size() <= kMaxEnvelopeBytes);
  CHECK(leaf.seq <= static_cast<uint64_t>(kMaxJsonInteger));
  CHECK(leaf.time >= 0 && leaf.time <= kMaxJsonInteger);
  // The members are in canonical order, and the envelope, canonical itself, is
  // spliced in: what its author signed is stored as it came.
  Bytes out = to_bytes(kLeafStart);
  append(out, leaf.envelope);
  append(out, as_bytes(after_envelope(leaf)));
  CHECK(out.size() <= kMaxRecordBytes);
  return out;
}

Result<Leaf> decode_leaf(ByteView bytes) {
  auto json = TRY(parse_canonical(as_text(bytes), kMaxRecordBytes));
  auto fields = TRY(Fields::of(json, "leaf"));
  auto* envelope = TRY(fields.any("envelope"));
  auto prev = TRY(fields.digest("prev"));
  auto seq = TRY(fields.integer("seq"));
  auto time = TRY(fields.integer("time"));
  TRY(fields.done());
  if (!envelope->object()) return Error(Code::kMalformed, "leaf.envelope: expected an object");
  Leaf leaf{.seq = static_cast<uint64_t>(seq), .prev = prev, .time = time, .envelope = {}};
  // The text is canonical, so what stands between the fixed beginning and the fixed
  // end is the envelope, byte for byte.
  auto tail = after_envelope(leaf);
  CHECK(bytes.size() > kLeafStart.size() + tail.size());
  auto inner = bytes.subspan(kLeafStart.size(), bytes.size() - kLeafStart.size() - tail.size());
  if (inner.size() > kMaxEnvelopeBytes) {
    return Error(Code::kMalformed, "leaf.envelope: expected at most 65280 bytes");
  }
  leaf.envelope.assign(inner.begin(), inner.end());
  return leaf;
}

Digest leaf_hash(ByteView leaf_bytes) {
  thread_local Sha256 hash;
  constexpr uint8_t prefix = 0x00;
  hash.update(ByteView(&prefix, 1));
  hash.update(leaf_bytes);
  return hash.finish();
}

}  // namespace souk::ledger
