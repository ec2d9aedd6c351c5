#include "ledger/entry/leaf.h"

#include <gtest/gtest.h>

#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

Leaf sample() {
  return {.seq = 5,
          .prev = sha256(as_bytes("before")),
          .time = 1234,
          .envelope = to_bytes(R"({"a":{"b":[1]}})")};
}

TEST(Leaf, IsTheCanonicalJsonOfItsMembers) {
  auto text = to_text(encode_leaf({.seq = 0, .prev = {}, .time = 0, .envelope = to_bytes("{}")}));
  EXPECT_EQ(text,
            "{\"envelope\":{},\"prev\":\"" + std::string(64, '0') + "\",\"seq\":0,\"time\":0}");
  EXPECT_TRUE(parse_canonical(to_text(encode_leaf(sample()))));
}

TEST(Leaf, ReadsWhatItWrites) {
  for (auto envelope : {std::string("{}"), std::string(R"({"prev":"x","seq":1,"time":2})"),
                        std::string(R"({"a":"\",\"prev\":\""})")}) {
    auto leaf = sample();
    leaf.envelope = to_bytes(envelope);
    auto back = decode_leaf(encode_leaf(leaf));
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, leaf);
  }
}

TEST(Leaf, RefusesOtherMembersTypesAndSpellings) {
  std::string prev(64, '0');
  auto text = [&](const std::string& envelope, const std::string& p, const std::string& seq,
                  const std::string& time) {
    return "{\"envelope\":" + envelope + ",\"prev\":" + p + ",\"seq\":" + seq +
           ",\"time\":" + time + "}";
  };
  auto reads = [](const std::string& t) { return static_cast<bool>(decode_leaf(as_bytes(t))); };
  std::string good_prev = "\"" + prev + "\"";
  EXPECT_TRUE(reads(text("{}", good_prev, "0", "0")));
  EXPECT_FALSE(reads(text("[]", good_prev, "0", "0")));
  EXPECT_FALSE(reads(text("\"\"", good_prev, "0", "0")));
  EXPECT_FALSE(reads(text("{}", "\"" + prev.substr(2) + "\"", "0", "0")));
  EXPECT_FALSE(reads(text("{}", "\"" + std::string(64, 'A') + "\"", "0", "0")));
  EXPECT_FALSE(reads(text("{}", good_prev, "-1", "0")));
  EXPECT_FALSE(reads(text("{}", good_prev, "0", "-1")));
  EXPECT_FALSE(reads(text("{}", good_prev, "00", "0")));
  EXPECT_FALSE(reads(text("{}", good_prev, "\"0\"", "0")));
  EXPECT_FALSE(reads(text("{}", good_prev, "9007199254740992", "0")));
  EXPECT_FALSE(reads("{\"prev\":" + good_prev + ",\"seq\":0,\"time\":0}"));
  EXPECT_FALSE(
      reads("{\"envelope\":{},\"prev\":" + good_prev + ",\"seq\":0,\"time\":0,\"zoo\":1}"));
  EXPECT_FALSE(reads(text("{}", good_prev, "0", "0") + "\n"));
  EXPECT_FALSE(reads(""));
}

TEST(Leaf, HashesWithThePrefixOfRfc6962) {
  EXPECT_EQ(leaf_hash({}), sha256(Bytes{0x00}));
  EXPECT_EQ(leaf_hash(Bytes{1, 2}), sha256(Bytes{0, 1, 2}));
}

}  // namespace
}  // namespace souk::ledger
