#include "ledger/proof/cosignature.h"

#include <gtest/gtest.h>

#include "ledger/proof/checkpoint.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::key_of;

constexpr CosignTime kTime = 1'679'315'147;
constexpr char kText[] =
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

CosignerKey witness() {
  return CosignerKey::of("witness.example/w1", key_of(5).public_key()).take();
}
NoteSignature line() {
  return cosign(kText, witness(), key_of(5), kTime);
}

TEST(Cosignature, SaysWhenItWasMade) {
  EXPECT_EQ(*verify_cosignature(kText, line(), witness()), kTime);
}

// The message of the specification's example, signed by hand.
TEST(Cosignature, SignsTheMessageOfTheSpecification) {
  std::string message = std::string("cosignature/v1\ntime 1679315147\n") + kText;
  auto by_hand = key_of(5).sign(as_bytes(message));
  auto made = line().signature;
  ASSERT_EQ(made.size(), 72u);
  EXPECT_EQ(to_hex(ByteView(made).first(8)), "00000000641850cb");
  EXPECT_EQ(Bytes(made.begin() + 8, made.end()),
            Bytes(by_hand.value().begin(), by_hand.value().end()));
}

TEST(Cosignature, RefusesEveryFlippedBit) {
  for (size_t bit = 0; bit < 72 * 8; ++bit) {
    auto lie = line();
    lie.signature[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    EXPECT_FALSE(verify_cosignature(kText, lie, witness())) << bit;
  }
  std::string text = kText;
  for (size_t i = 0; i < text.size(); ++i) {
    auto lie = text;
    lie[i] ^= 1;
    EXPECT_FALSE(verify_cosignature(lie, line(), witness())) << i;
  }
}

TEST(Cosignature, RefusesOtherLengthsAndTimeZero) {
  auto lie = line();
  lie.signature.push_back(0);
  EXPECT_FALSE(verify_cosignature(kText, lie, witness()));
  lie.signature.resize(71);
  EXPECT_FALSE(verify_cosignature(kText, lie, witness()));
  lie.signature.resize(8);
  EXPECT_FALSE(verify_cosignature(kText, lie, witness()));

  std::string message = std::string("cosignature/v1\ntime 0\n") + kText;
  auto zero = line();
  std::fill(zero.signature.begin(), zero.signature.begin() + 8, uint8_t{0});
  auto signature = key_of(5).sign(as_bytes(message));
  std::copy(signature.value().begin(), signature.value().end(), zero.signature.begin() + 8);
  EXPECT_FALSE(verify_cosignature(kText, zero, witness()));
}

TEST(Cosignature, HoldsOnlyForItsOwnCosigner) {
  auto other_key = CosignerKey::of("witness.example/w1", key_of(6).public_key()).take();
  auto other_name = CosignerKey::of("witness.example/w2", key_of(5).public_key()).take();
  EXPECT_FALSE(verify_cosignature(kText, line(), other_key));
  EXPECT_FALSE(verify_cosignature(kText, line(), other_name));
  EXPECT_FALSE(is_by(line(), other_key));
  EXPECT_FALSE(is_by(line(), other_name));
}

TEST(Cosignature, IsNeverANoteSignatureOfTheSameKeyAndName) {
  auto log = NoteKey::of("witness.example/w1", key_of(5).public_key()).take();
  EXPECT_NE(log.id(), witness().id());
  EXPECT_FALSE(CosignerKey::parse(log.vkey()));
  EXPECT_FALSE(NoteKey::parse(witness().vkey()));
  Note note{.text = kText, .signatures = {line()}};
  EXPECT_FALSE(verify_note(note, {&log, 1}));
}

TEST(Cosignature, TheNewestOfOneCosignerCountsAndAFalseOneRefusesTheNote) {
  auto log = key_of(9);
  auto log_key = NoteKey::of("example.com/behind-the-sofa", log.public_key()).take();
  auto note = parse_note(sign_note(kText, log_key, log)).take();
  EXPECT_EQ(*cosigned_at(note, witness()), std::nullopt);
  note.signatures.push_back(cosign(kText, witness(), key_of(5), kTime));
  note.signatures.push_back(cosign(kText, witness(), key_of(5), kTime + 9));
  note.signatures.push_back(cosign(kText, witness(), key_of(5), kTime + 3));
  EXPECT_EQ(*cosigned_at(note, witness()), kTime + 9);
  EXPECT_TRUE(verify_note(note, {&log_key, 1}));  // a log's reader ignores them
  note.signatures.back().signature[20] ^= 1;
  EXPECT_FALSE(cosigned_at(note, witness()));
}

TEST(CosignerKey, IsWrittenAndReadAsAVkeyOfType4) {
  auto key = CosignerKey::parse(witness().vkey());
  ASSERT_TRUE(key);
  EXPECT_EQ(*key, witness());
  std::string good = witness().vkey();
  for (size_t i = 0; i < good.size(); ++i) {
    auto lie = good;
    lie[i] = lie[i] == '!' ? '"' : '!';
    EXPECT_FALSE(CosignerKey::parse(lie)) << i;
  }
  EXPECT_FALSE(CosignerKey::parse(""));
  EXPECT_FALSE(CosignerKey::parse("a+b"));
  EXPECT_FALSE(CosignerKey::of("a b", key_of(5).public_key()));
}

TEST(SignatureLines, AreReadAsWrittenAndNothingElseIs) {
  std::vector<NoteSignature> lines{line(), cosign(kText, witness(), key_of(5), 1)};
  auto text = signature_lines(lines);
  EXPECT_EQ(*parse_signature_lines(text), lines);
  EXPECT_EQ(text.rfind("\xe2\x80\x94 witness.example/w1 ", 0), 0u);
  for (std::string lie : {std::string(), text + "\n", "\n" + text, "x\n" + text, text + "x\n",
                          text.substr(0, text.size() - 1), "a\n\n" + text}) {
    EXPECT_FALSE(parse_signature_lines(lie)) << lie;
  }
}

}  // namespace
}  // namespace souk::ledger
