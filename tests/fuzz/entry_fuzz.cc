// Leaves and envelopes have one spelling; no random bytes are authentic.
#include "ledger/entry/entry.h"
#include "ledger/entry/leaf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  ByteView bytes(data, size);
  auto leaf = decode_leaf(bytes);
  if (leaf) {
    auto again = encode_leaf(*leaf);
    CHECK(as_text(again) == as_text(bytes));
  }
  auto json = parse_canonical(as_text(bytes));
  if (json) {
    auto envelope = envelope_from_json(*json);
    if (envelope) CHECK(canonical(to_json(*envelope)) == as_text(bytes));
  }
  auto entry = SignedEntry::decode(leaf ? ByteView(leaf->envelope) : bytes);
  if (entry) {
    auto authentic = authenticate(std::move(entry).take());
    if (authentic) CHECK(authentic->nonce().size() == 32);
  }
  return 0;
}
