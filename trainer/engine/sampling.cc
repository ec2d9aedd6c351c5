#include "trainer/engine/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "ledger/base/result.h"
#include "ledger/crypto/kdf.h"
#include "trainer/engine/chacha.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {
namespace {

// To be overwritten in place by its owner: a new Secret would map memory in every step.
std::span<uint8_t, 32> writable(Secret<32>& secret) {
  auto bytes = secret.bytes(SecretAccess());
  return std::span<uint8_t, 32>(const_cast<uint8_t*>(bytes.data()), 32);
}

// Uniform below `bound` from 64 bits a try; rejection keeps it exact.
uint64_t below(ChaCha20& random, uint64_t bound) {
  uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
  for (;;) {
    uint64_t word = random.next();
    if (word < limit) return word % bound;
  }
}

}  // namespace

KeySchedule::KeySchedule(const Secret<32>& root)
    : extracted_(root.clone(SecretAccess())), key_(root.clone(SecretAccess())) {
  Bytes prk = ledger::hkdf_extract(as_bytes("souk/engine/v1"), root.bytes(SecretAccess()));
  std::copy(prk.begin(), prk.end(), writable(extracted_).begin());
  wipe(prk.data(), prk.size());
}

const Secret<32>& KeySchedule::derive(std::string_view purpose, uint64_t step) {
  CHECK(purpose.size() <= 16);
  std::array<uint8_t, 16 + 1 + 8> info;
  auto* end = std::copy(purpose.begin(), purpose.end(), info.data());
  *end++ = '/';
  for (int i = 0; i < 8; ++i) *end++ = static_cast<uint8_t>(step >> (8 * i));
  ledger::hkdf_expand_into(extracted_.bytes(SecretAccess()),
                           ByteView(info.data(), static_cast<size_t>(end - info.data())),
                           writable(key_));
  return key_;
}

Secret<32> derive_key(const Secret<32>& root, std::string_view purpose, uint64_t step) {
  return KeySchedule(root).derive(purpose, step).clone(SecretAccess());
}

uint64_t poisson_capacity(uint64_t rows, uint64_t threshold) {
  const double mean = std::ldexp(static_cast<double>(threshold), -64) * static_cast<double>(rows);
  return std::min(rows, static_cast<uint64_t>(mean + 12 * std::sqrt(mean) + 64));
}

void poisson_batch(const Secret<32>& key, std::span<const Part> parts,
                   std::vector<uint64_t>& batch) {
  ChaCha20 random(key.bytes(SecretAccess()), 0);
  batch.clear();
  std::array<uint64_t, 512> words, rows;
  uint64_t row = 0, rest = 0;  // words drawn and not looked at yet
  uint64_t ahead = 0;          // rows whose words are not drawn yet
  for (const Part& part : parts) ahead += part.rows;
  for (const Part& part : parts) {
    for (uint64_t left = part.rows; left > 0;) {
      if (rest == 0) {
        rest = std::min<uint64_t>(ahead, words.size());
        ahead -= rest;
        random.fill(std::span<uint64_t>(words).last(rest));
      }
      const uint64_t n = std::min(left, rest);
      const uint64_t* word = words.data() + (words.size() - rest);
      // Each row is written down, and the next in its place where it is not drawn: no branch tells
      // who is.
      size_t drawn = 0;
      for (uint64_t i = 0; i < n; ++i) {
        rows[drawn] = row + i;
        drawn += word[i] < part.threshold ? 1 : 0;
      }
      batch.insert(batch.end(), rows.begin(), rows.begin() + static_cast<ptrdiff_t>(drawn));
      row += n, left -= n, rest -= n;
    }
  }
  wipe(words.data(), sizeof(words));
  wipe(rows.data(), sizeof(rows));
}

void poisson_batch(const Secret<32>& key, uint64_t rows, uint64_t threshold,
                   std::vector<uint64_t>& batch) {
  const Part whole{rows, threshold};
  poisson_batch(key, std::span(&whole, 1), batch);
}

void ShuffledRows::batch(uint64_t step, uint32_t size, std::vector<uint64_t>& rows) {
  rows.clear();
  for (uint64_t position = step * size; rows.size() < size; ++position) {
    uint64_t epoch = position / rows_;
    if (epoch != epoch_) {
      ChaCha20 random(keys_.derive("shuffle", epoch).bytes(SecretAccess()), 0);
      std::iota(order_.begin(), order_.end(), uint64_t{0});
      for (uint64_t i = rows_; i > 1; --i) std::swap(order_[i - 1], order_[below(random, i)]);
      epoch_ = epoch;
    }
    rows.push_back(order_[position % rows_]);
  }
}

}  // namespace souk::trainer
