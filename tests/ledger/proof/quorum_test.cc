#include "ledger/proof/quorum.h"

#include <gtest/gtest.h>

#include "ledger/proof/checkpoint.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::key_of;

constexpr char kText[] = "example.com/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

CosignerKey witness(uint8_t number) {
  return CosignerKey::of("w" + std::to_string(number), key_of(number).public_key()).take();
}

std::string policy(int witnesses, const std::string& rest) {
  std::string text;
  for (uint8_t i = 1; i <= witnesses; ++i) {
    text += "witness W" + std::to_string(i) + " " + witness(i).vkey() +
            " http://127.0.0.1:" + std::to_string(9000 + i) + "\n";
  }
  return text + rest;
}

Note note(std::vector<std::pair<uint8_t, CosignTime>> cosigned) {
  Note out{.text = kText, .signatures = {}};
  for (auto [number, time] : cosigned) {
    out.signatures.push_back(cosign(kText, witness(number), key_of(number), time));
  }
  return out;
}

WitnessQuorum two_of_three() {
  return WitnessQuorum::parse(policy(3, "group G 2 W1 W2 W3\nquorum G\n")).take();
}

TEST(WitnessQuorum, NamesItsMembersAndWhereToReachThem) {
  auto quorum = two_of_three();
  ASSERT_EQ(quorum.members().size(), 3u);
  EXPECT_EQ(quorum.members()[1].name, "W2");
  EXPECT_EQ(quorum.members()[1].key, witness(2));
  EXPECT_EQ(quorum.members()[1].url, "http://127.0.0.1:9002");
  EXPECT_TRUE(quorum.needed());
}

TEST(WitnessQuorum, StandsWhenEnoughHaveCosignedAndNotBefore) {
  auto quorum = two_of_three();
  EXPECT_FALSE(quorum.witnessed_at(note({})));
  EXPECT_FALSE(quorum.witnessed_at(note({{1, 100}})));
  EXPECT_FALSE(quorum.witnessed_at(note({{1, 100}, {1, 101}})));  // one witness twice
  EXPECT_FALSE(quorum.witnessed_at(note({{1, 100}, {7, 101}})));  // a stranger
  EXPECT_TRUE(quorum.witnessed_at(note({{1, 100}, {3, 101}})));
}

TEST(WitnessQuorum, OneLyingClockMovesItsTimeNeitherWay) {
  auto quorum = two_of_three();
  EXPECT_EQ(*quorum.witnessed_at(note({{1, 100}, {2, 102}})), 100u);
  EXPECT_EQ(*quorum.witnessed_at(note({{1, 100}, {2, 102}, {3, 999'999}})), 102u);
  EXPECT_EQ(*quorum.witnessed_at(note({{1, 100}, {2, 102}, {3, 1}})), 100u);
}

TEST(WitnessQuorum, AFalseLineOfAMemberRefusesTheNote) {
  auto quorum = two_of_three();
  auto lie = note({{1, 100}, {2, 100}, {3, 100}});
  lie.signatures[2].signature[30] ^= 1;
  EXPECT_FALSE(quorum.witnessed_at(lie));
}

TEST(WitnessQuorum, NeedsNobodyWhenThePolicySaysNone) {
  auto none = WitnessQuorum::parse("quorum none\n").take();
  EXPECT_FALSE(none.needed());
  EXPECT_EQ(*none.witnessed_at(note({})), 0u);
  EXPECT_TRUE(*none.intersects());
}

TEST(WitnessQuorum, TellsPoliciesUnderWhichTwoQuorumsMayNeverMeet) {
  EXPECT_TRUE(*two_of_three().intersects());
  EXPECT_TRUE(*WitnessQuorum::parse(policy(1, "quorum W1\n"))->intersects());
  EXPECT_FALSE(*WitnessQuorum::parse(policy(4, "group G 2 W1 W2 W3 W4\nquorum G\n"))->intersects());
  EXPECT_FALSE(*WitnessQuorum::parse(policy(2, "group G any W1 W2\nquorum G\n"))->intersects());
  EXPECT_TRUE(*WitnessQuorum::parse(policy(4,
                                           "group A any W1 W2\ngroup B all W3 W4\n"
                                           "group G all A B\nquorum G\n"))
                   ->intersects());
}

}  // namespace
}  // namespace souk::ledger
