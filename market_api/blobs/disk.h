// The files below the blobs: whole reads and writes, and errors that say who mends them.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"
#include "ledger/crypto/hash.h"

namespace souk::market::disk {

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// After a call that failed, of its errno. A full disk (kTryAgain) is for the operator to mend and
// for the client to wait out; all else is ours (kBroken).
Error error(const char* action);

// Not through a link; false where it cannot be opened.
Fd open_file(const std::string& path, int flags);
// In bytes; none where there is no such regular file.
std::optional<uint64_t> file_size(const std::string& path);
// Since anybody wrote or named it; likewise.
std::optional<std::chrono::seconds> untouched(const std::string& path);

struct Space {
  uint64_t size = 0, free = 0;  // bytes
};
// Of the file system below; one that does not say is taken for an empty, endless one.
Space space(const std::string& directory);

// There afterwards, whoever made it. kMalformed: something else is there.
Status make_directory(const std::string& path);
// Renames and removals inside it survive a power cut after this.
Status sync_directory(const std::string& path);

Status write_at(int fd, uint64_t offset, ByteView bytes);
// kBroken: the file is shorter.
Status read_at(int fd, uint64_t offset, std::span<uint8_t> to);
// Whether the file has these bytes there.
Result<bool> holds(int fd, uint64_t offset, ByteView bytes);
// SHA-256 of its first `size` bytes.
Result<Digest> hash_file(int fd, uint64_t size);

}  // namespace souk::market::disk
