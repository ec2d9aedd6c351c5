// Claims about other people's trees: any text is judged, and none ends the program.
#include "ledger/proof/claims.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  auto text = as_text(ByteView(data, size));
  auto inclusion = InclusionClaim::parse(text);
  if (inclusion && inclusion->check()) CHECK(inclusion->index < inclusion->size);
  auto consistency = ConsistencyClaim::parse(text);
  if (consistency && consistency->check()) {
    CHECK(consistency->size1 > 0 && consistency->size1 <= consistency->size2);
  }
  auto signature = SignatureClaim::parse(text);
  if (signature && signature->check()) CHECK(signature->signature.size() == 64);
  return 0;
}
