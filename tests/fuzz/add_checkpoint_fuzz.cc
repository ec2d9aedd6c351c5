// A witness's request and its answers: whatever is read is written back the same.
#include "ledger/proof/add_checkpoint.h"
#include "ledger/proof/cosignature.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  auto text = as_text({data, size});
  auto request = ledger::parse_add_checkpoint(text);
  if (request) CHECK(request->text() == text);
  auto held = ledger::parse_tlog_size(text);
  if (held) CHECK(ledger::tlog_size_text(*held) == text);
  auto lines = ledger::parse_signature_lines(text);
  if (lines) CHECK(ledger::signature_lines(*lines) == text);
  auto key = ledger::CosignerKey::parse(text);
  if (key) CHECK(key->vkey() == text);
  return 0;
}
