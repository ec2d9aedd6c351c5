// Notes, keys and checkpoints have one spelling.
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/note.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  auto text = as_text(ByteView(data, size));
  auto note = parse_note(text);
  if (note) {
    CHECK(encode_note(*note) == text);
    auto key = NoteKey::of("fuzz.example", PublicKey());
    CHECK(key);
    CHECK(!verify_note(*note, {&*key, 1}));
  }
  auto checkpoint = parse_checkpoint(text);
  if (checkpoint) CHECK(checkpoint->text() == text);
  auto key = NoteKey::parse(text);
  if (key) CHECK(key->vkey() == text);
  return 0;
}
