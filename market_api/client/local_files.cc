#include "market_api/client/local_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <utility>

namespace souk::market {
namespace {

class OpenFile {
 public:
  OpenFile(const std::string& path, int flags, mode_t mode = 0600)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_;
};

// A path that cannot be is a mistake of whoever named it, a full disk passes; a disk that fails
// is neither.
Error cannot(const std::string& what, const std::string& path) {
  int why = errno;
  bool path_is_wrong = why == EACCES || why == EPERM || why == EROFS || why == ENOENT ||
                       why == ENOTDIR || why == EISDIR || why == ENAMETOOLONG || why == ELOOP ||
                       why == ENOTEMPTY || why == ENXIO || why == EBADF;
  Code code = why == ENOSPC || why == EDQUOT ? Code::kTryAgain
              : path_is_wrong                ? Code::kMalformed
                                             : Code::kBroken;
  return Error(code, "cannot " + what + " " + path + ": " + std::generic_category().message(why));
}

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status write_through(int fd, ByteView bytes, const std::string& path) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot("write", path);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return Done{};
}

Status write_all(int fd, ByteView bytes, const std::string& path) {
  TRY(write_through(fd, bytes, path));
  if (::fsync(fd) != 0) return cannot("write", path);
  return Done{};
}

Status sync_folder(const std::string& path) {
  OpenFile folder(path, O_RDONLY | O_DIRECTORY);
  if (!folder.is_open() || ::fsync(folder.get()) != 0) return cannot("write", path);
  return Done{};
}

}  // namespace

bool path_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

bool is_directory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

Result<Bytes> load_file(const std::string& path, size_t max_bytes) {
  OpenFile file(path, O_RDONLY | O_NONBLOCK);  // a pipe is refused below, not waited for
  if (!file.is_open() && errno == ENOENT) {
    return Error(Code::kNotFound, "no file " + path);
  }
  struct stat info {};
  if (!file.is_open() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return Error(Code::kMalformed, "expected a readable file: " + path);
  }
  if (static_cast<uint64_t>(info.st_size) > max_bytes) {
    return Error(Code::kMalformed,
                 path + ": expected at most " + std::to_string(max_bytes) + " bytes");
  }
  Bytes bytes(static_cast<size_t>(info.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot("read", path);
    done += static_cast<size_t>(n);
  }
  return bytes;
}

namespace {

std::string temporary_name(const std::string& path) {
  return path + ".new-" + std::to_string(::getpid());
}

// Whole and durable under its temporary name, or not at all.
Status write_temporary(const std::string& path, ByteView bytes, FileMode mode) {
  std::string temporary = temporary_name(path);
  ::unlink(temporary.c_str());  // of a crash, or a link that somebody else laid there
  OpenFile file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
                mode == FileMode::kPrivate ? 0600 : 0644);
  if (!file.is_open()) return cannot("write", path);
  auto written = write_all(file.get(), bytes, path);
  if (!written) ::unlink(temporary.c_str());
  return written;
}

Status give_name(const std::string& path) {
  std::string temporary = temporary_name(path);
  if (::rename(temporary.c_str(), path.c_str()) == 0) return Done{};
  Error failed = cannot("write", path);
  ::unlink(temporary.c_str());
  return failed;
}

// With missing parents; those that it made are added to `made`.
Status make_folders(const std::string& path, std::vector<std::string>& made) {
  if (is_directory(path)) return Done{};
  std::string parent = folder_of(path);
  if (parent != path) TRY(make_folders(parent, made));
  if (::mkdir(path.c_str(), 0700) == 0) {
    made.push_back(path);
    return Done{};
  }
  if (errno == EEXIST && is_directory(path)) return Done{};
  if (errno == EEXIST) errno = ENOTDIR;
  return cannot("make the folder", path);
}

// What a path leads to, and by which way it may be written.
struct Place {
  std::string path;               // past the last link: where the file stands or will stand
  std::optional<int> descriptor;  // of this process: /dev/stdout, /dev/fd/3
  bool is_replaced = true;        // a file, or nothing yet; else written into as it stands
};

// /proc/PID/fd/N of this process, whatever is open there: no file beside it is meant.
std::optional<int> own_descriptor(const std::string& path) {
  char folder[PATH_MAX];
  if (!::realpath(folder_of(path).c_str(), folder)) return std::nullopt;
  std::string own = "/proc/" + std::to_string(::getpid());
  if (folder != own + "/fd" && folder != own + "/task/" + std::to_string(::gettid()) + "/fd")
    return std::nullopt;
  std::string name = path.substr(path.rfind('/') + 1);
  if (name.empty() || name.size() > 6 || name.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::atoi(name.c_str());
}

Result<Place> place_of(const std::string& path) {
  // The kernel follows first, so that a link it would not follow (somebody else's, in a folder
  // that all may write) is not followed here.
  struct stat info {};
  bool there = ::stat(path.c_str(), &info) == 0;
  if (!there && errno != ENOENT) return cannot("write", path);
  if (there && S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    return cannot("write", path);
  }
  Place place{.path = path, .descriptor = std::nullopt};
  constexpr int kMostLinks = 40;  // as path_resolution(7)
  for (int links = 0;; ++links) {
    place.descriptor = own_descriptor(place.path);
    if (place.descriptor) {
      place.is_replaced = false;
      return place;
    }
    struct stat link {};
    if (::lstat(place.path.c_str(), &link) != 0 || !S_ISLNK(link.st_mode)) break;
    char target[PATH_MAX];
    ssize_t n = ::readlink(place.path.c_str(), target, sizeof target);
    if (links == kMostLinks) errno = ELOOP;
    if (links == kMostLinks || n <= 0) return cannot("write", path);
    std::string next(target, static_cast<size_t>(n));
    place.path = next.front() == '/' ? next : folder_of(place.path) + "/" + next;
  }
  place.is_replaced = !there || S_ISREG(info.st_mode);
  return place;
}

// A device, a pipe: opened and written, and nothing said of what it does not know (fsync).
Status write_into(const Place& place, ByteView bytes) {
  if (place.descriptor) return write_through(*place.descriptor, bytes, place.path);
  OpenFile file(place.path, O_WRONLY | O_NOCTTY);
  if (!file.is_open()) return cannot("write", place.path);
  return write_through(file.get(), bytes, place.path);
}

// Of several files none is written into something else: half of them would be gone with it.
Status expect_file_or_nothing(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode)) return Done{};
  return Error(Code::kMalformed, "cannot write " + path + ": expected a file there, or nothing");
}

