#include "market_api/blobs/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <vector>

namespace souk::market::disk {
namespace {

constexpr size_t kPiece = size_t{1} << 20;

}  // namespace

Error error(const char* action) {
  if (errno == ENOSPC || errno == EDQUOT) {
    return Error(Code::kTryAgain, std::string("disk full: expected room to ") + action +
                                      "; what was acknowledged stays, go on when there is");
  }
  return Error(Code::kBroken, std::string("expected the disk to ") + action);
}

Fd open_file(const std::string& path, int flags) {
  return Fd(::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600));
}

std::optional<uint64_t> file_size(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return static_cast<uint64_t>(info.st_size);
}

std::optional<std::chrono::seconds> untouched(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return std::chrono::seconds(::time(nullptr) - info.st_mtim.tv_sec);
}

Space space(const std::string& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0 || info.f_blocks == 0)
    return {~uint64_t{0}, ~uint64_t{0}};
  return {uint64_t{info.f_blocks} * info.f_frsize, uint64_t{info.f_bavail} * info.f_frsize};
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return error("make a directory");
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return Error(Code::kMalformed, path + ": expected a directory for blobs");
  }
  return Done{};
}

Status sync_directory(const std::string& path) {
  Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return error("keep a directory");
  return Done{};
}

Status write_at(int fd, uint64_t offset, ByteView bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return error("take the bytes");
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return Done{};
}

Status read_at(int fd, uint64_t offset, std::span<uint8_t> to) {
  while (!to.empty()) {
    ssize_t n = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error(Code::kBroken, "expected the disk to give back what it took");
    offset += static_cast<uint64_t>(n);
    to = to.subspan(static_cast<size_t>(n));
  }
  return Done{};
}

Result<bool> holds(int fd, uint64_t offset, ByteView bytes) {
  std::vector<uint8_t> buffer(std::min(bytes.size(), kPiece));
  while (!bytes.empty()) {
    auto piece = std::span(buffer).first(std::min(bytes.size(), kPiece));
    TRY(read_at(fd, offset, piece));
    if (!std::equal(piece.begin(), piece.end(), bytes.begin())) return false;
    offset += piece.size();
    bytes = bytes.subspan(piece.size());
  }
  return true;
}

Result<Digest> hash_file(int fd, uint64_t size) {
  ledger::Sha256 hash;
  std::vector<uint8_t> buffer(static_cast<size_t>(std::min<uint64_t>(size, kPiece)));
  for (uint64_t at = 0; at < size;) {
    auto piece =
        std::span(buffer).first(static_cast<size_t>(std::min<uint64_t>(size - at, kPiece)));
    TRY(read_at(fd, at, piece));
    hash.update(piece);
    at += piece.size();
  }
  return hash.finish();
}

}  // namespace souk::market::disk
