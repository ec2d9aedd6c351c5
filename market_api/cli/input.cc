#include <unistd.h>

#include <array>
#include <cerrno>

#include "market_api/cli/log_verbs.h"

namespace souk::market {

Result<Bytes> load_input(const std::string& path, size_t max_bytes) {
  if (path != "-") return load_argument(path, max_bytes);
  Bytes out;
  std::array<uint8_t, 65536> piece{};
  while (true) {
    ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error(Code::kMalformed, "stdin: expected to read it");
    if (got == 0) return out;
    append(out, ByteView(piece).first(static_cast<size_t>(got)));
    if (out.size() > max_bytes) {
      return Error(Code::kMalformed,
                   "stdin: expected at most " + std::to_string(max_bytes) + " bytes");
    }
  }
}

}  // namespace souk::market
