// A leaf of the tree: an envelope at its place in the chain.
// Format: ledger/SPEC.md, "Leaf".
#pragma once

#include "ledger/base/bytes.h"
#include "ledger/base/clock.h"
#include "ledger/base/named.h"

namespace souk::ledger {

struct Leaf {
  uint64_t seq = 0;  // the index in the tree, <= 2^53 - 1
  Digest prev{};     // leaf hash of seq - 1; 32 zero bytes for seq 0
  TimeMs time = 0;   // never smaller than the leaf's before, 0 <= time <= 2^53 - 1
  Bytes envelope;    // canonical JSON, at most kMaxEnvelopeBytes

  friend bool operator==(const Leaf&, const Leaf&) = default;
};

// Canonical JSON {"envelope":{…},"prev":hex,"seq":n,"time":ms}, at most 65535
// bytes. The envelope stands in it byte for byte. CHECKs sizes and ranges.
Bytes encode_leaf(const Leaf& leaf);
// kMalformed unless the bytes are what encode_leaf writes. Does not decode the
// envelope beyond its being a canonical object.
Result<Leaf> decode_leaf(ByteView bytes);

// RFC 6962 section 2.1: SHA-256(0x00 || bytes).
Digest leaf_hash(ByteView leaf_bytes);

}  // namespace souk::ledger
