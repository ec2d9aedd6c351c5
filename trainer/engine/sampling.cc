#include "trainer/engine/sampling.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "ledger/crypto/kdf.h"
#include "trainer/engine/chacha.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {
namespace {

// Uniform below `bound` from 64 bits a try; rejection keeps it exact.
uint64_t below(ChaCha20& random, uint64_t bound) {
  uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  for (;;) {
    uint64_t word = random.next();
    if (word < limit) return word % bound;
  }
}

}  // namespace

Secret<32> derive_key(const Secret<32>& root, std::string_view purpose, uint64_t step) {
  Bytes info = to_bytes(purpose);
  info.push_back('/');
  for (int i = 0; i < 8; ++i) info.push_back(static_cast<uint8_t>(step >> (8 * i)));
  Bytes key = ledger::hkdf(root.bytes(SecretAccess()), as_bytes("souk/engine/v1"), info, 32);
  auto secret = Secret<32>::copy_of(std::span<const uint8_t, 32>(key.data(), 32));
  wipe(key.data(), key.size());
  return secret;
}

std::vector<uint64_t> poisson_batch(const Secret<32>& key, uint64_t rows, uint64_t threshold) {
  ChaCha20 random(key.bytes(SecretAccess()), 0);
  std::vector<uint64_t> batch;
  std::array<uint64_t, 512> words;
  for (uint64_t first = 0; first < rows; first += words.size()) {
    random.fill(std::span<uint64_t>(words));
    uint64_t n = std::min<uint64_t>(words.size(), rows - first);
    for (uint64_t i = 0; i < n; ++i) {
      if (words[i] < threshold) batch.push_back(first + i);
    }
  }
  wipe(words.data(), sizeof(words));
  return batch;
}

std::vector<uint64_t> ShuffledRows::batch(uint64_t step, uint32_t size) {
  std::vector<uint64_t> rows;
  rows.reserve(size);
  for (uint64_t position = step * size; rows.size() < size; ++position) {
    uint64_t epoch = position / rows_;
    if (epoch != epoch_) {
      auto key = derive_key(root_, "shuffle", epoch);
      ChaCha20 random(key.bytes(SecretAccess()), 0);
      order_.resize(rows_);
      std::iota(order_.begin(), order_.end(), uint64_t{0});
      for (uint64_t i = rows_; i > 1; --i) std::swap(order_[i - 1], order_[below(random, i)]);
      epoch_ = epoch;
    }
    rows.push_back(order_[position % rows_]);
  }
  return rows;
}

}  // namespace souk::trainer
