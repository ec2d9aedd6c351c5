#include "trainer/data/bech32.h"

#include <gtest/gtest.h>

namespace souk::trainer {
namespace {

TEST(Bech32, EncodesTheExampleOfBip173) {
  // BIP 173: the witness program of its P2WPKH example, without the version digit.
  EXPECT_EQ(bech32_encode("abcdef", from_hex("00443214c74254b635cf84653a56d7c675be77df").take()),
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw");
}

TEST(Bech32, RoundTripsEveryLength) {
  for (size_t n = 0; n < 70; ++n) {
    Bytes bytes(n);
    for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(37 * i + n);
    auto back = bech32_decode("age", bech32_encode("age", bytes));
    ASSERT_TRUE(back) << n;
    EXPECT_EQ(*back, bytes);
  }
}

TEST(Bech32, RefusesEveryOneCharacterError) {
  const auto good = bech32_encode("age", Bytes(32, 0x5a));
  for (size_t i = 0; i < good.size(); ++i) {
    for (char c : std::string("qpzry9x8gf2tvdw0s3jn54khce6mua7l1bio A\n")) {
      if (good[i] == c) continue;
      auto text = good;
      text[i] = c;
      EXPECT_FALSE(bech32_decode("age", text)) << i << c;
    }
  }
}

TEST(Bech32, RefusesAnotherPrefixCaseOrLength) {
  const auto good = bech32_encode("age", Bytes(32, 1));
  EXPECT_FALSE(bech32_decode("agf", good));
  EXPECT_FALSE(bech32_decode("ag", good));
  EXPECT_FALSE(bech32_decode("age1", good));
  EXPECT_FALSE(bech32_decode("age", good.substr(0, good.size() - 1)));
  EXPECT_FALSE(bech32_decode("age", good + "q"));
  EXPECT_FALSE(bech32_decode("age", "age1"));
  EXPECT_FALSE(bech32_decode("age", "age"));
  EXPECT_FALSE(bech32_decode("age", ""));
}

// The checksum is right in each of these (made by another implementation).
TEST(Bech32, RefusesPaddingThatIsNotZeroOrTooLong) {
  EXPECT_EQ(*bech32_decode("age", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"),
            Bytes(32));
  EXPECT_FALSE(
      bech32_decode("age", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqpfwgqrs"));
  EXPECT_FALSE(
      bech32_decode("age", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqy6p66v"));
  // The highest bit of the last digit belongs to the last byte.
  EXPECT_TRUE(
      bech32_decode("age", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqspe5dt3"));
}

}  // namespace
}  // namespace souk::trainer
