#include "ledger/entry/entry.h"

#include <gtest/gtest.h>

#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::body_of;
using test::envelope_of;
using test::key_of;
using test::kType;

const std::string kMarket(64, 'a');

Bytes flip(Bytes bytes, size_t bit) {
  bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
  return bytes;
}

bool climbs(ByteView bytes) {
  auto entry = SignedEntry::decode(bytes);
  return entry && authenticate(std::move(entry).take());
}

// An envelope over this body, signed, whatever the body says.
Bytes signed_anyhow(const SigningKey& key, const std::string& type, const std::string& payload) {
  return to_bytes(canonical(to_json(sign_envelope(key, type, to_bytes(payload)))));
}

TEST(Dsse, EncodesLikeTheSpecificationsExample) {
  EXPECT_EQ(to_text(pre_authentication_encoding("http://example.com/HelloWorld",
                                                as_bytes("hello world"))),
            "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

TEST(Entry, ClimbsTheLadderWithWhatItsAuthorWrote) {
  auto key = key_of(3);
  auto bytes = envelope_of(key, kMarket, 7);
  auto entry = test::climb(bytes);
  EXPECT_EQ(entry.author(), key.public_key());
  EXPECT_EQ(entry.market(), kMarket);
  EXPECT_EQ(entry.nonce(), test::nonce_of(7));
  EXPECT_EQ(entry.payload_type(), kType);
  EXPECT_EQ(entry.envelope_bytes(), bytes);
  EXPECT_EQ(entry.payload_hash(), sha256(entry.payload()));
  EXPECT_EQ(canonical(entry.body()), as_text(entry.payload()));
}

TEST(Entry, RefusesEveryFlippedBit) {
  auto bytes = envelope_of(key_of(3), kMarket, 7);
  ASSERT_TRUE(climbs(bytes));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) EXPECT_FALSE(climbs(flip(bytes, bit))) << bit;
}

TEST(Entry, RefusesEveryPrefixAndEveryAddition) {
  auto bytes = envelope_of(key_of(3), kMarket, 7);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(climbs(ByteView(bytes).first(n)));
  for (char c : {' ', '\n', '}', '\0'}) {
    auto more = bytes;
    more.push_back(static_cast<uint8_t>(c));
    EXPECT_FALSE(climbs(more));
  }
}

TEST(Entry, RefusesASignatureOverAnotherType) {
  auto key = key_of(3);
  auto envelope = sign_envelope(key, kType, to_bytes(canonical(body_of(key, kMarket, 1))));
  envelope.payload_type += "x";
  auto entry = SignedEntry::decode(to_bytes(canonical(to_json(envelope))));
  ASSERT_TRUE(entry);
  auto authentic = authenticate(std::move(entry).take());
  ASSERT_FALSE(authentic);
  EXPECT_EQ(authentic.error().code(), Code::kUnauthentic);
}

TEST(Entry, RefusesAnAuthorWhoIsNotTheSigner) {
  auto body = body_of(key_of(3), kMarket, 1);
  EXPECT_FALSE(SignedEntry::decode(signed_anyhow(key_of(4), kType, canonical(body))));
  EXPECT_TRUE(SignedEntry::decode(signed_anyhow(key_of(3), kType, canonical(body))));
}

TEST(Entry, RefusesNoneAndTwoSignatures) {
  auto key = key_of(3);
  auto envelope = sign_envelope(key, kType, to_bytes(canonical(body_of(key, kMarket, 1))));
  auto two = envelope;
  two.signatures.push_back(two.signatures.front());
  auto none = envelope;
  none.signatures.clear();
  EXPECT_TRUE(envelope_from_json(to_json(envelope)));
  EXPECT_FALSE(envelope_from_json(to_json(two)));
  EXPECT_FALSE(envelope_from_json(to_json(none)));
}

TEST(Entry, RefusesMembersThatAreMissingOrOfAnotherForm) {
  auto key = key_of(3);
  auto with = [&](const std::string& name, Json value) {
    auto body = body_of(key, kMarket, 1);
    (*body.object())[name] = std::move(value);
    return climbs(signed_anyhow(key, kType, canonical(body)));
  };
  auto without = [&](const std::string& name) {
    auto body = body_of(key, kMarket, 1);
    body.object()->erase(name);
    return climbs(signed_anyhow(key, kType, canonical(body)));
  };
  for (auto* name : {"author", "market", "nonce"}) EXPECT_FALSE(without(name)) << name;
  EXPECT_TRUE(with("market", ""));
  EXPECT_FALSE(with("market", std::string(62, 'a')));
  EXPECT_FALSE(with("market", std::string(64, 'A')));
  EXPECT_FALSE(with("market", Json()));
  EXPECT_FALSE(with("nonce", std::string(30, 'a')));
  EXPECT_FALSE(with("nonce", std::string(34, 'a')));
  EXPECT_FALSE(with("nonce", std::string(32, 'g')));
  EXPECT_FALSE(with("nonce", 5));
  EXPECT_FALSE(with("nonce", ""));
  EXPECT_FALSE(with("author", to_hex(key_of(4).public_key())));
  EXPECT_TRUE(with("anything", "else"));
}

TEST(Entry, RefusesPayloadsThatAreNotCanonicalObjects) {
  auto key = key_of(3);
  auto body = canonical(body_of(key, kMarket, 1));
  EXPECT_TRUE(climbs(signed_anyhow(key, kType, body)));
  EXPECT_FALSE(climbs(signed_anyhow(key, kType, body + " ")));
  EXPECT_FALSE(climbs(signed_anyhow(key, kType, " " + body)));
  EXPECT_FALSE(climbs(signed_anyhow(key, kType, "[" + body + "]")));
  EXPECT_FALSE(climbs(signed_anyhow(key, kType, "")));
  EXPECT_FALSE(climbs(signed_anyhow(key, "", body)));
}

TEST(Entry, FindsTheThreeMembersInsideTheInTotoPredicate) {
  auto key = key_of(3);
  Json statement = Json::Object{{"_type", "https://in-toto.io/Statement/v1"},
                                {"predicate", body_of(key, kMarket, 1)}};
  auto entry = SignedEntry::decode(signed_anyhow(key, kInTotoPayloadType, canonical(statement)));
  ASSERT_TRUE(entry) << entry.error().expected();
  EXPECT_EQ(authenticate(std::move(entry).take())->nonce(), test::nonce_of(1));
  EXPECT_FALSE(SignedEntry::decode(signed_anyhow(key, kType, canonical(statement))));
  EXPECT_FALSE(SignedEntry::decode(
      signed_anyhow(key, kInTotoPayloadType, canonical(body_of(key, kMarket, 1)))));
}

TEST(Entry, RefusesMoreBytesThanALeafHasRoomFor) {
  auto key = key_of(3);
  auto sized = [&](size_t filling) {
    auto body = body_of(key, kMarket, 1);
    (*body.object())["filling"] = std::string(filling, 'x');
    return sign_entry(key, kType, body);
  };
  size_t low = 1000, high = 65535;
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    (sized(middle) ? low : high) = middle;
  }
  auto largest = sized(low);
  ASSERT_TRUE(largest);
  EXPECT_GT(largest->size(), kMaxEnvelopeBytes - 8);
  auto leaf = encode_leaf({.seq = static_cast<uint64_t>(kMaxJsonInteger),
                           .time = kMaxJsonInteger,
                           .envelope = *largest});
  EXPECT_LE(leaf.size(), kMaxRecordBytes);
  EXPECT_TRUE(decode_leaf(leaf));
}

}  // namespace
}  // namespace souk::ledger
