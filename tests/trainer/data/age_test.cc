#include "trainer/data/age.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

#include "ledger/crypto/hash.h"

namespace souk::trainer {
namespace {

FileKey key_of(uint8_t byte) {
  std::array<uint8_t, 16> bytes{};
  bytes.fill(byte);
  return FileKey::copy_of(bytes);
}

Bytes sample(size_t n) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<uint8_t>(i * 131 + (i >> 9));
  return bytes;
}

ByteSink into(Bytes& out) {
  return [&out](ByteView piece) { append(out, piece); };
}

Bytes header_for(const AgeIdentity& identity, const FileKey& key) {
  const SealingKey recipients[] = {identity.recipient()};
  return make_header(key, recipients).take();
}

Code code_of(const auto& result) {
  return result.error().code();
}

// ---- names of keys ----

TEST(AgeIdentity, HasTheTextOfTheSpecification) {
  // C2SP age.md, "X25519 recipient stanza".
  auto identity = AgeIdentity::from_text(
      "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX");
  ASSERT_TRUE(identity) << identity.error().expected();
  EXPECT_EQ(recipient_text(identity->recipient()),
            "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj");
  EXPECT_EQ(identity->text(SecretAccess()),
            "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX");
}

TEST(AgeIdentity, RoundTripsThroughItsTextAndRefusesLowerCaseAndSpace) {
  auto identity = AgeIdentity::generate();
  auto text = identity.text(SecretAccess());
  EXPECT_EQ(AgeIdentity::from_text(text)->recipient(), identity.recipient());
  auto lower = text;
  lower[0] = 'a';
  EXPECT_FALSE(AgeIdentity::from_text(lower));
  EXPECT_FALSE(AgeIdentity::from_text(text + "\n"));
  EXPECT_FALSE(AgeIdentity::from_text(" " + text));
  EXPECT_FALSE(AgeIdentity::from_text(recipient_text(identity.recipient())));
  EXPECT_FALSE(AgeIdentity::from_text(""));
}

TEST(AgeRecipient, RoundTripsAndRefusesUpperCase) {
  auto recipient = AgeIdentity::generate().recipient();
  auto text = recipient_text(recipient);
  EXPECT_EQ(*recipient_from_text(text), recipient);
  auto upper = text;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  EXPECT_FALSE(recipient_from_text(upper));
}

// ---- header ----

TEST(AgeHeader, GivesTheFileKeyToEachRecipientAndToNobodyElse) {
  auto a = AgeIdentity::generate();
  auto b = AgeIdentity::generate();
  auto stranger = AgeIdentity::generate();
  auto key = FileKey::random();
  const SealingKey recipients[] = {a.recipient(), b.recipient()};
  auto header = make_header(key, recipients).take();
  EXPECT_TRUE(check_header(header));
  EXPECT_TRUE(*open_header(header, a) == key);
  EXPECT_TRUE(*open_header(header, b) == key);
  EXPECT_EQ(code_of(open_header(header, stranger)), Code::kNotFound);
}

TEST(AgeHeader, IsVerifiedByTheHolderOfTheFileKeyAlone) {
  auto identity = AgeIdentity::generate();
  auto key = key_of(7);
  auto header = header_for(identity, key);
  EXPECT_TRUE(verify_header(header, key));
  EXPECT_EQ(code_of(verify_header(header, key_of(8))), Code::kUnauthentic);
  EXPECT_EQ(header_digest(header), ledger::sha256(header));
}

TEST(AgeHeader, NeedsRecipientsAndNoneOfLowOrder) {
  auto key = key_of(1);
  EXPECT_FALSE(make_header(key, {}));
  const SealingKey zero[] = {SealingKey()};
  EXPECT_EQ(code_of(make_header(key, zero)), Code::kMalformed);
  std::vector<SealingKey> many(kMaxAgeRecipients + 1, AgeIdentity::generate().recipient());
  EXPECT_FALSE(make_header(key, many));
  many.pop_back();
  auto header = make_header(key, many);
  ASSERT_TRUE(header);
  EXPECT_LE(header->size(), kMaxAgeHeaderBytes);
  EXPECT_TRUE(check_header(*header));
}

TEST(AgeHeader, WithAnyBitFlippedIsNeitherVerifiedNorOpened) {
  auto identity = AgeIdentity::generate();
  auto key = key_of(3);
  auto header = header_for(identity, key);
  for (size_t i = 0; i < header.size() * 8; ++i) {
    auto lie = header;
    lie[i / 8] = static_cast<uint8_t>(lie[i / 8] ^ (1 << (i % 8)));
    EXPECT_FALSE(verify_header(lie, key)) << "bit " << i;
    EXPECT_FALSE(open_header(lie, identity)) << "bit " << i;
  }
}

TEST(AgeHeader, CutAnywhereIsRefusedAndItsLengthIsUnknown) {
  auto identity = AgeIdentity::generate();
  auto header = header_for(identity, key_of(3));
  for (size_t n = 0; n < header.size(); ++n) {
    auto cut = ByteView(header).first(n);
    EXPECT_FALSE(check_header(cut)) << n;
    auto length = find_header_length(cut);
    ASSERT_FALSE(length) << n;
    EXPECT_EQ(length.error().code(), Code::kTryAgain) << n;
  }
  EXPECT_EQ(*find_header_length(header), header.size());
  auto longer = header;
  append(longer, sample(100));
  EXPECT_EQ(*find_header_length(longer), header.size());
  EXPECT_FALSE(check_header(longer));
}

TEST(AgeHeader, LengthOfWhatIsNoHeaderIsMalformedAtOnce) {
  for (std::string text : {"x", "age-encryption.org/v2\n", "age-encryption.org/v1\r\n",
                           "age-encryption.org/v1\n\x01"}) {
    EXPECT_EQ(code_of(find_header_length(as_bytes(text))), Code::kMalformed) << text;
  }
  auto endless = std::string("age-encryption.org/v1\n") + std::string(kMaxAgeHeaderBytes, 'a');
  EXPECT_EQ(code_of(find_header_length(as_bytes(endless))), Code::kMalformed);
}

// The MAC is right in each of these, so only the form is wrong.
TEST(AgeHeader, InAnotherFormIsRefusedEvenWhenItsMacIsRight) {
  auto identity = AgeIdentity::generate();
  auto key = key_of(5);
  auto text = to_text(header_for(identity, key));
  auto replaced = [&](const std::string& from, const std::string& to) {
    auto copy = text;
    auto at = copy.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return copy.replace(at, from.size(), to);
  };
  const std::string lies[] = {
      replaced("-> X25519 ", "->  X25519 "),
      replaced("-> X25519 ", "-> X25519  "),
      replaced("-> X25519", " -> X25519"),
      replaced("\n--- ", "\n\n--- "),
      replaced("--- ", "---"),
      replaced("--- ", "---  "),
      replaced("\n-> ", "\r\n-> "),
      text + "\n",
      text.substr(0, text.size() - 1) + " \n",
      text.substr(0, text.size() - 1) + "=\n",
  };
  for (const auto& lie : lies) {
    EXPECT_EQ(code_of(check_header(as_bytes(lie))), Code::kMalformed) << lie;
    EXPECT_FALSE(open_header(as_bytes(lie), identity));
  }
}

TEST(AgeHeader, NamesWhatItDoesNotRead) {
  std::string scrypt =
      "age-encryption.org/v1\n-> scrypt rF0/NwblUHHTpgQgRpe5CQ 10\n"
      "gUjEymFKMVXQEKdMMHL24oYexjE3TIC0O0zGSqJ2aUY\n"
      "--- IOWGt2pXSiUdvSTb9bvRQIqwiC1Kc3FDpASCZi5PtNo\n";
  EXPECT_EQ(code_of(check_header(as_bytes(scrypt))), Code::kRefused);
  std::string armor = "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n";
  EXPECT_EQ(code_of(check_header(as_bytes(armor))), Code::kRefused);
  EXPECT_EQ(code_of(find_header_length(as_bytes(armor))), Code::kRefused);
}

// ---- payload ----

TEST(AgePayload, RoundTripsAroundEveryChunkBoundary) {
  auto key = key_of(9);
  for (size_t n : {size_t{0}, size_t{1}, kAgeChunkBytes - 1, kAgeChunkBytes, kAgeChunkBytes + 1,
                   2 * kAgeChunkBytes - 1, 2 * kAgeChunkBytes, 3 * kAgeChunkBytes + 17}) {
    auto plain = sample(n);
    auto payload = encrypt_payload(key, plain);
    EXPECT_EQ(payload.size(), payload_size(n));
    EXPECT_EQ(*plain_size(payload.size()), n);
    auto back = decrypt_payload(key, payload);
    ASSERT_TRUE(back) << n;
    EXPECT_EQ(*back, plain);
    EXPECT_EQ(code_of(decrypt_payload(key_of(10), payload)), Code::kUnauthentic);
  }
}

TEST(AgePayload, IsTheSameInWhateverPiecesItComes) {
  auto key = key_of(11);
  auto plain = sample(2 * kAgeChunkBytes + 12345);
  for (size_t piece : {size_t{1000}, size_t{4096}, size_t{65535}, size_t{65536}, size_t{65537},
                       size_t{65552}, size_t{65553}, size_t{200000}}) {
    Bytes payload;
    auto encryptor = PayloadEncryptor::start(key);
    for (size_t at = 0; at < plain.size(); at += piece) {
      encryptor.update(ByteView(plain).subspan(at, std::min(piece, plain.size() - at)),
                       into(payload));
    }
    encryptor.finish(into(payload));

    Bytes back;
    auto decryptor = PayloadDecryptor::start(key);
    for (size_t at = 0; at < payload.size(); at += piece) {
      ASSERT_TRUE(decryptor.update(
          ByteView(payload).subspan(at, std::min(piece, payload.size() - at)), into(back)));
    }
    ASSERT_TRUE(decryptor.finish(into(back))) << piece;
    EXPECT_EQ(back, plain);
  }
}

TEST(AgePayload, OneByteAtATimeIsStillTheSame) {
  auto key = key_of(12);
  auto plain = sample(300);
  auto payload = encrypt_payload(key, plain);
  Bytes back;
  auto decryptor = PayloadDecryptor::start(key);
  for (uint8_t byte : payload) ASSERT_TRUE(decryptor.update(ByteView(&byte, 1), into(back)));
  ASSERT_TRUE(decryptor.finish(into(back)));
  EXPECT_EQ(back, plain);
}

TEST(AgePayload, CutAnywhereIsRefused) {
  auto key = key_of(13);
  auto payload = encrypt_payload(key, sample(kAgeChunkBytes + 40));
  for (size_t n = 0; n < payload.size(); n += (n < 100 || n + 100 > payload.size() ? 1 : 997)) {
    EXPECT_FALSE(decrypt_payload(key, ByteView(payload).first(n))) << n;
  }
  // Exactly at the boundary: the first chunk alone was not sealed as the last.
  auto first = ByteView(payload).first(kAgeNonceBytes + kAgeChunkBytes + kAgeTagBytes);
  EXPECT_EQ(code_of(decrypt_payload(key, first)), Code::kUnauthentic);
}

TEST(AgePayload, RefusesBytesAfterTheEndSwappedChunksAndFlippedBits) {
  auto key = key_of(14);
  constexpr size_t kSealed = kAgeChunkBytes + kAgeTagBytes;
  auto payload = encrypt_payload(key, sample(2 * kAgeChunkBytes + 5));
  auto longer = payload;
  longer.push_back(0);
  EXPECT_FALSE(decrypt_payload(key, longer));

  auto swapped = payload;
  std::swap_ranges(swapped.begin() + kAgeNonceBytes, swapped.begin() + kAgeNonceBytes + kSealed,
                   swapped.begin() + kAgeNonceBytes + kSealed);
  EXPECT_FALSE(decrypt_payload(key, swapped));

  auto dropped = payload;
  dropped.erase(dropped.begin() + kAgeNonceBytes, dropped.begin() + kAgeNonceBytes + kSealed);
  EXPECT_FALSE(decrypt_payload(key, dropped));

  for (size_t at : {size_t{0}, size_t{15}, size_t{16}, kSealed, kSealed + 16, payload.size() - 1}) {
    auto lie = payload;
    lie[at] = static_cast<uint8_t>(lie[at] ^ 0x10);
    EXPECT_EQ(code_of(decrypt_payload(key, lie)), Code::kUnauthentic) << at;
  }
}

TEST(AgePayload, DecryptorStaysFailedAfterAnErrorAndOverAfterItsEnd) {
  auto key = key_of(15);
  auto payload = encrypt_payload(key, sample(2 * kAgeChunkBytes));
  auto lie = payload;
  lie[kAgeNonceBytes] = static_cast<uint8_t>(lie[kAgeNonceBytes] ^ 1);
  Bytes out;
  auto decryptor = PayloadDecryptor::start(key);
  EXPECT_FALSE(decryptor.update(lie, into(out)));
  EXPECT_FALSE(decryptor.update(payload, into(out)));
  EXPECT_FALSE(decryptor.finish(into(out)));
  EXPECT_TRUE(out.empty());

  auto good = PayloadDecryptor::start(key);
  ASSERT_TRUE(good.update(payload, into(out)));
  ASSERT_TRUE(good.finish(into(out)));
  EXPECT_FALSE(good.finish(into(out)));
  EXPECT_FALSE(good.update(payload, into(out)));
}

TEST(AgePayload, SizesThatNoPayloadCanHaveAreRefused) {
  constexpr size_t kSealed = kAgeChunkBytes + kAgeTagBytes;
  EXPECT_EQ(payload_size(0), 32u);
  for (size_t bytes : {size_t{0}, size_t{16}, size_t{31}, kAgeNonceBytes + kSealed + 1,
                       kAgeNonceBytes + kSealed + kAgeTagBytes}) {
    EXPECT_FALSE(plain_size(bytes)) << bytes;
  }
  EXPECT_EQ(*plain_size(kAgeNonceBytes + kSealed), kAgeChunkBytes);
  EXPECT_EQ(*plain_size(kAgeNonceBytes + kSealed + kAgeTagBytes + 1), kAgeChunkBytes + 1);
}

TEST(AgePayload, NeverRepeatsItsNonce) {
  auto key = key_of(16);
  EXPECT_NE(encrypt_payload(key, sample(10)), encrypt_payload(key, sample(10)));
}

// ---- whole files ----

TEST(AgeFile, RoundTripsAndSplits) {
  auto identity = AgeIdentity::generate();
  const SealingKey recipients[] = {identity.recipient()};
  auto plain = sample(100000);
  auto file = encrypt_file(plain, recipients).take();
  EXPECT_EQ(*decrypt_file(file, identity), plain);
  auto parts = split_file(file).take();
  auto key = open_header(parts.header, identity).take();
  EXPECT_EQ(*decrypt_payload(key, parts.payload), plain);
  EXPECT_EQ(code_of(decrypt_file(file, AgeIdentity::generate())), Code::kNotFound);
  EXPECT_EQ(code_of(split_file(ByteView(file).first(30))), Code::kMalformed);
  EXPECT_EQ(code_of(split_file({})), Code::kMalformed);
}

TEST(AgeFile, OfAnotherHeaderWithTheSameFileKeyStillOpens) {
  // What settlement does: the keeper makes the consumer's header for a payload that is
  // already stored.
  auto key = FileKey::random();
  auto payload = encrypt_payload(key, sample(1000));
  auto consumer = AgeIdentity::generate();
  auto file = header_for(consumer, key);
  append(file, payload);
  EXPECT_EQ(*decrypt_file(file, consumer), sample(1000));
}

}  // namespace
}  // namespace souk::trainer
