#include "trainer/engine/chacha.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ledger/base/result.h"
#include "trainer/engine/simd.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {
namespace {

static_assert(std::endian::native == std::endian::little);

std::array<uint8_t, 12> stream_nonce(uint64_t stream) {
  std::array<uint8_t, 12> nonce{};
  std::memcpy(nonce.data() + 4, &stream, 8);
  return nonce;
}

typedef uint32_t Words __attribute__((vector_size(64)));

template <int bits>
[[gnu::always_inline]] inline void rotate(Words& x) {
  x = (x << bits) | (x >> (32 - bits));
}

[[gnu::always_inline]] inline void quarter(Words& a, Words& b, Words& c, Words& d) {
  a += b;
  d ^= a;
  rotate<16>(d);
  c += d;
  b ^= c;
  rotate<12>(b);
  a += b;
  d ^= a;
  rotate<8>(d);
  c += d;
  b ^= c;
  rotate<7>(b);
}

// Rows and columns change places: four perfect shuffles.
[[gnu::always_inline]] inline void transpose(Words (&x)[16]) {
  for (int round = 0; round < 4; ++round) {
    Words y[16];
    for (size_t i = 0; i < 8; ++i) {
      y[2 * i] = __builtin_shufflevector(x[i], x[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                         6, 22, 7, 23);
      y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                             13, 29, 14, 30, 15, 31);
    }
    for (size_t i = 0; i < 16; ++i) x[i] = y[i];
  }
}

}  // namespace

ChaCha20::ChaCha20(std::span<const uint8_t, 32> key, std::span<const uint8_t, 12> nonce,
                   uint32_t counter) {
  constexpr uint32_t kConstants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  std::memcpy(state_.data(), kConstants, 16);
  std::memcpy(state_.data() + 4, key.data(), 32);
  state_[12] = counter;
  std::memcpy(state_.data() + 13, nonce.data(), 12);
  blocks_made_ = counter;
}

ChaCha20::ChaCha20(std::span<const uint8_t, 32> key, uint64_t stream)
    : ChaCha20(key, stream_nonce(stream)) {}

ChaCha20::~ChaCha20() {
  wipe(state_.data(), sizeof(state_));
  wipe(buffer_.data(), sizeof(buffer_));
}

void ChaCha20::refill() {
  // The last blocks before the counter wraps, where there are fewer than kBlocks.
  const uint64_t left = (uint64_t{1} << 32) - blocks_made_;
  CHECK(left > 0);
  const size_t wanted = left < kBlocks ? static_cast<size_t>(left) : kBlocks,
               skipped = kBlocks - wanted;
  // kBlocks blocks side by side, a word of each in every vector.
  wide([&] {
    Words start[16], x[16];
    for (size_t i = 0; i < 16; ++i) start[i] = Words{} + state_[i];
    for (size_t lane = 0; lane < kBlocks; ++lane)
      start[12][lane] = static_cast<uint32_t>(blocks_made_ + lane);
    for (size_t i = 0; i < 16; ++i) x[i] = start[i];
    for (int round = 0; round < 10; ++round) {
      quarter(x[0], x[4], x[8], x[12]);
      quarter(x[1], x[5], x[9], x[13]);
      quarter(x[2], x[6], x[10], x[14]);
      quarter(x[3], x[7], x[11], x[15]);
      quarter(x[0], x[5], x[10], x[15]);
      quarter(x[1], x[6], x[11], x[12]);
      quarter(x[2], x[7], x[8], x[13]);
      quarter(x[3], x[4], x[9], x[14]);
    }
    for (size_t i = 0; i < 16; ++i) x[i] += start[i];
    transpose(x);
    std::memcpy(buffer_.data() + 64 * skipped, x, 64 * wanted);
  });
  blocks_made_ += wanted;
  used_ = 64 * skipped;
}

uint64_t ChaCha20::take_blocks(uint64_t count) {
  const uint64_t first = blocks_made_;
  CHECK(count <= (uint64_t{1} << 32) - first);
  blocks_made_ += count;
  return first;
}

void ChaCha20::fill(std::span<uint8_t> out) {
  while (!out.empty()) {
    if (used_ == buffer_.size()) refill();
    size_t n = std::min(out.size(), buffer_.size() - used_);
    std::memcpy(out.data(), buffer_.data() + used_, n);
    used_ += n;
    out = out.subspan(n);
  }
}

void ChaCha20::fill(std::span<uint64_t> out) {
  fill(std::span<uint8_t>(reinterpret_cast<uint8_t*>(out.data()), out.size_bytes()));
}

uint64_t ChaCha20::next() {
  uint64_t word = 0;
  fill(std::span<uint64_t>(&word, 1));
  return word;
}

void ChaCha20::seek(uint64_t byte) {
  blocks_made_ = byte / 64;
  refill();
  used_ += byte % 64;
}

}  // namespace souk::trainer
