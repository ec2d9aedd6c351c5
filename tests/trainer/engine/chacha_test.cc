#include "trainer/engine/chacha.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ledger/base/bytes.h"

namespace souk::trainer {
namespace {

std::array<uint8_t, 32> counting_key() {
  std::array<uint8_t, 32> key{};
  for (uint8_t i = 0; i < 32; ++i) key[i] = i;
  return key;
}

TEST(ChaCha20, MakesTheBlockOfRfc8439Section232) {
  std::array<uint8_t, 12> nonce{0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0};
  ChaCha20 random(counting_key(), nonce, 1);
  std::array<uint8_t, 64> block{};
  random.fill(std::span<uint8_t>(block));
  EXPECT_EQ(to_hex(block),
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e");
}

TEST(ChaCha20, EncryptsTheTextOfRfc8439Section242) {
  std::array<uint8_t, 12> nonce{0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 0};
  ChaCha20 random(counting_key(), nonce, 1);
  std::string text =
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
      "sunscreen would be it.";
  Bytes cipher = to_bytes(text), stream(cipher.size());
  random.fill(std::span<uint8_t>(stream));
  for (size_t i = 0; i < cipher.size(); ++i) cipher[i] ^= stream[i];
  EXPECT_EQ(to_hex(cipher),
            "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
            "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
            "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
            "5af90bbf74a35be6b40b8eedf2785e42874d");
}

TEST(ChaCha20, PiecesOfAnySizeMakeTheSameStream) {
  std::vector<uint8_t> whole(5000), pieces;
  ChaCha20(counting_key(), 7).fill(std::span<uint8_t>(whole));
  ChaCha20 random(counting_key(), 7);
  for (size_t n = 1; pieces.size() < whole.size(); n = n * 3 % 701 + 1) {
    std::vector<uint8_t> piece(std::min(n, whole.size() - pieces.size()));
    random.fill(std::span<uint8_t>(piece));
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  EXPECT_EQ(pieces, whole);
}

TEST(ChaCha20, OtherKeysAndOtherStreamsDiffer) {
  auto other = counting_key();
  other[31] ^= 1;
  uint64_t word = ChaCha20(counting_key(), 0).next();
  EXPECT_NE(word, ChaCha20(counting_key(), 1).next());
  EXPECT_NE(word, ChaCha20(other, 0).next());
  EXPECT_EQ(word, ChaCha20(counting_key(), 0).next());
}

TEST(ChaCha20, StopsBeforeTheCounterWraps) {
  std::array<uint8_t, 12> nonce{};
  ChaCha20 random(counting_key(), nonce, 0xfffffff8);
  std::array<uint8_t, 512> block{};
  random.fill(std::span<uint8_t>(block));
  EXPECT_DEATH(random.next(), "bug");
}

}  // namespace
}  // namespace souk::trainer
