// The memory of one interpreter: one stretch of addresses whose low 32 bits are the
// same in every process, filled by a plain deterministic allocator. What was there at
// keep() comes back, byte for byte, at restore(): so an evaluation starts from the
// same state every time, and nothing of the one before it is left. Not thread safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace souk::policy {

class Arena {
 public:
  static constexpr uint64_t kBytes = uint64_t{256}
                                     << 20;  // addresses; memory comes as it is touched

  // Null when the system has no such stretch.
  static std::unique_ptr<Arena> reserve();
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Aligned to 16. Null when the stretch is full.
  void* take(size_t size);
  void give_back(void* block, size_t size);
  // `block` has room for `size` bytes already when it was taken for `had`.
  static bool same_block(size_t had, size_t size) {
    return had != 0 && class_of(had) == class_of(size);
  }
  // Bytes handed out so far, those given back included.
  uint64_t used() const { return state_.used; }

  struct Picture;
  // All of it, as it is now.
  std::shared_ptr<const Picture> keep() const;
  void restore(const Picture& picture);

 private:
  static constexpr size_t kSmall = 64;  // classes of 16 bytes; powers of two above
  struct State {
    uint64_t used = 0;
    std::array<uint64_t, kSmall + 32> free{};  // offset + 1 of the first free block of each class
  };

  explicit Arena(std::byte* base) : base_(base) {}
  static size_t class_of(size_t size);
  static size_t bytes_of(size_t block_class);

  std::byte* const base_;
  State state_;
  uint64_t touched_ = 0;
};

struct Arena::Picture {
  std::vector<std::byte> bytes;
  State state;
};

}  // namespace souk::policy
