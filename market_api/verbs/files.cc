#include "market_api/verbs/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace souk::market {

bool file_exists(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

Result<Bytes> read_file(const std::string& path, size_t max_bytes) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(Code::kNotFound, "expected a readable file at " + path);
  Bytes out;
  uint8_t buffer[65536];
  while (true) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) {
      Code code = errno == EISDIR ? Code::kMalformed : Code::kBroken;
      close(fd);
      return Error(code, "expected a readable file at " + path);
    }
    if (n == 0) break;
    out.insert(out.end(), buffer, buffer + n);
    if (out.size() > max_bytes) {
      close(fd);
      return Error(Code::kMalformed,
                   path + ": expected at most " + std::to_string(max_bytes) + " bytes");
    }
  }
  close(fd);
  return out;
}

Status write_file(const std::string& path, ByteView bytes) {
  std::string temporary = path + ".new";
  auto failure = [&] {
    if (errno == ENOSPC || errno == EDQUOT) {
      return Error(Code::kTryAgain, "disk full: expected room to write " + path +
                                        "; nothing was recorded, send it again when there is");
    }
    return Error(Code::kBroken, "expected to write " + path);
  };
  int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return failure();
  size_t written = 0;
  while (written < bytes.size()) {
    ssize_t n = write(fd, bytes.data() + written, bytes.size() - written);
    if (n <= 0) {
      auto why = failure();
      close(fd);
      return why;
    }
    written += static_cast<size_t>(n);
  }
  if (fsync(fd) != 0) {
    auto why = failure();
    close(fd);
    return why;
  }
  close(fd);
  if (rename(temporary.c_str(), path.c_str()) != 0) return failure();
  auto slash = path.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path.substr(0, slash);
  int dir = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return failure();
  if (fsync(dir) != 0) {
    auto why = failure();
    close(dir);
    return why;
  }
  close(dir);
  return Done{};
}

namespace {

// Whether `path` still names the file that is open: whoever made a lock in vain removes it.
bool names(const std::string& path, int fd) {
  struct stat open_file {
  }, named{};
  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

}  // namespace

Result<FolderLock> FolderLock::take(const std::string& folder) {
  const std::string path = folder + "/lock";
  // A soukd that was killed while it started an enclave leaves a child that holds the lock for a
  // moment more, until it execs or dies.
  for (int waited = 0;; ++waited) {
    int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool made = fd >= 0;
    if (!made && errno == EEXIST) fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) continue;  // removed between the two
    if (fd < 0) {
      bool full = errno == ENOSPC || errno == EDQUOT;
      return Error(full ? Code::kTryAgain : Code::kMalformed, "expected to write " + path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && names(path, fd)) {
      return FolderLock(fd, made ? path : "");
    }
    close(fd);
    if (waited == 30) {
      return Error(Code::kConflict, "expected no other soukd to run on " + folder);
    }
    usleep(100'000);
  }
}

void FolderLock::leave_nothing() const {
  if (!made_.empty()) unlink(made_.c_str());
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) close(fd_);
}
FolderLock::FolderLock(FolderLock&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), made_(std::exchange(other.made_, "")) {}

}  // namespace souk::market
