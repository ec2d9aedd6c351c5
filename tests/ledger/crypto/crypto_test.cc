#include <gtest/gtest.h>

#include "ledger/crypto/aead.h"
#include "ledger/crypto/hash.h"
#include "ledger/crypto/kdf.h"
#include "ledger/crypto/public_key.h"
#include "ledger/crypto/random.h"
#include "ledger/crypto/sign.h"

namespace souk::ledger {
namespace {

Bytes hex(const char* text) {
  return from_hex(text).take();
}

TEST(Sha256Test, FollowsFips180) {
  EXPECT_EQ(to_hex(ByteView(sha256({}))),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(ByteView(sha256(as_bytes("abc")))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, HashesPiecesLikeTheWholeAndStartsAnewAfterwards) {
  Sha256 hash;
  hash.update(as_bytes("a"));
  hash.update({});
  hash.update(as_bytes("bc"));
  EXPECT_EQ(hash.finish(), sha256(as_bytes("abc")));
  EXPECT_EQ(hash.finish(), sha256({}));
}

TEST(HmacTest, FollowsRfc4231) {
  EXPECT_EQ(to_hex(ByteView(hmac_sha256(Bytes(20, 0x0b), as_bytes("Hi There")))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(
      to_hex(ByteView(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?")))),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(
      to_hex(ByteView(hmac_sha256(
          Bytes(131, 0xaa), as_bytes("Test Using Larger Than Block-Size Key - Hash Key First")))),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(HkdfTest, FollowsRfc5869) {
  auto ikm = Bytes(22, 0x0b);
  auto salt = hex("000102030405060708090a0b0c");
  EXPECT_EQ(to_hex(hkdf_extract(salt, ikm)),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  EXPECT_EQ(to_hex(hkdf(ikm, salt, hex("f0f1f2f3f4f5f6f7f8f9"), 42)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
  EXPECT_EQ(to_hex(hkdf(ikm, {}, {}, 42)),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

TEST(AeadTest, FollowsRfc8439) {
  auto key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  auto nonce = hex("070000004041424344454647");
  auto aad = hex("50515253c0c1c2c3c4c5c6c7");
  auto plain = as_bytes(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
      "sunscreen would be it.");
  auto sealed = seal(key, nonce, aad, plain);
  EXPECT_EQ(to_hex(ByteView(sealed).last(16)), "1ae10b594f09e26a7e902ecbd0600691");
  EXPECT_EQ(to_hex(ByteView(sealed).first(16)), "d31a8d34648e60db7b86afbc53ef7ec2");
  auto opened = open(key, nonce, aad, sealed);
  ASSERT_TRUE(opened);
  EXPECT_EQ(to_text(*opened), as_text(plain));
}

TEST(AeadTest, OpensNothingWithOneBitChanged) {
  Bytes key(32, 1), nonce(12, 2), aad{3, 4}, plain{5, 6, 7};
  auto sealed = seal(key, nonce, aad, plain);
  auto flipped = [](Bytes bytes, size_t bit) {
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
    return bytes;
  };
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    auto opened = open(key, nonce, aad, flipped(sealed, bit));
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), Code::kUnauthentic);
  }
  for (size_t bit = 0; bit < key.size() * 8; ++bit)
    EXPECT_FALSE(open(flipped(key, bit), nonce, aad, sealed));
  for (size_t bit = 0; bit < nonce.size() * 8; ++bit)
    EXPECT_FALSE(open(key, flipped(nonce, bit), aad, sealed));
  for (size_t bit = 0; bit < aad.size() * 8; ++bit)
    EXPECT_FALSE(open(key, nonce, flipped(aad, bit), sealed));
  for (size_t n = 0; n < sealed.size(); ++n)
    EXPECT_FALSE(open(key, nonce, aad, ByteView(sealed).first(n)));
  EXPECT_TRUE(open(key, nonce, aad, sealed));
}

TEST(AeadTest, SealsNothingAtAll) {
  Bytes key(32, 1), nonce(12, 2);
  auto sealed = seal(key, nonce, {}, {});
  EXPECT_EQ(sealed.size(), 16u);
  auto opened = open(key, nonce, {}, sealed);
  ASSERT_TRUE(opened);
  EXPECT_TRUE(opened->empty());
}

TEST(SignTest, FollowsRfc8032) {
  auto key =
      SigningKey::from_seed(hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
          .take();
  EXPECT_EQ(to_hex(key.public_key()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
  Bytes message{0x72};
  auto signature = key.sign(message);
  EXPECT_EQ(to_hex(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f36"
            "13d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
  EXPECT_TRUE(verify(key.public_key(), message, signature));
  EXPECT_EQ(to_hex(key.seed(SecretAccess()).bytes(SecretAccess())),
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
}

TEST(SignTest, RefusesEveryFlippedBit) {
  auto key = SigningKey::generate();
  Bytes message{1, 2, 3};
  auto signature = key.sign(message);
  for (size_t bit = 0; bit < 64 * 8; ++bit) {
    auto bytes = signature.value();
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
    EXPECT_FALSE(verify(key.public_key(), message, Signature(bytes))) << bit;
  }
  for (size_t bit = 0; bit < 32 * 8; ++bit) {
    auto bytes = key.public_key().value();
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
    EXPECT_FALSE(verify(PublicKey(bytes), message, signature)) << bit;
  }
  Bytes longer{1, 2, 3, 0};
  EXPECT_FALSE(verify(key.public_key(), longer, signature));
  EXPECT_FALSE(verify(key.public_key(), ByteView(message).first(2), signature));
  EXPECT_FALSE(verify(SigningKey::generate().public_key(), message, signature));
}

TEST(SignTest, RefusesTheNeutralKeyThatSignsEverything) {
  // Key and R the neutral element, S zero: S·B = R + h·A for every message.
  Digest neutral{};
  neutral[0] = 1;
  std::array<uint8_t, 64> forged{};
  forged[0] = 1;
  EXPECT_FALSE(verify(PublicKey(neutral), as_bytes("anything"), Signature(forged)));
}

TEST(SignTest, RefusesSeedsOfAnotherLength) {
  EXPECT_FALSE(SigningKey::from_seed(Bytes(31)));
  EXPECT_FALSE(SigningKey::from_seed(Bytes(33)));
}

TEST(RandomTest, GivesOtherBytesEachTime) {
  EXPECT_NE(random_array<32>(), random_array<32>());
}

TEST(PublicKeyTest, WhatNobodyCanSignForIsNoKey) {
  auto key = [](const std::string& text) { return named_from_hex<PublicKey>(text).take(); };
  const std::string f60(60, 'f'), zeros(62, '0');
  // Orders 4, 1, 8, 8, 2, and the same written with p added, or with the other sign.
  for (const std::string& weak :
       {"00" + zeros, "01" + zeros, "ec" + f60 + "7f", "ed" + f60 + "7f", "ee" + f60 + "7f",
        "00" + zeros.substr(2) + "80", "ed" + f60 + "ff",
        std::string("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        std::string("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        std::string("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}) {
    EXPECT_TRUE(is_weak_key(key(weak))) << weak;
    EXPECT_FALSE(is_public_key(key(weak))) << weak;
  }
  // On no curve.
  EXPECT_FALSE(is_public_key(key("02" + zeros)));
  EXPECT_FALSE(is_weak_key(key("02" + zeros)));
  for (int i = 0; i < 20; ++i) {
    auto own = SigningKey::generate().public_key();
    EXPECT_TRUE(is_public_key(own));
    EXPECT_FALSE(is_weak_key(own));
  }
}

}  // namespace
}  // namespace souk::ledger
