// Whatever decodes encodes to the same bytes; nothing else happens.
#include "trainer/wire/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  ByteView bytes(data, size);
  if (size >= 4) {
    auto length = trainer::frame_length(bytes);
    if (length) CHECK(*length >= 5 && *length <= trainer::kMaxFrame + 4);
  }
  auto frame = trainer::decode(bytes);
  if (!frame) return 0;
  Bytes again = trainer::encode(*frame);
  CHECK(again == Bytes(bytes.begin(), bytes.end()));
  for (auto kind : {trainer::Kind::kDone, trainer::Kind::kRefused, frame->kind}) {
    auto body = trainer::expect(*frame, kind);
    if (body) CHECK(as_bytes(canonical(*body)).size() == frame->body.size());
  }
  return 0;
}
