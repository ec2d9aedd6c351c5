#include "ledger/audit/audit.h"

#include <gtest/gtest.h>

#include <fstream>

#include "ledger/sequencer/sequencer.h"
#include "tests/ledger/ledger_fixture.h"
#include "tests/ledger/raw_file.h"

namespace souk::ledger {
namespace {

using test::entry;
using test::Folder;
using test::key_of;
using test::kOrigin;
using test::log_note_key;
using test::raw_sql;

class AuditTest : public testing::Test {
 protected:
  std::string path() const { return folder_.file("ledger.db"); }
  void fill(uint64_t count) {
    auto sequencer =
        Sequencer::start(LedgerStore::create(path()).take(), key_of(9), kOrigin, clock_).take();
    for (uint64_t i = 0; i < count; ++i) {
      clock_.set(static_cast<TimeMs>(5000 + 7 * i));
      CHECK(sequencer->append(entry(i)));
    }
  }
  Folder folder_;
  test::FixedClock clock_{5000};
};

TEST_F(AuditTest, FindsAnHonestLedgerGood) {
  fill(7);
  auto report = audit_file(path(), log_note_key());
  EXPECT_TRUE(report.ok) << report.reason;
  EXPECT_EQ(report.entries, 7u);
  EXPECT_EQ(report.log_key_source, LogKeySource::kPinned);
  EXPECT_EQ(open_checkpoint(report.checkpoint, log_note_key())->root, report.root);
  auto unpinned = audit_file(path());
  EXPECT_TRUE(unpinned.ok) << unpinned.reason;
  EXPECT_EQ(unpinned.log_key_source, LogKeySource::kFromFile);
  EXPECT_EQ(unpinned.log_key, log_note_key().vkey());
}

TEST_F(AuditTest, FindsAnEmptyLedgerGoodAndNoFileBad) {
  fill(0);
  EXPECT_TRUE(audit_file(path(), log_note_key()).ok);
  EXPECT_FALSE(audit_file(folder_.file("none.db"), log_note_key()).ok);
}

TEST_F(AuditTest, FindsALedgerOfManyTilesGood) {
  fill(0);
  std::filesystem::remove(path());
  auto store = LedgerStore::create(path()).take();
  auto leaves = test::chain(520);
  CompactTree tree;
  Batch batch{.old_root = empty_root(), .entries = {}, .checkpoint = {}};
  for (uint64_t i = 0; i < leaves.size(); ++i) {
    batch.entries.push_back({leaves[i], entry(i).author(), entry(i).nonce()});
    tree.append(leaf_hash(leaves[i]));
  }
  batch.new_size = leaves.size();
  batch.new_root = tree.root();
  batch.time = 1519;
  batch.checkpoint =
      sign_checkpoint({.origin = kOrigin, .size = batch.new_size, .root = batch.new_root},
                      log_note_key(), key_of(9));
  ASSERT_TRUE(store.append_batch(batch));
  auto report = audit_file(path(), log_note_key());
  EXPECT_TRUE(report.ok) << report.reason;
  ASSERT_TRUE(raw_sql(path(), test::kDropGuards));
  ASSERT_TRUE(raw_sql(path(), "UPDATE tile SET hashes = zeroblob(8160) WHERE id = 1"));
  report = audit_file(path(), log_note_key());
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.first_bad, std::optional<uint64_t>(256));
  ASSERT_TRUE(raw_sql(path(), "DELETE FROM tile WHERE id = 1"));
  EXPECT_EQ(audit_file(path(), log_note_key()).first_bad, std::optional<uint64_t>(256));
  ASSERT_TRUE(raw_sql(path(), "UPDATE node SET hash = zeroblob(32) WHERE id = 0"));
  EXPECT_FALSE(audit_file(path(), log_note_key()).ok);
}

TEST_F(AuditTest, NamesTheFileAndTheBytesOfTheBadEntry) {
  fill(5);
  ASSERT_TRUE(raw_sql(path(), test::kDropGuards));
  auto leaf = test::RawLeaves(path()).read(3);
  leaf[40] ^= 1;
  test::RawLeaves(path()).write(3, leaf);
  auto report = audit_file(path(), log_note_key());
  ASSERT_EQ(report.first_bad, std::optional<uint64_t>(3));
  auto place = place_of(path(), report);
  std::ifstream in(place.file, std::ios::binary);
  in.seekg(static_cast<std::streamoff>(place.from));
  Bytes there(place.to - place.from);
  in.read(reinterpret_cast<char*>(there.data()), static_cast<std::streamsize>(there.size()));
  EXPECT_EQ(there, leaf);
}

TEST_F(AuditTest, CountsWhatItChecked) {
  fill(9);
  auto report = audit_file(path(), log_note_key());
  EXPECT_EQ(report.signatures, 9u);
  EXPECT_EQ(report.checkpoints, 1u);
  EXPECT_GT(report.bytes, 9u * 300);
}

TEST_F(AuditTest, NoticesAndNamesAFlippedBitOfEveryByteOfEveryLeaf) {
  constexpr uint64_t kEntries = 3;
  fill(kEntries);
  ASSERT_TRUE(raw_sql(path(), test::kDropGuards));
  test::RawLeaves raw(path());
  for (uint64_t seq = 0; seq < kEntries; ++seq) {
    auto leaf = raw.read(seq);
#ifdef SOUK_SANITIZED  // each audit takes twenty times as long
    constexpr size_t kApart = 91;
#else
    constexpr size_t kApart = 7;  // one bit of each byte at least, and each bit of some
#endif
    for (size_t bit = 0; bit < leaf.size() * 8; bit += kApart) {
      auto lie = leaf;
      lie[bit / 8] = static_cast<uint8_t>(lie[bit / 8] ^ (1u << (bit % 8)));
      raw.write(seq, lie);
      auto report = audit_file(path(), log_note_key());
      ASSERT_FALSE(report.ok) << seq << " bit " << bit;
      ASSERT_EQ(report.first_bad, std::optional<uint64_t>(seq))
          << "bit " << bit << ": " << report.reason;
      ASSERT_EQ(report.entries, seq);
    }
    raw.write(seq, leaf);
  }
  EXPECT_TRUE(audit_file(path(), log_note_key()).ok);
}

TEST_F(AuditTest, NoticesEveryOtherAlteredRow) {
  for (auto* sql :
       {"DELETE FROM entry WHERE seq = 2", "DELETE FROM entry WHERE seq = 4",
        "UPDATE entry SET seq = 77 WHERE seq = 2",
        "INSERT INTO entry SELECT 5, leaf FROM entry WHERE seq = 4",
        "UPDATE head SET root = zeroblob(32)", "UPDATE head SET last_leaf = zeroblob(32)",
        "UPDATE head SET size = 4", "UPDATE head SET time = time + 1",
        "UPDATE head SET checkpoint = replace(checkpoint, 'ledger.example/test', "
        "'ledger.example/tesu')",
        "UPDATE head SET checkpoint = ''", "INSERT INTO node VALUES(0, zeroblob(32), zeroblob(32))",
        "INSERT INTO tile VALUES(0, zeroblob(8160))", "DELETE FROM head",
        "UPDATE entry SET leaf = (SELECT leaf FROM entry WHERE seq = 1) WHERE seq = 2"}) {
    Folder folder;
    auto file = folder.file("ledger.db");
    {
      auto sequencer =
          Sequencer::start(LedgerStore::create(file).take(), key_of(9), kOrigin, clock_).take();
      for (uint64_t i = 0; i < 5; ++i) ASSERT_TRUE(sequencer->append(entry(i)));
    }
    ASSERT_TRUE(raw_sql(file, test::kDropGuards));
    ASSERT_TRUE(audit_file(file, log_note_key()).ok);
    ASSERT_TRUE(raw_sql(file, sql)) << sql;
    auto report = audit_file(file, log_note_key());
    EXPECT_FALSE(report.ok) << sql;
    EXPECT_FALSE(report.reason.empty());
  }
}

TEST_F(AuditTest, NoticesALedgerRewrittenFromEndToEndUnderAnotherKey) {
  auto sequencer =
      Sequencer::start(LedgerStore::create(path()).take(), key_of(8), kOrigin, clock_).take();
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(sequencer->append(entry(i)));
  sequencer.reset();
  EXPECT_TRUE(audit_file(path()).ok);  // consistent, but whose?
  auto report = audit_file(path(), log_note_key());
  EXPECT_FALSE(report.ok);
}

TEST_F(AuditTest, HandsEveryEntryToTheReplayInOrderAndNamesTheOneItRefuses) {
  fill(6);
  std::vector<uint64_t> seen;
  auto report = audit_file(path(), log_note_key(), [&](const RecordedEntry& e) -> Status {
    seen.push_back(e.seq());
    if (e.seq() == 4) return Error(Code::kRefused, "expected something else");
    return Done{};
  });
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.first_bad, std::optional<uint64_t>(4));
  EXPECT_NE(report.reason.find("something else"), std::string::npos);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 1, 2, 3, 4}));
}

TEST_F(AuditTest, ReadsALedgerThatIsBeingWritten) {
  auto sequencer =
      Sequencer::start(LedgerStore::create(path()).take(), key_of(9), kOrigin, clock_).take();
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(sequencer->append(entry(i)));
    auto report = audit_file(path(), log_note_key());
    EXPECT_TRUE(report.ok) << report.reason;
    EXPECT_EQ(report.entries, i + 1);
  }
}

}  // namespace
}  // namespace souk::ledger
