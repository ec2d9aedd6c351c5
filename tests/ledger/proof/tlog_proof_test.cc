#include "ledger/proof/tlog_proof.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "ledger/proof/merkle.h"
#include "ledger/proof/recorded.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::chain;
using test::key_of;
using test::kOrigin;
using test::log_note_key;

struct Ledger {
  std::vector<Bytes> leaves;
  std::vector<Digest> hashes;
  std::string checkpoint;

  explicit Ledger(uint64_t count) : leaves(chain(count)) {
    for (const auto& leaf : leaves) hashes.push_back(leaf_hash(leaf));
    checkpoint = sign_checkpoint({.origin = kOrigin, .size = count, .root = tree_root(hashes)},
                                 log_note_key(), key_of(9));
  }
  TlogProof proof(uint64_t index) const {
    return {.index = index, .path = inclusion_proof(hashes, index), .checkpoint = checkpoint};
  }
};

bool confirms(ByteView leaf, const std::string& proof) {
  return static_cast<bool>(confirm_one(leaf, proof, log_note_key(), kOrigin));
}

TEST(TlogProofTest, HasTheTextOfTheSpecification) {
  Ledger ledger(2);
  auto proof = ledger.proof(1);
  EXPECT_EQ(proof.text(), "c2sp.org/tlog-proof@v1\nindex 1\n" + to_base64(ledger.hashes[0]) +
                              "\n\n" + ledger.checkpoint);
  EXPECT_EQ(*parse_tlog_proof(proof.text()), proof);
  proof.extra = to_bytes("more");
  EXPECT_EQ(proof.text().substr(0, 38), "c2sp.org/tlog-proof@v1\nextra bW9yZQ==\n");
  EXPECT_EQ(*parse_tlog_proof(proof.text()), proof);
}

TEST(TlogProofTest, AnIndependentImplementationWroteTheSameLedger) {
  const char* source = std::getenv("SOUK_SOURCE");
  std::ifstream file(std::string(source ? source : ".") +
                     "/tests/vectors/ledger_three_entries.json");
  auto vector = parse_json(std::string(std::istreambuf_iterator<char>(file), {}));
  ASSERT_TRUE(vector);
  auto text = [&](const char* name) { return *vector->find(name)->string(); };
  Ledger ledger(3);
  const auto& leaves = *vector->find("leaves")->array();
  ASSERT_EQ(leaves.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(to_text(ledger.leaves[i]), *leaves[i].string());
  EXPECT_EQ(ledger.checkpoint, text("checkpoint"));
  EXPECT_EQ(ledger.proof(1).text(), text("tlog_proof_of_1"));
  EXPECT_EQ(log_note_key().vkey(), text("vkey"));
}

TEST(TlogProofTest, ConfirmsEveryEntryOfALedgerAndNoOther) {
  for (uint64_t count : {1u, 2u, 5u, 8u}) {
    Ledger ledger(count);
    for (uint64_t i = 0; i < count; ++i) {
      auto text = ledger.proof(i).text();
      auto recorded = confirm_one(ledger.leaves[i], text, log_note_key(), kOrigin);
      ASSERT_TRUE(recorded) << recorded.error().expected();
      EXPECT_EQ(recorded->seq(), i);
      EXPECT_EQ(recorded->time(), static_cast<TimeMs>(1000 + i));
      EXPECT_EQ(recorded->leaf_hash(), ledger.hashes[i]);
      for (uint64_t j = 0; j < count; ++j) {
        EXPECT_EQ(confirms(ledger.leaves[j], text), j == i);
      }
    }
  }
}

TEST(TlogProofTest, RefusesEveryFlippedBitOfProofAndLeaf) {
  Ledger ledger(3);
  auto text = ledger.proof(1).text();
  ASSERT_TRUE(confirms(ledger.leaves[1], text));
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    auto lie = text;
    lie[bit / 8] = static_cast<char>(lie[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(confirms(ledger.leaves[1], lie)) << bit;
  }
  for (size_t bit = 0; bit < ledger.leaves[1].size() * 8; ++bit) {
    auto lie = ledger.leaves[1];
    lie[bit / 8] = static_cast<uint8_t>(lie[bit / 8] ^ (1u << (bit % 8)));
    EXPECT_FALSE(confirms(lie, text)) << bit;
  }
}

TEST(TlogProofTest, RefusesOtherLogsAndOldSpellings) {
  Ledger ledger(3);
  auto text = ledger.proof(1).text();
  EXPECT_FALSE(confirm_one(ledger.leaves[1], text, log_note_key(), "other.example"));
  EXPECT_FALSE(confirm_one(ledger.leaves[1], text,
                           NoteKey::of(kOrigin, key_of(8).public_key()).take(), kOrigin));
  auto swap = [&](const std::string& from, const std::string& to) {
    auto lie = text;
    return parse_tlog_proof(lie.replace(lie.find(from), from.size(), to));
  };
  EXPECT_TRUE(swap("index 1", "index 2"));
  EXPECT_FALSE(swap("@v1", "@v2"));
  EXPECT_FALSE(swap("index 1", "index 01"));
  EXPECT_FALSE(swap("index 1", "index"));
  EXPECT_FALSE(swap("index 1\n", ""));
  EXPECT_FALSE(swap("index 1\n", "extra \r\nindex 1\n"));
  EXPECT_TRUE(swap("index 1\n", "extra AA==\nindex 1\n"));
  EXPECT_FALSE(swap("index 1\n", "extra \nindex 1\n"));  // no data, no line
  EXPECT_FALSE(swap("index 1\n", "extra\nindex 1\n"));
  EXPECT_FALSE(swap("index 1\n", "index 1\nextra AA==\n"));
  EXPECT_FALSE(swap("index 1\n", "index 1\nAA==\n"));
  EXPECT_FALSE(swap("\n\n", "\n"));
  EXPECT_FALSE(parse_tlog_proof(""));
  EXPECT_FALSE(parse_tlog_proof(text.substr(0, text.find("\n\n") + 2)));
}

TEST(TlogProofTest, RefusesAnEntryAtAPlaceItDoesNotName) {
  // A log that puts a leaf with seq 0 at index 1: tree and signature hold, the leaf lies.
  auto leaves = chain(1);
  std::vector<Digest> hashes{leaf_hash(as_bytes("x")), leaf_hash(leaves[0])};
  auto note = sign_checkpoint({.origin = kOrigin, .size = 2, .root = tree_root(hashes)},
                              log_note_key(), key_of(9));
  TlogProof proof{.index = 1, .path = inclusion_proof(hashes, 1), .checkpoint = note};
  auto recorded = confirm_one(leaves[0], proof.text(), log_note_key(), kOrigin);
  ASSERT_FALSE(recorded);
  EXPECT_EQ(recorded.error().code(), Code::kConflict);
}

}  // namespace
}  // namespace souk::ledger
