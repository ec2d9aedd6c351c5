#include "ledger/codec/gzip.h"
#include "trainer/data/import.h"

namespace souk::trainer {

Result<Bytes> gunzip_if_needed(ByteView bytes, size_t max_bytes) {
  if (is_gzip(bytes)) return gunzip(bytes, max_bytes);
  if (bytes.size() > max_bytes) return Error(Code::kMalformed, "expected a smaller file");
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace souk::trainer
