#include "ledger/witness/guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

namespace souk::ledger {
namespace {

constexpr size_t kDigits = 20;  // of any uint64, so that the file never changes its length

Error broken(const std::string& expected) {
  return Error(Code::kBroken, "witness count file: expected " + expected);
}

std::string text_of(uint64_t count) {
  std::string digits = std::to_string(count);
  return std::string(kDigits - digits.size(), '0') + digits + "\n";
}

bool write_count(int fd, uint64_t count) {
  auto text = text_of(count);
  auto written = pwrite(fd, text.data(), text.size(), 0);
  if (written >= 0 && written != static_cast<ssize_t>(text.size())) errno = ENOSPC;
  return written == static_cast<ssize_t>(text.size()) && fdatasync(fd) == 0;
}

}  // namespace

Status CountGuard::create(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST)
    return Error(Code::kConflict, "witness count file: expected to make a new one");
  bool written = fd >= 0 && write_count(fd, 0) && fsync(fd) == 0;
  int cause = errno;
  if (fd >= 0) close(fd);
  if (written) return Done{};
  if (fd >= 0) unlink(path.c_str());
  if (cause != ENOSPC && cause != EDQUOT) return broken("to write it");
  return Error(Code::kTryAgain, "witness count file: expected room on the disk");
}

Result<CountGuard> CountGuard::open(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return Error(Code::kNotFound, "witness count file: expected one beside the key");
  char text[kDigits + 2];
  ssize_t length = pread(fd, text, sizeof text, 0);
  uint64_t count = 0;
  auto [end, status] = std::from_chars(text, text + kDigits, count);
  if (length != kDigits + 1 || status != std::errc() || end != text + kDigits ||
      text[kDigits] != '\n') {
    close(fd);
    return broken("20 digits and a newline");
  }
  return CountGuard(fd, count);
}

CountGuard::CountGuard(CountGuard&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), count_(other.count_) {}

CountGuard::~CountGuard() {
  if (fd_ >= 0) close(fd_);
}

Status CountGuard::raise(uint64_t count) {
  if (count <= count_) return Done{};
  if (!write_count(fd_, count)) return broken("to write it");
  count_ = count;
  return Done{};
}

}  // namespace souk::ledger
