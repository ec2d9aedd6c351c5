#include "trainer/engine/chacha.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ledger/base/result.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {
namespace {

static_assert(std::endian::native == std::endian::little);

std::array<uint8_t, 12> stream_nonce(uint64_t stream) {
  std::array<uint8_t, 12> nonce{};
  std::memcpy(nonce.data() + 4, &stream, 8);
  return nonce;
}

}  // namespace

ChaCha20::ChaCha20(std::span<const uint8_t, 32> key, std::span<const uint8_t, 12> nonce, uint32_t counter) {
  constexpr uint32_t kConstants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
  std::memcpy(state_.data(), kConstants, 16);
  std::memcpy(state_.data() + 4, key.data(), 32);
  state_[12] = counter;
  std::memcpy(state_.data() + 13, nonce.data(), 12);
  blocks_made_ = counter;
}

ChaCha20::ChaCha20(std::span<const uint8_t, 32> key, uint64_t stream) : ChaCha20(key, stream_nonce(stream)) {}

ChaCha20::~ChaCha20() {
  wipe(state_.data(), sizeof(state_));
  wipe(buffer_.data(), sizeof(buffer_));
}

void ChaCha20::refill() {
  CHECK(blocks_made_ + kBlocks <= (uint64_t{1} << 32));
  // kBlocks blocks side by side, so that each line below is one vector operation.
  uint32_t x[16][kBlocks], start[16][kBlocks];
  for (size_t i = 0; i < 16; ++i) {
    for (size_t lane = 0; lane < kBlocks; ++lane) start[i][lane] = state_[i];
  }
  for (size_t lane = 0; lane < kBlocks; ++lane) start[12][lane] = static_cast<uint32_t>(blocks_made_ + lane);
  std::memcpy(x, start, sizeof(x));
  auto quarter = [&x](size_t a, size_t b, size_t c, size_t d) {
    for (size_t lane = 0; lane < kBlocks; ++lane) {
      x[a][lane] += x[b][lane];
      x[d][lane] = std::rotl(x[d][lane] ^ x[a][lane], 16);
      x[c][lane] += x[d][lane];
      x[b][lane] = std::rotl(x[b][lane] ^ x[c][lane], 12);
      x[a][lane] += x[b][lane];
      x[d][lane] = std::rotl(x[d][lane] ^ x[a][lane], 8);
      x[c][lane] += x[d][lane];
      x[b][lane] = std::rotl(x[b][lane] ^ x[c][lane], 7);
    }
  };
  for (int round = 0; round < 10; ++round) {
    quarter(0, 4, 8, 12);
    quarter(1, 5, 9, 13);
    quarter(2, 6, 10, 14);
    quarter(3, 7, 11, 15);
    quarter(0, 5, 10, 15);
    quarter(1, 6, 11, 12);
    quarter(2, 7, 8, 13);
    quarter(3, 4, 9, 14);
  }
  for (size_t lane = 0; lane < kBlocks; ++lane) {
    for (size_t i = 0; i < 16; ++i) {
      uint32_t word = x[i][lane] + start[i][lane];
      std::memcpy(buffer_.data() + 64 * lane + 4 * i, &word, 4);
    }
  }
  blocks_made_ += kBlocks;
  used_ = 0;
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

}  // namespace souk::trainer
