#include "ledger/proof/tlog_policy.h"

#include <gtest/gtest.h>

#include "ledger/proof/policy_check.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::key_of;

std::string log_vkey(uint8_t number, const std::string& name = "log.example") {
  return NoteKey::of(name, key_of(number).public_key())->vkey();
}
std::string witness_vkey(uint8_t number) {
  return CosignerKey::of("w" + std::to_string(number) + ".example", key_of(number).public_key())
      ->vkey();
}
std::string witness(const std::string& name, uint8_t number) {
  return "witness " + name + " " + witness_vkey(number) + "\n";
}
bool reads(const std::string& text) {
  return bool(TlogPolicy::parse(text));
}

const std::string kThree = witness("A", 1) + witness("B", 2) + witness("C", 3);

TEST(TlogPolicy, TheExampleOfTheTextMeansWhatItSays) {
  std::string text = "# two levels\n\nlog " + log_vkey(9) + "\n\n" + kThree +
                     "group X 2 A B C\n\n" + witness("D", 4) + witness("E", 5) + witness("F", 6) +
                     "group Y any D E F\n\ngroup X-and-Y all X Y\n  quorum\tX-and-Y \n";
  auto policy = TlogPolicy::parse(text);
  ASSERT_TRUE(policy) << policy.error().expected();
  EXPECT_EQ(policy->logs().size(), 1u);
  EXPECT_EQ(policy->witnesses().size(), 6u);
  EXPECT_EQ(policy->quorum(), "X-and-Y");
  using Names = std::set<std::string>;
  for (const auto& names : {Names{}, Names{"A", "B"}, Names{"A", "D"}, Names{"D", "E", "F"},
                            Names{"A", "D", "E", "F"}, Names{"X", "Y"}, Names{"X-and-Y"}}) {
    EXPECT_FALSE(policy->satisfied_by(names));
  }
  for (const auto& names : {Names{"A", "B", "D"}, Names{"B", "C", "F", "nobody"},
                            Names{"A", "B", "C", "D", "E", "F"}}) {
    EXPECT_TRUE(policy->satisfied_by(names));
  }
}

TEST(TlogPolicy, ReadsWhatTheTextAllows) {
  EXPECT_TRUE(reads("quorum none\n"));
  EXPECT_TRUE(reads("quorum none"));
  EXPECT_TRUE(reads(" \t\n#\x80\xff any octets\n \t# indented\n\tquorum \t none\t\n"));
  EXPECT_TRUE(reads("log " + log_vkey(9) + " https://log.example/\nquorum none\n"));
  EXPECT_TRUE(reads(witness("A", 1) + "quorum A\n"));
  EXPECT_TRUE(reads("witness A " + witness_vkey(1) + " https://w1.example/\nquorum A\n"));
  EXPECT_TRUE(reads(kThree + "group all all A B C\nquorum all\n"));
  EXPECT_TRUE(reads(kThree + "group G 3 A B C\nquorum G\n"));
  EXPECT_TRUE(reads(kThree + "group G any A\nquorum B\n"));
  EXPECT_TRUE(reads("quorum none\n" + kThree + "log " + log_vkey(9) + "\n"));
  // A log and a witness may share a key, and a K is not a Kelvin sign.
  EXPECT_TRUE(reads("log " + log_vkey(1) + "\n" + witness("A", 1) + "quorum A\n"));
  EXPECT_TRUE(reads("witness K " + witness_vkey(1) + "\nwitness \xe2\x84\xaa " + witness_vkey(2) +
                    "\nquorum \xe2\x84\xaa\n"));
}

TEST(TlogPolicy, RefusesEverythingElse) {
  EXPECT_FALSE(reads(""));
  EXPECT_FALSE(reads("# nothing\n"));
  EXPECT_FALSE(reads("Quorum none\n"));
  EXPECT_FALSE(reads("quorum\n"));
  EXPECT_FALSE(reads("quorum none none\n"));
  EXPECT_FALSE(reads("quorum none # why\n"));
  EXPECT_FALSE(reads("quorum none\nquorum none\n"));
  EXPECT_FALSE(reads("quorum A\n" + witness("A", 1)));
  EXPECT_FALSE(reads("unknown\nquorum none\n"));
  EXPECT_FALSE(reads("quorum none\r\n"));
  EXPECT_FALSE(reads("# \x0c\nquorum none\n"));
  EXPECT_FALSE(reads("# \x7f\nquorum none\n"));
  EXPECT_FALSE(reads(std::string("# \0\nquorum none\n", 17)));
  EXPECT_FALSE(reads("quorum\xc2\xa0none\n"));
  EXPECT_FALSE(reads("log\nquorum none\n"));
  EXPECT_FALSE(reads("log " + log_vkey(9) + " url more\nquorum none\n"));
  EXPECT_FALSE(reads("log " + log_vkey(9) + "\nlog " + log_vkey(9) + "\nquorum none\n"));
  EXPECT_FALSE(reads("log " + log_vkey(9) + "\nlog " + log_vkey(9, "other") + "\nquorum none\n"));
  EXPECT_FALSE(reads("log " + witness_vkey(9) + "\nquorum none\n"));
  EXPECT_FALSE(reads("witness A " + log_vkey(1) + "\nquorum none\n"));
  EXPECT_FALSE(reads("witness A\nquorum none\n"));
  EXPECT_FALSE(reads("witness none " + witness_vkey(1) + "\nquorum none\n"));
  EXPECT_FALSE(reads(witness("A", 1) + witness("A", 2) + "quorum A\n"));
  EXPECT_FALSE(reads(witness("A", 1) + witness("B", 1) + "quorum A\n"));
  for (const char* line : {"group G all",
                           "group G",
                           "group",
                           "group G 0 A B",
                           "group G 4 A B C",
                           "group G -1 A",
                           "group G +1 A",
                           "group G 1.0 A",
                           "group G 0x1 A",
                           "group G 18446744073709551617 A",
                           "group G ALL A B",
                           "group G all A A",
                           "group G all A none",
                           "group G all A Z",
                           "group none all A",
                           "group A all B",
                           "group G all G",
                           "group G all A\ngroup H all A",
                           "group G all A\ngroup G all B",
                           "group G all H\ngroup H all A"}) {
    EXPECT_FALSE(reads(kThree + line + "\nquorum A\n")) << line;
  }
}

