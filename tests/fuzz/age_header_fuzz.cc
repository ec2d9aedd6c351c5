// No bytes break the age reader; a header that checks has exactly its own length, and
// nobody but its maker knows its MAC.
#include "trainer/data/age.h"

using namespace souk;
using namespace souk::trainer;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const AgeIdentity identity = AgeIdentity::generate();
  static const FileKey key = FileKey::random();
  ByteView bytes(data, size);
  if (check_header(bytes)) {
    auto length = find_header_length(bytes);
    CHECK(length && *length == size);
    CHECK(!verify_header(bytes, key));
    CHECK(!open_header(bytes, identity));
  }
  if (auto parts = split_file(bytes)) {
    CHECK(parts->header.size() + parts->payload.size() == size);
    CHECK(check_header(parts->header));
    CHECK(!decrypt_payload(key, parts->payload));
  }
  CHECK(!decrypt_file(bytes, identity));
  return 0;
}
