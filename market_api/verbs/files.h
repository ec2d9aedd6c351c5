// Small files of the host: keys and sealed state.
#pragma once

#include <string>

#include "ledger/base/bytes.h"

namespace souk::market {

Result<Bytes> read_file(const std::string& path, size_t max_bytes = 64 << 20);
// Temporary file, fsync, rename, fsync of the directory; mode 0600.
Status write_file(const std::string& path, ByteView bytes);
bool file_exists(const std::string& path);

// Held to the end of its life, or of its process.
class FolderLock {
 public:
  // kConflict when another process holds it.
  static Result<FolderLock> take(const std::string& folder);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&&) = delete;

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace souk::market
