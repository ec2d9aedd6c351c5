// Small files of the host: keys and sealed state.
#pragma once

#include <string>

#include "ledger/base/bytes.h"

namespace souk::market {

// kNotFound when there is none; kMalformed when it is no readable file, or larger.
Result<Bytes> read_file(const std::string& path, size_t max_bytes = 64 << 20);
// Temporary file, fsync, rename, fsync of the directory; mode 0600.
Status write_file(const std::string& path, ByteView bytes);
// A file that is made piece by piece, and there as a whole or not at all: beside it until keep(),
// which does what write_file does.
class NewFile {
 public:
  static Result<NewFile> create(const std::string& path);
  ~NewFile();
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  Status write(ByteView bytes);
  Status keep();

 private:
  NewFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};
bool file_exists(const std::string& path);

// Held to the end of its life, or of its process.
class FolderLock {
 public:
  // kConflict when another process holds it.
  static Result<FolderLock> take(const std::string& folder);
  // Removes the lock's file if take() made it: for a start that came to nothing.
  void leave_nothing() const;
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock& operator=(FolderLock&&) = delete;

 private:
  FolderLock(int fd, std::string made) : fd_(fd), made_(std::move(made)) {}
  int fd_;
  std::string made_;  // the path, if this process made the file
};

}  // namespace souk::market
