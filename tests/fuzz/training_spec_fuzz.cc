// What the strict reader accepts is a possible specification and writes back the same.
#include "contracts/training/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  auto json = parse_canonical(as_text(ByteView(data, size)), size);
  if (!json) return 0;
  auto spec = contracts::training_spec_from_json(*json);
  if (!spec) return 0;
  CHECK(contracts::check_spec(*spec));
  auto again = contracts::training_spec_from_json(contracts::to_json(*spec));
  CHECK(again && *again == *spec);
  return 0;
}
