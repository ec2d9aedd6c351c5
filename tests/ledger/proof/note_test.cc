#include "ledger/proof/note.h"

#include <gtest/gtest.h>

#include "ledger/proof/checkpoint.h"
#include "ledger/proof/cosignature.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::key_of;
using test::kOrigin;
using test::log_note_key;

// The published example of the note format (golang.org/x/mod/sumdb/note).
constexpr char kExampleVkey[] =
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr char kExampleNote[] =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xe2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/"
    "SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

NoteKey example_key() {
  return NoteKey::parse(kExampleVkey).take();
}

bool holds(std::string_view text, const NoteKey& key) {
  auto note = parse_note(text);
  return note && verify_note(*note, {&key, 1});
}

TEST(Note, VerifiesThePublishedExample) {
  EXPECT_EQ(example_key().vkey(), kExampleVkey);
  EXPECT_TRUE(holds(kExampleNote, example_key()));
  EXPECT_EQ(encode_note(*parse_note(kExampleNote)), kExampleNote);
}

TEST(Note, HoldsOnlyForItsOwnKeyAndName) {
  auto text = sign_note("hello\n", log_note_key(), key_of(9));
  EXPECT_TRUE(holds(text, log_note_key()));
  EXPECT_FALSE(holds(text, example_key()));
  EXPECT_FALSE(holds(text, NoteKey::of(kOrigin, key_of(8).public_key()).take()));
  EXPECT_FALSE(holds(text, NoteKey::of("other.example", key_of(9).public_key()).take()));
}

TEST(Note, ReadsNoKeyThatNobodyCanSignFor) {
  for (uint8_t first : std::initializer_list<uint8_t>{0, 1}) {
    Bytes zeros(32, 0);
    zeros[0] = first;
    for (auto type : {KeyType::kEd25519, KeyType::kCosignature}) {
      Vkey weak{.name = "weak", .id = note_key_id("weak", type, zeros), .type = type, .key = zeros};
      EXPECT_FALSE(NoteKey::parse(weak.text()));
      EXPECT_FALSE(CosignerKey::parse(weak.text()));
    }
  }
}

