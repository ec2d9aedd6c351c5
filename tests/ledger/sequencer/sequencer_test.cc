#include "ledger/sequencer/sequencer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ledger/proof/merkle.h"
#include "ledger/proof/recorded.h"
#include "tests/ledger/ledger_fixture.h"
#include "tests/ledger/raw_file.h"

namespace souk::ledger {
namespace {

using test::entry;
using test::Folder;
using test::key_of;
using test::kOrigin;
using test::log_note_key;

class SequencerTest : public testing::Test {
 protected:
  std::string path() const { return folder_.file("ledger.db"); }
  std::unique_ptr<Sequencer> start() {
    auto store =
        std::filesystem::exists(path()) ? LedgerStore::open(path()) : LedgerStore::create(path());
    CHECK(store);
    auto sequencer = Sequencer::start(std::move(store).take(), key_of(9), kOrigin, clock_);
    CHECK(sequencer);
    return std::move(sequencer).take();
  }
  // The receipt's entry, verified by the reader's side alone.
  void expect_confirmed(const Sequencer& sequencer, const Receipt& receipt,
                        const AuthenticEntry& e) {
    auto leaf = sequencer.leaf(receipt.seq);
    ASSERT_TRUE(leaf);
    auto recorded = confirm_one(*leaf, receipt.tlog_proof, log_note_key(), kOrigin);
    ASSERT_TRUE(recorded) << recorded.error().expected();
    EXPECT_EQ(recorded->seq(), receipt.seq);
    EXPECT_EQ(recorded->leaf_hash(), receipt.leaf_hash);
    EXPECT_EQ(recorded->entry().envelope_bytes(), e.envelope_bytes());
    EXPECT_TRUE(open_checkpoint(receipt.checkpoint, log_note_key()));
  }

  Folder folder_;
  test::FixedClock clock_{5000};
};

TEST_F(SequencerTest, SignsACheckpointOverNothingFirst) {
  auto sequencer = start();
  auto checkpoint = open_checkpoint(sequencer->checkpoint(), log_note_key());
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->size, 0u);
  EXPECT_EQ(checkpoint->root, empty_root());
  EXPECT_EQ(sequencer->prove(0).error().code(), Code::kNotFound);
}

TEST_F(SequencerTest, GivesEachEntryItsPlaceAndAProofOfIt) {
  auto sequencer = start();
  for (uint64_t i = 0; i < 20; ++i) {
    auto receipt = sequencer->append(entry(i));
    ASSERT_TRUE(receipt) << receipt.error().expected();
    EXPECT_EQ(receipt->seq, i);
    expect_confirmed(*sequencer, *receipt, entry(i));
  }
  for (uint64_t i = 0; i < 20; ++i)
    expect_confirmed(*sequencer, sequencer->prove(i).take(), entry(i));
  EXPECT_EQ(sequencer->size(), 20u);
  EXPECT_FALSE(sequencer->prove(20));
}

TEST_F(SequencerTest, GivesTheSameEntryTheSamePlaceAlsoAfterARestart) {
  Receipt first;
  {
    auto sequencer = start();
    ASSERT_TRUE(sequencer->append(entry(0)));
    first = sequencer->append(entry(1)).take();
    auto again = sequencer->append(entry(1));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->tlog_proof, first.tlog_proof);
    EXPECT_EQ(sequencer->size(), 2u);
  }
  auto sequencer = start();
  auto again = sequencer->append(entry(1));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->seq, first.seq);
  EXPECT_EQ(again->leaf_hash, first.leaf_hash);
  ASSERT_TRUE(sequencer->append(entry(2)));
  auto later = sequencer->append(entry(1));
  ASSERT_TRUE(later);
  EXPECT_EQ(later->seq, first.seq);
  expect_confirmed(*sequencer, *later, entry(1));
}

