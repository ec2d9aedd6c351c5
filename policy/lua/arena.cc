#include "policy/lua/arena.h"

#include <sys/mman.h>

#include <bit>
#include <cstring>

namespace souk::policy {
namespace {

constexpr uint64_t kStep = uint64_t{1} << 32;         // tables hash the low 32 bits of an address
constexpr uint64_t kKeptTouched = uint64_t{1} << 20;  // more than this goes back to the system

void* map_at(void* where, uint64_t bytes, int more_flags) {
  void* got = mmap(where, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | more_flags, -1, 0);
  return got == MAP_FAILED ? nullptr : got;
}

// More than is needed, from which the aligned part is kept.
std::byte* cut_aligned(uint64_t bytes) {
  auto* all = static_cast<std::byte*>(map_at(nullptr, bytes + kStep, 0));
  if (!all) return nullptr;
  auto from = reinterpret_cast<uint64_t>(all);
  uint64_t start = (from + kStep - 1) / kStep * kStep;
  if (start > from) munmap(all, start - from);
  munmap(reinterpret_cast<void*>(start + bytes), from + kStep - start);
  return reinterpret_cast<std::byte*>(start);
}

// Where the limit on addresses leaves no room for that.
std::byte* find_aligned(uint64_t bytes) {
  for (uint64_t step = 0x1000; step < 0x1100; ++step) {
    auto* wanted = reinterpret_cast<void*>(step * kStep);
    void* got = map_at(wanted, bytes, MAP_FIXED_NOREPLACE);
    if (got == wanted) return static_cast<std::byte*>(got);
    if (got) munmap(got, bytes);
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<Arena> Arena::reserve() {
  std::byte* base = cut_aligned(kBytes);
  if (!base) base = find_aligned(kBytes);
  if (!base) return nullptr;
  return std::unique_ptr<Arena>(new Arena(base));
}

Arena::~Arena() {
  munmap(base_, kBytes);
}

size_t Arena::class_of(size_t size) {
  if (size <= 16 * kSmall) return (size + 15) / 16;
  return kSmall + static_cast<size_t>(std::bit_width((size - 1) / (16 * kSmall)));
}

size_t Arena::bytes_of(size_t block_class) {
  return block_class <= kSmall ? 16 * block_class : 16 * kSmall << (block_class - kSmall);
}

void* Arena::take(size_t size) {
  if (size == 0 || size > kBytes) return nullptr;
  size_t block_class = class_of(size);
  if (uint64_t first = state_.free[block_class]; first != 0) {
    std::byte* block = base_ + (first - 1);
    std::memcpy(&state_.free[block_class], block, sizeof(uint64_t));
    return block;
  }
  uint64_t bytes = bytes_of(block_class);
  if (bytes > kBytes - state_.used) return nullptr;
  std::byte* block = base_ + state_.used;
  state_.used += bytes;
  return block;
}

void Arena::give_back(void* block, size_t size) {
  if (!block || size == 0) return;
  size_t block_class = class_of(size);
  std::memcpy(block, &state_.free[block_class], sizeof(uint64_t));
  state_.free[block_class] = static_cast<uint64_t>(static_cast<std::byte*>(block) - base_) + 1;
}

std::shared_ptr<const Arena::Picture> Arena::keep() const {
  auto picture = std::make_shared<Picture>();
  picture->bytes.assign(base_, base_ + state_.used);
  picture->state = state_;
  return picture;
}

void Arena::restore(const Picture& picture) {
  touched_ = std::max(touched_, state_.used);
  if (touched_ > picture.bytes.size() + kKeptTouched) {
    uint64_t from = (picture.bytes.size() + 4095) / 4096 * 4096;
    madvise(base_ + from, touched_ - from, MADV_DONTNEED);
    touched_ = 0;
  }
  std::memcpy(base_, picture.bytes.data(), picture.bytes.size());
  state_ = picture.state;
}

}  // namespace souk::policy
