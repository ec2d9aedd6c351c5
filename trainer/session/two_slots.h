// Two places for one sealed message in memory that a host shares: the newer one stands while the
// older one is written over, so that a death at any moment leaves one of them whole.
// trainer/SPEC.md, Taken up again.
#pragma once

#include <span>
#include <string>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

class TwoSlots {
 public:
  // `shared` is borrowed; `key` of 32 bytes seals for this purpose alone; `context` says what the
  // message is about, under the seal.
  TwoSlots(std::span<uint8_t> shared, Bytes key, std::string context);

  // Bytes of a file that has room for messages of `size`.
  static uint64_t file_bytes(uint64_t size);
  // Whether a message of `size` finds room.
  bool holds(uint64_t size) const;
  // In the older one's place, with the next sequence number. CHECKs holds().
  void write(ByteView message);
  // The message with the highest sequence number that opens; what is written next follows it.
  // kUnauthentic where neither does.
  Result<Bytes> read();

 private:
  std::span<uint8_t> slot(uint64_t sequence) const;
  Bytes bound_to(uint64_t sequence, uint64_t length) const;

  std::span<uint8_t> shared_;
  Bytes key_;
  std::string context_;
  uint64_t sequence_ = 0;  // of the newest
};

}  // namespace souk::trainer
