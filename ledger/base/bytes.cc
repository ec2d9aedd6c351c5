#include "ledger/base/bytes.h"

#include <array>

namespace souk {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// The value of each character as a digit; -1 when it is none.
using Digits = std::array<int8_t, 256>;
constexpr Digits digits_of(std::string_view alphabet) {
  Digits out{};
  for (auto& value : out) value = -1;
  for (size_t i = 0; i < alphabet.size(); ++i) {
    out[static_cast<uint8_t>(alphabet[i])] = static_cast<int8_t>(i);
  }
  return out;
}
constexpr Digits kHexDigits = digits_of("0123456789abcdef");
constexpr Digits kBase64Digits = digits_of(kAlphabet);

int hex_digit(char c) {
  return kHexDigits[static_cast<uint8_t>(c)];
}
int base64_digit(char c) {
  return kBase64Digits[static_cast<uint8_t>(c)];
}

}  // namespace

std::string to_hex(ByteView bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (uint8_t b : bytes) {
    out.push_back(digits[b >> 4]);
    out.push_back(digits[b & 15]);
  }
  return out;
}

Result<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return Error(Code::kMalformed, "expected an even number of hex digits");
  Bytes out;
  out.reserve(text.size() / 2);
  for (size_t i = 0; i < text.size(); i += 2) {
    int high = hex_digit(text[i]);
    int low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return Error(Code::kMalformed, "expected lower-case hex digits");
    out.push_back(static_cast<uint8_t>(high * 16 + low));
  }
  return out;
}

std::string to_base64_unpadded(ByteView bytes) {
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  uint32_t window = 0;
  int bits = 0;
  for (uint8_t b : bytes) {
    window = (window << 8) | b;
    bits += 8;
    while (bits >= 6) {
      bits -= 6;
      out.push_back(kAlphabet[(window >> bits) & 63]);
    }
    window &= (1u << bits) - 1;
  }
  if (bits > 0) out.push_back(kAlphabet[(window << (6 - bits)) & 63]);
  return out;
}

Result<Bytes> from_base64_unpadded(std::string_view text) {
  if (text.size() % 4 == 1) return Error(Code::kMalformed, "expected whole base64");
  Bytes out;
  out.reserve(text.size() * 3 / 4);
  size_t whole = text.size() / 4 * 4;
  for (size_t i = 0; i < whole; i += 4) {
    int a = base64_digit(text[i]);
    int b = base64_digit(text[i + 1]);
    int c = base64_digit(text[i + 2]);
    int d = base64_digit(text[i + 3]);
    if ((a | b | c | d) < 0) return Error(Code::kMalformed, "expected base64 characters");
    uint32_t three = static_cast<uint32_t>(a << 18 | b << 12 | c << 6 | d);
    out.push_back(static_cast<uint8_t>(three >> 16));
    out.push_back(static_cast<uint8_t>(three >> 8));
    out.push_back(static_cast<uint8_t>(three));
  }
  uint32_t window = 0;
  int bits = 0;
  for (char c : text.substr(whole)) {
    int digit = base64_digit(c);
    if (digit < 0) return Error(Code::kMalformed, "expected base64 characters");
    window = (window << 6) | static_cast<uint32_t>(digit);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<uint8_t>(window >> bits));
      window &= (1u << bits) - 1;
    }
  }
  if (window != 0) return Error(Code::kMalformed, "expected zero trailing bits in base64");
  return out;
}

std::string to_base64(ByteView bytes) {
  std::string out = to_base64_unpadded(bytes);
  while (out.size() % 4 != 0) out.push_back('=');
  return out;
}

Result<Bytes> from_base64(std::string_view text) {
  if (text.size() % 4 != 0) return Error(Code::kMalformed, "expected padded base64");
  size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  return from_base64_unpadded(text.substr(0, text.size() - padding));
}

}  // namespace souk
