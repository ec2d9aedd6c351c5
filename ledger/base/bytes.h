// Bytes, and the two ways we write them as text.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"

namespace souk {

using Bytes = std::vector<uint8_t>;
using ByteView = std::span<const uint8_t>;

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline Bytes to_bytes(std::string_view text) {
  auto view = as_bytes(text);
  return {view.begin(), view.end()};
}
inline std::string to_text(ByteView bytes) {
  return std::string(as_text(bytes));
}
inline void append(Bytes& to, ByteView from) {
  to.insert(to.end(), from.begin(), from.end());
}

// Lower-case hexadecimal; the reader accepts lower case only.
std::string to_hex(ByteView bytes);
Result<Bytes> from_hex(std::string_view text);

// Standard base64 (RFC 4648 section 4). The readers are strict: canonical trailing
// bits, no white space. `unpadded` is age's dialect.
std::string to_base64(ByteView bytes);
Result<Bytes> from_base64(std::string_view text);
std::string to_base64_unpadded(ByteView bytes);
Result<Bytes> from_base64_unpadded(std::string_view text);

template <size_t N>
Result<std::array<uint8_t, N>> fixed(ByteView bytes) {
  if (bytes.size() != N) {
    return Error(Code::kMalformed, "expected exactly " + std::to_string(N) + " bytes");
  }
  std::array<uint8_t, N> out{};
  for (size_t i = 0; i < N; ++i) out[i] = bytes[i];
  return out;
}

}  // namespace souk
