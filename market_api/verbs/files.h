// Small files of the host: keys and sealed state.
#pragma once

#include <string>

#include "ledger/base/bytes.h"

namespace souk::market {

Result<Bytes> read_file(const std::string& path, size_t max_bytes = 64 << 20);
// Temporary file, fsync, rename, fsync of the directory; mode 0600.
Status write_file(const std::string& path, ByteView bytes);
bool file_exists(const std::string& path);

}  // namespace souk::market
