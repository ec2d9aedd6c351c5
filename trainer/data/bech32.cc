#include "trainer/data/bech32.h"

#include <array>

namespace souk::trainer {
namespace {

constexpr std::string_view kAlphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
constexpr size_t kChecksumDigits = 6;

uint32_t polymod(ByteView digits) {
  constexpr std::array<uint32_t, 5> generator{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd,
                                              0x2a1462b3};
  uint32_t sum = 1;
  for (uint8_t digit : digits) {
    uint32_t top = sum >> 25;
    sum = ((sum & 0x1ffffff) << 5) ^ digit;
    for (size_t i = 0; i < generator.size(); ++i) {
      if ((top >> i) & 1) sum ^= generator[i];
    }
  }
  return sum;
}

// The prefix as the checksum sees it: high bits, zero, low bits.
Bytes expand(std::string_view prefix) {
  Bytes out;
  for (char c : prefix) out.push_back(static_cast<uint8_t>(c) >> 5);
  out.push_back(0);
  for (char c : prefix) out.push_back(static_cast<uint8_t>(c) & 31);
  return out;
}

}  // namespace

std::string bech32_encode(std::string_view prefix, ByteView bytes) {
  Bytes digits;
  uint32_t carry = 0;
  int bits = 0;
  for (uint8_t byte : bytes) {
    carry = (carry << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      digits.push_back(static_cast<uint8_t>((carry >> bits) & 31));
    }
    carry &= 31;
  }
  if (bits > 0) digits.push_back(static_cast<uint8_t>((carry << (5 - bits)) & 31));

  auto summed = expand(prefix);
  append(summed, digits);
  summed.resize(summed.size() + kChecksumDigits);
  uint32_t checksum = polymod(summed) ^ 1;
  for (size_t i = 0; i < kChecksumDigits; ++i) {
    digits.push_back(static_cast<uint8_t>((checksum >> (5 * (kChecksumDigits - 1 - i))) & 31));
  }

  std::string text(prefix);
  text.push_back('1');
  for (uint8_t digit : digits) text.push_back(kAlphabet[digit]);
  return text;
}

Result<Bytes> bech32_decode(std::string_view prefix, std::string_view text) {
  auto bad = [](const char* expected) { return Error(Code::kMalformed, expected); };
  if (text.substr(0, prefix.size()) != prefix || text.size() <= prefix.size() ||
      text[prefix.size()] != '1') {
    return bad("bech32: expected another prefix or another case");
  }
  auto body = text.substr(prefix.size() + 1);
  if (body.size() < kChecksumDigits) return bad("bech32: expected a checksum");
  Bytes digits;
  for (char c : body) {
    auto digit = kAlphabet.find(c);
    if (digit == std::string_view::npos) return bad("bech32: expected only its 32 characters");
    digits.push_back(static_cast<uint8_t>(digit));
  }
  auto summed = expand(prefix);
  append(summed, digits);
  if (polymod(summed) != 1)
    return bad("bech32: expected another checksum; is there a typing error?");
  digits.resize(digits.size() - kChecksumDigits);

  Bytes out;
  uint32_t carry = 0;
  int bits = 0;
  for (uint8_t digit : digits) {
    carry = (carry << 5) | digit;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      out.push_back(static_cast<uint8_t>((carry >> bits) & 255));
    }
    carry &= 255;
  }
  if (bits >= 5 || (carry & ((1u << bits) - 1)) != 0)
    return bad("bech32: expected zero padding bits");
  return out;
}

}  // namespace souk::trainer
