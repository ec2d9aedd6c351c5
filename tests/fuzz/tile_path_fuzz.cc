// A tile path has one spelling.
#include "ledger/base/bytes.h"
#include "ledger/proof/tile_path.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  auto text = as_text(ByteView(data, size));
  auto path = parse_tile_path(text);
  if (!path) return 0;
  CHECK(path->text() == text);
  CHECK(path->width >= 1 && path->width <= kTileWidth);
  CHECK(tile_width(*path, UINT64_MAX) <= kTileWidth);
  return 0;
}