TEST_F(SequencerTest, RefusesAnotherEntryWithAUsedNonce) {
  auto sequencer = start();
  ASSERT_TRUE(sequencer->append(entry(0)));
  ASSERT_TRUE(sequencer->append(entry(1)));
  auto body = test::body_of(key_of(2), test::market(), 1);
  (*body.object())["number"] = 99;
  auto other = test::climb(sign_entry(key_of(2), test::kType, body).take());
  auto refused = sequencer->append(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kConflict);
  EXPECT_TRUE(sequencer->append(entry(1, 3)));  // the same nonce of another author
  EXPECT_EQ(sequencer->size(), 3u);
}

TEST_F(SequencerTest, RefusesEntriesOfOtherMarketsAndASecondGenesis) {
  auto sequencer = start();
  EXPECT_EQ(sequencer->append(entry(1)).error().code(), Code::kRefused);
  ASSERT_TRUE(sequencer->append(entry(0)));
  auto second = test::climb(test::envelope_of(key_of(1), "", 7));
  EXPECT_EQ(sequencer->append(second).error().code(), Code::kRefused);
  auto stranger = test::climb(test::envelope_of(key_of(2), std::string(64, 'b'), 8));
  EXPECT_EQ(sequencer->append(stranger).error().code(), Code::kRefused);
  EXPECT_TRUE(sequencer->append(entry(1)));
}

TEST_F(SequencerTest, LedgerTimeNeverRunsBackwards) {
  auto sequencer = start();
  auto time_of = [&](uint64_t seq) { return decode_leaf(sequencer->leaf(seq).take())->time; };
  ASSERT_TRUE(sequencer->append(entry(0)));
  clock_.set(9000);
  ASSERT_TRUE(sequencer->append(entry(1)));
  clock_.set(100);
  ASSERT_TRUE(sequencer->append(entry(2)));
  EXPECT_EQ(time_of(0), 5000);
  EXPECT_EQ(time_of(1), 9000);
  EXPECT_EQ(time_of(2), 9000);
}

TEST_F(SequencerTest, ManyThreadsGetOneOrderAndEveryReceiptHolds) {
  auto sequencer = start();
  ASSERT_TRUE(sequencer->append(entry(0)));
  constexpr uint64_t kThreads = 8;
  constexpr uint64_t kEach = 40;
  std::vector<std::vector<Receipt>> receipts(kThreads);
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < kEach; ++i) {
          auto number = 1 + t * kEach + i;
          // Every second entry is also sent by a neighbour at about the same time.
          auto receipt = sequencer->append(entry(number));
          CHECK(receipt);
          auto twin = sequencer->append(entry(1 + ((t + 1) % kThreads) * kEach + i));
          CHECK(twin);
          receipts[t].push_back(*receipt);
        }
      });
    }
  }
  EXPECT_EQ(sequencer->size(), 1 + kThreads * kEach);
  std::vector<bool> seen(1 + kThreads * kEach);
  for (uint64_t t = 0; t < kThreads; ++t) {
    for (uint64_t i = 0; i < kEach; ++i) {
      const auto& receipt = receipts[t][i];
      EXPECT_FALSE(seen[receipt.seq]);
      seen[receipt.seq] = true;
      expect_confirmed(*sequencer, receipt, entry(1 + t * kEach + i));
    }
  }
  auto reader = ChainReader::start(kOrigin, log_note_key());
  auto leaves = sequencer->leaves(0, 10000).take();
  for (const auto& leaf : leaves) ASSERT_TRUE(reader.add(leaf));
  EXPECT_TRUE(reader.confirm(sequencer->checkpoint()));
}

