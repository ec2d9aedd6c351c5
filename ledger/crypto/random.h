// Random bytes for keys and nonces, from the kernel through libsodium.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace souk::ledger {

void random_bytes(std::span<uint8_t> out);

template <size_t N>
std::array<uint8_t, N> random_array() {
  std::array<uint8_t, N> out{};
  random_bytes(out);
  return out;
}

}  // namespace souk::ledger
