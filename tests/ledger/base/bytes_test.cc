#include "ledger/base/bytes.h"

#include <gtest/gtest.h>

#include "ledger/base/named.h"
#include "ledger/base/secret.h"

namespace souk {
namespace {

TEST(Hex, ReadsWhatItWrites) {
  Bytes all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<uint8_t>(i));
  auto back = from_hex(to_hex(all));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, all);
}

TEST(Hex, RefusesCapitalsOddLengthsAndOtherCharacters) {
  for (auto* text : {"AB", "abc", "zz", "0x", " 0", "0g"}) EXPECT_FALSE(from_hex(text)) << text;
}

TEST(Base64, FollowsTheVectorsOfRfc4648) {
  std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                   {"f", "Zg=="},
                                                   {"fo", "Zm8="},
                                                   {"foo", "Zm9v"},
                                                   {"foob", "Zm9vYg=="},
                                                   {"fooba", "Zm9vYmE="},
                                                   {"foobar", "Zm9vYmFy"}};
  for (auto [plain, encoded] : vectors) {
    EXPECT_EQ(to_base64(as_bytes(plain)), encoded);
    auto back = from_base64(encoded);
    ASSERT_TRUE(back) << encoded;
    EXPECT_EQ(to_text(*back), plain);
  }
}

TEST(Base64, RefusesEverySecondSpelling) {
  for (auto* text : {"Zg", "Zg=", "Zh==", "Zm9=", "Zm8", "Zg==\n",
                     " Zg==", "Z===", "====", "Zg==Zg==", "Z-8=", "Zm9vY"}) {
    EXPECT_FALSE(from_base64(text)) << text;
  }
  EXPECT_FALSE(from_base64_unpadded("Zg=="));
  EXPECT_TRUE(from_base64_unpadded("Zg"));
  EXPECT_FALSE(from_base64_unpadded("Zh"));
  EXPECT_FALSE(from_base64_unpadded("Zm9vY"));
}

TEST(Fixed, TakesExactlyItsLength) {
  Bytes bytes(32, 7);
  EXPECT_TRUE(fixed<32>(bytes));
  bytes.push_back(7);
  EXPECT_FALSE(fixed<32>(bytes));
  bytes.resize(31);
  EXPECT_FALSE(fixed<32>(bytes));
}

TEST(Named, RefusesHexOfAnotherLength) {
  EXPECT_TRUE(named_from_hex<PublicKey>(std::string(64, 'a')));
  EXPECT_FALSE(named_from_hex<PublicKey>(std::string(62, 'a')));
  EXPECT_FALSE(named_from_hex<PublicKey>(std::string(66, 'a')));
  EXPECT_FALSE(named_from_hex<Signature>(std::string(64, 'a')));
  EXPECT_TRUE(named_from_hex<Signature>(std::string(128, 'a')));
}

TEST(Secrets, CompareByTheirBytesAndMoveOnly) {
  auto a = Secret<32>::random();
  auto b = a.clone(SecretAccess());
  EXPECT_TRUE(a == b);
  EXPECT_FALSE(a == Secret<32>::random());
  static_assert(!std::is_copy_constructible_v<Secret<32>>);
}

}  // namespace
}  // namespace souk
