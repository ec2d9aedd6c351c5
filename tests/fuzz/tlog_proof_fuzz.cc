// A tlog-proof has one spelling; the verifiers end on any index, size and path.
#include "ledger/proof/merkle.h"
#include "ledger/proof/tlog_proof.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  ByteView bytes(data, size);
  auto proof = parse_tlog_proof(as_text(bytes));
  if (proof) CHECK(proof->text() == as_text(bytes));

  if (size < 16) return 0;
  auto number = [&](size_t at) {
    uint64_t value = 0;
    for (size_t i = 0; i < 8; ++i) value = value << 8 | data[at + i];
    return value;
  };
  std::vector<Digest> path;
  for (size_t at = 16; at + 32 <= size && path.size() < 70; at += 32) {
    path.push_back(fixed<32>(bytes.subspan(at, 32)).take());
  }
  Digest impossible{};  // no SHA-256 input we know of
  CHECK(!verify_inclusion(empty_root(), number(0), number(8), path, impossible));
  if (number(0) != number(8)) {
    CHECK(!verify_consistency(number(0), number(8), path, impossible, impossible));
  }
  auto restored = CompactTree::restore(bytes);
  if (restored) CHECK(restored->serialise() == Bytes(bytes.begin(), bytes.end()));
  return 0;
}
