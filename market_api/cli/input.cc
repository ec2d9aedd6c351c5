#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "market_api/cli/log_verbs.h"

namespace souk::market {
namespace {

// A stream is read once, by one argument: the second would see an empty file. Of the process, as
// standard input itself is.
Status read_first(int fd, const std::string& name) {
  static std::set<std::pair<dev_t, ino_t>> read_before;
  struct stat status {};
  if (::fstat(fd, &status) != 0) return Error(Code::kMalformed, name + ": expected to read it");
  bool empties =
      fd == STDIN_FILENO || !S_ISCHR(status.st_mode) || ::isatty(fd) != 0;  // not /dev/null
  if (!empties || read_before.emplace(status.st_dev, status.st_ino).second) return Done{};
  return Error(Code::kMalformed, name + ": expected for one argument only, another has read it");
}

Result<Bytes> read_to_end(int fd, const std::string& name, size_t max_bytes) {
  TRY(read_first(fd, name));
  Bytes out;
  std::array<uint8_t, 65536> piece{};
  while (true) {
    ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error(Code::kMalformed, name + ": expected to read it");
    if (got == 0) return out;
    append(out, ByteView(piece).first(static_cast<size_t>(got)));
    if (out.size() > max_bytes) {
      return Error(Code::kMalformed,
                   name + ": expected at most " + std::to_string(max_bytes) + " bytes");
    }
  }
}

}  // namespace

bool is_stream(const std::string& path) {
  struct stat status {};
  return path == "-" || (::stat(path.c_str(), &status) == 0 &&
                         (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)));
}

Result<Bytes> load_input(const std::string& path, size_t max_bytes) {
  if (path == "-") return read_to_end(STDIN_FILENO, "stdin", max_bytes);
  if (!is_stream(path)) return load_argument(path, max_bytes);
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(Code::kMalformed, "expected a readable file: " + path);
  auto read = read_to_end(fd, path, max_bytes);
  ::close(fd);
  return read;
}

}  // namespace souk::market
