// What the canonical reader accepts it writes back byte for byte, and the
// ordinary reader reads the same value.
#include "ledger/codec/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  auto text = as_text(ByteView(data, size));
  auto strict = parse_canonical(text);
  auto loose = parse_json(text);
  if (strict) {
    CHECK(canonical(*strict) == text);
    CHECK(loose && *loose == *strict);
  }
  if (loose) {
    auto again = parse_canonical(canonical(*loose), 64 << 20);
    CHECK(again && *again == *loose);
  }
  auto real = parse_real(text);
  if (real) CHECK(real_text(*real) == text);
  return 0;
}