TEST(Note, RefusesEveryFlippedBit) {
  auto text = sign_note("hello\nworld\n", log_note_key(), key_of(9));
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    auto lie = text;
    lie[bit / 8] = static_cast<char>(lie[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(holds(lie, log_note_key())) << bit;
  }
}

TEST(Note, IgnoresSignaturesOfStrangersWhateverTheyAre) {
  auto text = sign_note("hello\n", log_note_key(), key_of(9));
  auto grease = text + "\xe2\x80\x94 grease.example AAAAAQIDBAUG\n";
  EXPECT_TRUE(holds(grease, log_note_key()));
  // Ours by name, a stranger's by id.
  EXPECT_TRUE(holds(text + "\xe2\x80\x94 " + kOrigin + " AAAAAQIDBAUG\n", log_note_key()));
}

TEST(Note, RefusesOneFalseSignatureOfAKnownKeyBesideATrueOne) {
  auto text = sign_note("hello\n", log_note_key(), key_of(9));
  auto other = sign_note("other\n", log_note_key(), key_of(9));
  auto line = other.substr(other.find("\n\n") + 2);
  EXPECT_FALSE(holds(text + line, log_note_key()));
}

TEST(Note, RefusesTextsThatAreNotNotes) {
  auto good = sign_note("a\n\nb\n", log_note_key(), key_of(9));
  EXPECT_TRUE(holds(good, log_note_key()));
  for (std::string lie :
       {std::string(), std::string("\n"), std::string("\n\n"), std::string("a\n\n"),
        good.substr(0, good.size() - 1), good + "\n", good + "x\n", "\r" + good, "\t" + good,
        std::string("\x80") + good, good + good.substr(0, 1)}) {
    EXPECT_FALSE(holds(lie, log_note_key()));
  }
  auto line = good.substr(good.rfind("\n\n") + 2);
  EXPECT_FALSE(parse_note("a\n" + line));
  EXPECT_FALSE(parse_note("a\n\n- " + line.substr(4)));
  EXPECT_FALSE(parse_note("a\n\n\xe2\x80\x94 name\n"));
  EXPECT_FALSE(parse_note("a\n\n\xe2\x80\x94  AAAAAAE=\n"));
  EXPECT_FALSE(parse_note("a\n\n\xe2\x80\x94 n AAAAAA==\n"));  // an id and no signature
  EXPECT_FALSE(parse_note("a\n\n\xe2\x80\x94 n+m AAAAAAE=\n"));
  EXPECT_FALSE(parse_note("a\n\n\xe2\x80\x94 n\xe2\x80\x83m AAAAAAE=\n"));  // em space
  EXPECT_TRUE(parse_note("a\n\n\xe2\x80\x94 n AAAAAAE=\n"));
}

TEST(Note, TakesAHundredSignaturesAndNotOneMore) {
  std::string text = "a\n\n";
  for (int i = 0; i < 100; ++i) text += "\xe2\x80\x94 n AAAAAAE=\n";
  EXPECT_TRUE(parse_note(text));
  EXPECT_FALSE(parse_note(text + "\xe2\x80\x94 n AAAAAAE=\n"));
}

TEST(NoteKey, RefusesTextsThatAreNotKeys) {
  std::string good = kExampleVkey;
  EXPECT_TRUE(NoteKey::parse(good));
  for (size_t i = 0; i < good.size(); ++i) {
    auto lie = good;
    lie[i] = lie[i] == '!' ? '"' : '!';
    auto key = NoteKey::parse(lie);
    EXPECT_FALSE(key) << i;
  }
  EXPECT_FALSE(NoteKey::parse(""));
  EXPECT_FALSE(NoteKey::parse("name"));
  EXPECT_FALSE(NoteKey::parse("name+c74f20a3"));
  EXPECT_FALSE(NoteKey::of("", key_of(1).public_key()));
  EXPECT_FALSE(NoteKey::of("a b", key_of(1).public_key()));
  EXPECT_FALSE(NoteKey::of("a+b", key_of(1).public_key()));
  EXPECT_FALSE(NoteKey::of("a\nb", key_of(1).public_key()));
  EXPECT_FALSE(
      NoteKey::of("a\xc2\xa0"
                  "b",
                  key_of(1).public_key()));
}

Checkpoint sample() {
  return {.origin = kOrigin, .size = 42, .root = sha256(as_bytes("root"))};
}

TEST(CheckpointTest, HasTheTextOfTheSpecification) {
  auto root = fixed<32>(from_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=").take()).take();
  Checkpoint checkpoint{.origin = "example.com/behind-the-sofa", .size = 20852163, .root = root};
  std::string text =
      "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
  EXPECT_EQ(checkpoint.text(), text);
  EXPECT_EQ(*parse_checkpoint(text), checkpoint);
  EXPECT_EQ(parse_checkpoint(text + "extension\n")->extensions,
            std::vector<std::string>{"extension"});
}

TEST(CheckpointTest, RefusesOtherTexts) {
  auto root = to_base64(sample().root);
  for (const auto& text :
       {std::string(), "o\n42\n" + root, "\n42\n" + root + "\n", "o\n042\n" + root + "\n",
        "o\n\n" + root + "\n", "o\n-1\n" + root + "\n", "o\n+1\n" + root + "\n",
        "o\n4 2\n" + root + "\n", "o\n99999999999999999999\n" + root + "\n",
        "o\n42\n" + root.substr(4) + "\n", "o\n42\n" + root + "\n\n", std::string("o\n42\n")}) {
    EXPECT_FALSE(parse_checkpoint(text)) << text;
  }
  EXPECT_TRUE(parse_checkpoint("o\n0\n" + root + "\n"));
}

TEST(CheckpointTest, OpensOnlyForTheLogItNames) {
  auto note = sign_checkpoint(sample(), log_note_key(), key_of(9));
  auto opened = open_checkpoint(note, log_note_key());
  ASSERT_TRUE(opened);
  EXPECT_EQ(*opened, sample());
  EXPECT_FALSE(open_checkpoint(note, NoteKey::of(kOrigin, key_of(8).public_key()).take()));
  auto other = sample();
  other.origin = "elsewhere.example";
  EXPECT_FALSE(open_checkpoint(sign_note(other.text(), log_note_key(), key_of(9)), log_note_key()));
}

}  // namespace
}  // namespace souk::ledger
