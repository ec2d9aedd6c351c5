#include "trainer/pipe/channel.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace souk::trainer {
namespace {

Error gone() {
  return Error(Code::kTryAgain, "expected the other process to be there");
}

}  // namespace

Channel::~Channel() {
  if (fd_ >= 0) close(fd_);
}

Status Channel::send(const Frame& frame) {
  Bytes bytes = encode(frame);
  size_t sent = 0;
  while (sent < bytes.size()) {
    ssize_t n = write(fd_, bytes.data() + sent, bytes.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return gone();
    sent += static_cast<size_t>(n);
  }
  return Done{};
}

Status Channel::read_exactly(std::span<uint8_t> into, int timeout_ms) {
  size_t have = 0;
  while (have < into.size()) {
    pollfd waiting{fd_, POLLIN, 0};
    int ready = poll(&waiting, 1, timeout_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0)
      return Error(Code::kTryAgain, "expected an answer from the other process in time");
    if (ready < 0) return gone();
    ssize_t n = read(fd_, into.data() + have, into.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return gone();
    have += static_cast<size_t>(n);
  }
  return Done{};
}

Result<Frame> Channel::receive(int timeout_ms) {
  Bytes bytes(4);
  TRY(read_exactly(bytes, timeout_ms));
  size_t length = TRY(frame_length(bytes));
  bytes.resize(length);
  TRY(read_exactly(std::span<uint8_t>(bytes).subspan(4), timeout_ms));
  return decode(bytes);
}

bool Channel::readable(int timeout_ms) const {
  pollfd waiting{fd_, POLLIN, 0};
  return poll(&waiting, 1, timeout_ms) > 0;
}

}  // namespace souk::trainer