// Also in the moment in which it is in the index already, and not yet in the tree that is served.
TEST_F(SequencerTest, ManyThreadsWithTheSameEntriesGetTheSamePlaces) {
  auto sequencer = start();
  ASSERT_TRUE(sequencer->append(entry(0)));
  constexpr uint64_t kEntries = 150;
  std::vector<AuthenticEntry> entries;
  for (uint64_t i = 1; i <= kEntries; ++i) entries.push_back(entry(i));
  std::atomic<uint64_t> newest = 0, refused = 0, elsewhere = 0;
  std::vector<uint64_t> places(kEntries);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, first = t == 0] {
        // The first goes through them; the others send what it is sending, again and again.
        for (uint64_t i = 0; i < kEntries; i = first ? i + 1 : newest.load()) {
          if (first) newest = i;
          auto receipt = sequencer->append(entries[i]);
          refused += !receipt;
          if (first && receipt) places[i] = receipt->seq;
        }
        if (first) newest = kEntries;
      });
    }
  }
  EXPECT_EQ(refused, 0u);
  for (uint64_t i = 0; i < kEntries; ++i)
    elsewhere += sequencer->append(entries[i])->seq != places[i];
  EXPECT_EQ(elsewhere, 0u);
  EXPECT_EQ(sequencer->size(), 1 + kEntries);
}

TEST_F(SequencerTest, ProvesThatItOnlyGrew) {
  auto sequencer = start();
  std::vector<Digest> roots{sequencer->root()};
  for (uint64_t i = 0; i < 12; ++i) {
    ASSERT_TRUE(sequencer->append(entry(i)));
    roots.push_back(sequencer->root());
  }
  for (uint64_t m = 1; m <= 12; ++m) {
    for (uint64_t n = m; n <= 12; ++n) {
      auto proof = sequencer->consistency(m, n);
      ASSERT_TRUE(proof);
      EXPECT_TRUE(verify_consistency(m, n, *proof, roots[m], roots[n]));
    }
  }
  EXPECT_FALSE(sequencer->consistency(0, 3));
  EXPECT_FALSE(sequencer->consistency(4, 3));
  EXPECT_FALSE(sequencer->consistency(3, 13));
}

TEST_F(SequencerTest, RefusesTheFileOfAnotherLog) {
  { ASSERT_TRUE(start()->append(entry(0))); }
  auto other_key = Sequencer::start(LedgerStore::open(path()).take(), key_of(8), kOrigin, clock_);
  ASSERT_FALSE(other_key);
  EXPECT_EQ(other_key.error().code(), Code::kConflict);
  EXPECT_FALSE(
      Sequencer::start(LedgerStore::open(path()).take(), key_of(9), "other.example", clock_));
  EXPECT_EQ(start()->size(), 1u);
}

TEST_F(SequencerTest, StopsForGoodWhenAnotherProcessMovedTheHead) {
  auto sequencer = start();
  ASSERT_TRUE(sequencer->append(entry(0)));
  {
    auto other = start();
    ASSERT_TRUE(other->append(entry(1)));
  }
  EXPECT_EQ(sequencer->append(entry(2)).error().code(), Code::kBroken);
  EXPECT_EQ(sequencer->append(entry(3)).error().code(), Code::kBroken);
  auto reopened = start();
  EXPECT_EQ(reopened->size(), 2u);
  EXPECT_TRUE(reopened->append(entry(2)));
}

TEST_F(SequencerTest, StopsForGoodWhenACommitHasNoKnownOutcome) {
  auto sequencer = start();
  ASSERT_TRUE(sequencer->append(entry(0)));
  // A deferred constraint that can only fail inside COMMIT itself.
  ASSERT_TRUE(test::raw_sql(
      path(),
      "CREATE TABLE parent(id INTEGER PRIMARY KEY);"
      "CREATE TABLE child(id INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);"
      "CREATE TRIGGER fault AFTER INSERT ON entry BEGIN INSERT INTO child VALUES(NEW.seq + 1000); "
      "END;"));
  EXPECT_EQ(sequencer->append(entry(1)).error().code(), Code::kBroken);
  EXPECT_EQ(sequencer->append(entry(2)).error().code(), Code::kBroken);
  EXPECT_EQ(sequencer->append(entry(0)).error().code(), Code::kBroken);
  sequencer.reset();
  ASSERT_TRUE(test::raw_sql(path(), "DROP TRIGGER fault; DROP TABLE child; DROP TABLE parent"));
  auto reopened = start();
  EXPECT_EQ(reopened->size(), 1u);
  EXPECT_EQ(reopened->append(entry(1))->seq, 1u);
}

}  // namespace
}  // namespace souk::ledger
