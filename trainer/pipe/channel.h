// Frames over one inherited socket: the only door of an enclave process, and its
// other end in the host. Blocking; one user at a time.
#pragma once

#include <optional>

#include "trainer/wire/messages.h"

namespace souk::trainer {

class Channel {
 public:
  // Takes the descriptor over.
  explicit Channel(int fd) : fd_(fd) {}
  Channel(Channel&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Channel& operator=(Channel&&) = delete;
  ~Channel();

  // kTryAgain when the other side is gone.
  Status send(const Frame& frame);
  // kTryAgain when the other side is gone or silent for `timeout_ms` (negative: no
  // limit); kMalformed when it speaks nonsense. After an error the channel is dead.
  Result<Frame> receive(int timeout_ms = -1);
  // Whether receive() has something to begin with, or would learn that the other side is gone;
  // waits for it at most `timeout_ms`, and reads nothing.
  bool readable(int timeout_ms) const;

  int fd() const { return fd_; }

 private:
  Status read_exactly(std::span<uint8_t> into, int timeout_ms);
  int fd_;
};

}  // namespace souk::trainer
