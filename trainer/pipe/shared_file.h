// A file of the host's, mapped into an enclave process before its lock-down: what is written there
// outlives the process. The host may change or read it at any moment, and must not have to be
// believed: nothing is written but what is sealed, and what is read is copied first.
#pragma once

#include <span>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

class SharedFile {
 public:
  // Takes the descriptor over and closes it. kBroken when it cannot be mapped, kMalformed when it
  // is no file or empty. A file that becomes shorter later ends the process (SIGBUS).
  static Result<SharedFile> map(int fd);
  ~SharedFile();
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&&) = delete;

  std::span<uint8_t> bytes() const { return bytes_; }

 private:
  explicit SharedFile(std::span<uint8_t> bytes) : bytes_(bytes) {}
  std::span<uint8_t> bytes_;
};

}  // namespace souk::trainer