TEST(TlogPolicy, TakesAtLeast32OfEach) {
  std::string text;
  for (uint8_t i = 0; i < 64; ++i) {
    std::string n = std::to_string(i);
    text += "log " + log_vkey(static_cast<uint8_t>(100 + i), "log" + n) + "\n" +
            witness("w" + n, static_cast<uint8_t>(i + 1)) + "group g" + n + " any w" + n +
            (i == 0 ? "" : " g" + std::to_string(i - 1)) + "\n";
  }
  auto policy = TlogPolicy::parse(text + "quorum g63\n");
  ASSERT_TRUE(policy) << policy.error().expected();
  EXPECT_TRUE(policy->satisfied_by({"w0"}));
  EXPECT_FALSE(policy->satisfied_by({}));
}

TEST(TlogPolicy, AsksForTheSameUnderOtherNamesOrdersAndAddresses) {
  auto of = [](const std::string& text) { return TlogPolicy::parse(text).take(); };
  auto here = of(kThree + "group G 2 A B C\nquorum G\n");
  auto renamed = of("witness Z " + witness_vkey(3) + " http://127.0.0.1:1\n" + witness("A", 1) +
                    witness("Y", 2) + "group H 2 Y Z A\nquorum H\n");
  EXPECT_TRUE(here.asks_for_the_same(renamed));
  EXPECT_TRUE(renamed.asks_for_the_same(here));
  EXPECT_TRUE(of("quorum none\n").asks_for_the_same(of(kThree + "quorum none\n")));
  for (const std::string& other :
       {kThree + "group G 1 A B C\nquorum G\n", kThree + "group G 2 A B\nquorum G\n",
        kThree + "quorum A\n", kThree + "quorum none\n",
        witness("A", 1) + witness("B", 2) + witness("C", 4) + "group G 2 A B C\nquorum G\n",
        kThree + "group F 1 A B\ngroup G 2 F C\nquorum G\n"}) {
    EXPECT_FALSE(here.asks_for_the_same(of(other))) << other;
    EXPECT_FALSE(of(other).asks_for_the_same(here)) << other;
  }
}

class PolicyCheckTest : public testing::Test {
 protected:
  std::string note_by(std::vector<uint8_t> witnesses, uint8_t log = 9) {
    Checkpoint checkpoint{.origin = "log.example", .size = 7, .root = Digest{1}};
    auto key = NoteKey::of("log.example", key_of(log).public_key()).take();
    auto note = parse_note(sign_checkpoint(checkpoint, key, key_of(log))).take();
    for (uint8_t number : witnesses) {
      auto cosigner = CosignerKey::parse(witness_vkey(number)).take();
      note.signatures.push_back(cosign(note.text, cosigner, key_of(number), 1700000000u + number));
    }
    return encode_note(note);
  }
  TlogPolicy policy_ =
      TlogPolicy::parse("log " + log_vkey(9) + "\n" + kThree + "group G 2 A B C\nquorum G\n")
          .take();
};

TEST_F(PolicyCheckTest, TakesACheckpointOfALogThatItsQuorumCosigned) {
  auto verdict = check_under_policy(note_by({1, 3, 77}), policy_);
  ASSERT_TRUE(verdict) << verdict.error().expected();
  EXPECT_EQ(verdict->witnesses, (std::set<std::string>{"A", "C"}));
  EXPECT_EQ(verdict->log_key, log_vkey(9));
  EXPECT_EQ(verdict->newest, std::optional<CosignTime>(1700000003));
  EXPECT_EQ(verdict->checkpoint.size, 7u);
}

TEST_F(PolicyCheckTest, RefusesTooFewAnotherLogAndAFalseLine) {
  auto code = [&](const std::string& note) {
    return check_under_policy(note, policy_).error().code();
  };
  EXPECT_EQ(code(note_by({1})), Code::kUnauthentic);
  EXPECT_EQ(code(note_by({})), Code::kUnauthentic);
  EXPECT_EQ(code(note_by({1, 1})), Code::kUnauthentic);
  EXPECT_EQ(code(note_by({1, 2}, 8)), Code::kUnauthentic);
  auto note = parse_note(note_by({1, 2, 3})).take();
  note.signatures.back().signature.back() ^= 1;
  EXPECT_EQ(code(encode_note(note)), Code::kUnauthentic);
  note.signatures.erase(note.signatures.begin());  // the log's
  EXPECT_EQ(code(encode_note(note)), Code::kUnauthentic);
  EXPECT_EQ(code("no note"), Code::kMalformed);
}

}  // namespace
}  // namespace souk::ledger
