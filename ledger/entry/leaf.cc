#include "ledger/entry/leaf.h"

#include <algorithm>

#include "ledger/crypto/hash.h"
#include "ledger/entry/entry.h"

namespace souk::ledger {
namespace {

constexpr std::string_view kLeafStart = "{\"envelope\":";

std::string after_envelope(const LeafPlace& leaf) {
  return ",\"prev\":\"" + to_hex(ByteView(leaf.prev)) + "\",\"seq\":" + std::to_string(leaf.seq) +
         ",\"time\":" + std::to_string(leaf.time) + "}";
}

}  // namespace

Bytes encode_leaf(const Leaf& leaf) {
  return encode_leaf(LeafPlace{leaf.seq, leaf.prev, leaf.time}, leaf.envelope);
}

Bytes encode_leaf(const LeafPlace& place, ByteView envelope) {
  CHECK(envelope.size() <= kMaxEnvelopeBytes);
  CHECK(place.seq <= static_cast<uint64_t>(kMaxJsonInteger));
  CHECK(place.time >= 0 && place.time <= kMaxJsonInteger);
  // The members are in canonical order, and the envelope, canonical itself, is
  // spliced in: what its author signed is stored as it came.
  auto tail = after_envelope(place);
  Bytes out;
  out.reserve(kLeafStart.size() + envelope.size() + tail.size());
  append(out, as_bytes(kLeafStart));
  append(out, envelope);
  append(out, as_bytes(tail));
  CHECK(out.size() <= kMaxRecordBytes);
  return out;
}

bool is_leaf_of(ByteView bytes, const LeafPlace& place, ByteView envelope) {
  auto tail = after_envelope(place);
  size_t inner = kLeafStart.size() + envelope.size();
  if (bytes.size() != inner + tail.size()) return false;
  auto equal = [](ByteView a, ByteView b) { return std::equal(a.begin(), a.end(), b.begin()); };
  return equal(bytes.first(kLeafStart.size()), as_bytes(kLeafStart)) &&
         equal(bytes.subspan(kLeafStart.size(), envelope.size()), envelope) &&
         equal(bytes.subspan(inner), as_bytes(tail));
}

Result<Leaf> decode_leaf(ByteView bytes) {
  auto read = TRY(read_leaf(bytes));
  return read.leaf();
}

Result<ReadLeaf> read_leaf(ByteView bytes) {
  auto parsed = TRY(parse_canonical(as_text(bytes), kMaxRecordBytes));
  auto json = std::make_unique<const Json>(std::move(parsed));
  auto fields = TRY(Fields::of(*json, "leaf"));
  auto* envelope = TRY(fields.any("envelope"));
  auto prev = TRY(fields.digest("prev"));
  auto seq = TRY(fields.integer("seq"));
  auto time = TRY(fields.integer("time"));
  TRY(fields.done());
  if (!envelope->object()) return Error(Code::kMalformed, "leaf.envelope: expected an object");
  Leaf leaf{.seq = static_cast<uint64_t>(seq), .prev = prev, .time = time, .envelope = {}};
  // The text is canonical, so what stands between the fixed beginning and the fixed
  // end is the envelope, byte for byte.
  auto tail = after_envelope({leaf.seq, leaf.prev, leaf.time});
  CHECK(bytes.size() > kLeafStart.size() + tail.size());
  auto inner = bytes.subspan(kLeafStart.size(), bytes.size() - kLeafStart.size() - tail.size());
  if (inner.size() > kMaxEnvelopeBytes) {
    return Error(Code::kMalformed, "leaf.envelope: expected at most 65280 bytes");
  }
  leaf.envelope.assign(inner.begin(), inner.end());
  return ReadLeaf(std::move(leaf), std::move(json));
}

Digest leaf_hash(ByteView leaf_bytes) {
  thread_local Sha256 hash;
  constexpr uint8_t prefix = 0x00;
  hash.update(ByteView(&prefix, 1));
  hash.update(leaf_bytes);
  return hash.finish();
}

}  // namespace souk::ledger