Status write_and_name(const std::string& directory, const std::vector<NewFile>& files) {
  for (const auto& file : files) {
    std::string path = directory + "/" + file.name;
    TRY(expect_file_or_nothing(path));
    TRY(write_temporary(path, file.bytes, file.mode));
  }
  for (const auto& file : files) TRY(give_name(directory + "/" + file.name));
  return sync_folder(directory);
}

}  // namespace

Status save_file(const std::string& path, ByteView bytes, FileMode mode) {
  auto place = TRY(place_of(path));
  if (!place.is_replaced) return write_into(place, bytes);
  TRY(write_temporary(place.path, bytes, mode));
  TRY(give_name(place.path));
  return sync_folder(folder_of(place.path));
}

Status save_files(const std::string& directory, const std::vector<NewFile>& files) {
  std::vector<std::string> folders;
  auto saved = make_folders(directory, folders);
  if (saved) saved = write_and_name(directory, files);
  if (saved) return saved;
  for (const auto& file : files) {
    ::unlink(temporary_name(directory + "/" + file.name).c_str());
  }
  // Goes only where nothing was put into it.
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) ::rmdir(folder->c_str());
  return saved;
}

Status append_file(const std::string& path, ByteView bytes) {
  OpenFile file(path, O_WRONLY | O_CREAT | O_APPEND);
  if (!file.is_open()) return cannot("write", path);
  return write_all(file.get(), bytes, path);
}

Status truncate_file(const std::string& path, uint64_t size) {
  if (::truncate(path.c_str(), static_cast<off_t>(size)) != 0) return cannot("shorten", path);
  return Done{};
}

Status make_directory(const std::string& path) {
  std::vector<std::string> made;
  auto done = make_folders(path, made);
  if (done) return done;
  for (auto folder = made.rbegin(); folder != made.rend(); ++folder) ::rmdir(folder->c_str());
  return done;
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  DIR* folder = ::opendir(path.c_str());
  if (!folder) return names;
  while (const dirent* item = ::readdir(folder)) {
    std::string name = static_cast<const char*>(item->d_name);
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  ::closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

Result<FileLock> FileLock::lock(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return cannot("open", path);
  while (::flock(fd, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    ::close(fd);
    return cannot("lock", path);
  }
  return FileLock(fd);
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}
FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

}  // namespace souk::market
