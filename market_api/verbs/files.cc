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

namespace {

Error not_written(const std::string& path) {
  if (errno == ENOSPC || errno == EDQUOT) {
    return Error(Code::kTryAgain, "disk full: expected room to write " + path +
                                      "; nothing was recorded, send it again when there is");
  }
  return Error(Code::kBroken, "expected to write " + path);
}

}  // namespace

Result<NewFile> NewFile::create(const std::string& path) {
  int fd = open((path + ".new").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return not_written(path);
  return NewFile(path, fd);
}

NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

NewFile::~NewFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink((path_ + ".new").c_str());
}

Status NewFile::write(ByteView bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n <= 0) return not_written(path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return Done{};
}

Status NewFile::keep() {
  if (fsync(fd_) != 0) return not_written(path_);
  if (rename((path_ + ".new").c_str(), path_.c_str()) != 0) return not_written(path_);
  close(std::exchange(fd_, -1));
  auto slash = path_.rfind('/');
  std::string directory = slash == std::string::npos ? "." : path_.substr(0, slash);
  int dir = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return not_written(path_);
  bool synced = fsync(dir) == 0;
  auto failure = not_written(path_);
  close(dir);
  if (!synced) return failure;
  return Done{};
}

Status write_file(const std::string& path, ByteView bytes) {
  auto file = TRY(NewFile::create(path));
  TRY(file.write(bytes));
  return file.keep();
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
