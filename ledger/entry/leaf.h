// A leaf of the tree: an envelope at its place in the chain.
// Format: ledger/SPEC.md, "Leaf".
#pragma once

#include <memory>

#include "ledger/base/bytes.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"
#include "ledger/codec/json.h"

namespace souk::ledger {

struct Leaf {
  uint64_t seq = 0;  // the index in the tree, <= 2^53 - 1
  Digest prev{};     // leaf hash of seq - 1; 32 zero bytes for seq 0
  TimeMs time = 0;   // never smaller than the leaf's before, 0 <= time <= 2^53 - 1
  Bytes envelope;    // canonical JSON, at most kMaxEnvelopeBytes

  friend bool operator==(const Leaf&, const Leaf&) = default;
};

// The same bytes from an envelope that lies elsewhere.
struct LeafPlace {
  uint64_t seq = 0;
  Digest prev{};
  TimeMs time = 0;
};

// Canonical JSON {"envelope":{…},"prev":hex,"seq":n,"time":ms}, at most 65535
// bytes. The envelope stands in it byte for byte. CHECKs sizes and ranges.
Bytes encode_leaf(const Leaf& leaf);
Bytes encode_leaf(const LeafPlace& place, ByteView envelope);
// Whether `bytes` are encode_leaf(place, envelope).
bool is_leaf_of(ByteView bytes, const LeafPlace& place, ByteView envelope);
// kMalformed unless the bytes are what encode_leaf writes. Does not decode the
// envelope beyond its being a canonical object.
Result<Leaf> decode_leaf(ByteView bytes);

// A leaf, and its envelope as it was parsed on the way: for SignedEntry::decode.
class ReadLeaf {
 public:
  const Leaf& leaf() const { return leaf_; }
  Bytes take_envelope() { return std::move(leaf_.envelope); }
  const Json& envelope() const { return *json_->find("envelope"); }

 private:
  friend Result<ReadLeaf> read_leaf(ByteView bytes);
  ReadLeaf(Leaf leaf, std::unique_ptr<const Json> json)
      : leaf_(std::move(leaf)), json_(std::move(json)) {}

  Leaf leaf_;
  std::unique_ptr<const Json> json_;  // of the whole leaf
};
Result<ReadLeaf> read_leaf(ByteView bytes);

// RFC 6962 section 2.1: SHA-256(0x00 || bytes).
Digest leaf_hash(ByteView leaf_bytes);

}  // namespace souk::ledger
