// ChaCha20 (RFC 8439, section 2.4) as a random stream: for sampling, dropout and noise.
// The key is wiped with the object.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace souk::trainer {

class ChaCha20 {
 public:
  // The first block has the given counter.
  ChaCha20(std::span<const uint8_t, 32> key, std::span<const uint8_t, 12> nonce,
           uint32_t counter = 0);
  // Nonce = 0 (4 bytes), `stream` (8 bytes, little endian).
  ChaCha20(std::span<const uint8_t, 32> key, uint64_t stream);
  ~ChaCha20();
  ChaCha20(const ChaCha20&) = delete;
  ChaCha20& operator=(const ChaCha20&) = delete;

  // The next bytes of the key stream. CHECKs that the block counter does not wrap.
  void fill(std::span<uint8_t> out);
  // The same, as little-endian words.
  void fill(std::span<uint64_t> out);
  uint64_t next();
  // What comes next is byte `byte` of the key stream, counted from block 0.
  void seek(uint64_t byte);

  // For those who make blocks of this stream themselves: the initial state, and the counter of
  // the first of `count` blocks that fill() will not use any more, nor has.
  std::span<const uint32_t, 16> state() const { return state_; }
  uint64_t take_blocks(uint64_t count);

 private:
  static constexpr size_t kBlocks = 16;  // made at once
  void refill();

  std::array<uint32_t, 16> state_;
  uint64_t blocks_made_ = 0;
  std::array<uint8_t, 64 * kBlocks> buffer_;
  size_t used_ = sizeof(buffer_);
};

}  // namespace souk::trainer
