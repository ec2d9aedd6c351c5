// Files of the person at this machine: small, whole, and written in one piece.
#pragma once

#include <string>
#include <vector>

#include "ledger/base/bytes.h"

namespace souk::market {

enum class FileMode : uint8_t { kPrivate, kShared };  // 0600, 0644

bool path_exists(const std::string& path);
bool is_directory(const std::string& path);

// kNotFound when there is none, kMalformed when it is no readable file or larger.
Result<Bytes> load_file(const std::string& path, size_t max_bytes);
// The whole file or nothing of it: temporary file, fsync, rename, fsync of the folder. Where a
// link stands, it stays and the file it leads to is written; a device, a pipe or a descriptor of
// this process (/dev/stdout) is written into, never replaced. kMalformed for a folder.
Status save_file(const std::string& path, ByteView bytes, FileMode mode);
// Several files of one folder, which is made if need be: all of them, or, on an error, the folder
// as it was. A crash in the midst leaves some of them, each whole. kMalformed where something
// that is no file stands in the place of one: a link, too.
struct NewFile {
  std::string name;
  ByteView bytes;
  FileMode mode = FileMode::kShared;
};
Status save_files(const std::string& directory, const std::vector<NewFile>& files);
// Adds to the end and makes it durable. A crash leaves a part of `bytes` at most.
// kTryAgain of this and of everything above when the disk is full.
Status append_file(const std::string& path, ByteView bytes);
Status truncate_file(const std::string& path, uint64_t size);
// With missing parents; mode 0700.
Status make_directory(const std::string& path);
// Names in order, without "." and ".."; empty when there is no such folder.
std::vector<std::string> list_directory(const std::string& path);

// Held from lock() to the end of its life; a second process waits.
class FileLock {
 public:
  static Result<FileLock> lock(const std::string& path);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace souk::market
