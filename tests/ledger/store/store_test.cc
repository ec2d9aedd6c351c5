#include "ledger/store/store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/ledger/ledger_fixture.h"
#include "tests/ledger/raw_file.h"

namespace souk::ledger {
namespace {

using test::chain;
using test::Folder;
using test::key_of;
using test::kOrigin;
using test::log_note_key;
using test::raw_sql;

// The batch that adds leaves [store.size(), to) of the chain.
Batch batch_to(const LedgerStore& store, const std::vector<Bytes>& leaves, uint64_t to) {
  Batch batch{.old_size = store.size(), .old_root = store.root(), .entries = {}, .checkpoint = {}};
  auto tree = store.tree();
  for (uint64_t seq = batch.old_size; seq < to; ++seq) {
    batch.entries.push_back({leaves[seq], test::entry(seq).author(), test::entry(seq).nonce()});
    tree.append(leaf_hash(leaves[seq]));
    batch.time = static_cast<TimeMs>(1000 + seq);
  }
  batch.new_size = to;
  batch.new_root = tree.root();
  batch.checkpoint = sign_checkpoint({.origin = kOrigin, .size = to, .root = batch.new_root},
                                     log_note_key(), key_of(9));
  return batch;
}

class StoreTest : public testing::Test {
 protected:
  std::string path() const { return folder_.file("ledger.db"); }
  LedgerStore filled(uint64_t count) {
    auto store = LedgerStore::create(path()).take();
    auto leaves = chain(count);
    CHECK(store.append_batch(batch_to(store, leaves, count)));
    return store;
  }
  Code refusal_to_open() {
    auto store = LedgerStore::open(path());
    EXPECT_FALSE(store);
    return store ? Code::kNotFound : store.error().code();
  }
  Folder folder_;
};

TEST_F(StoreTest, GivesBackWhatItWasGivenAlsoAfterReopening) {
  auto leaves = chain(600);
  {
    auto store = LedgerStore::create(path()).take();
    EXPECT_EQ(store.size(), 0u);
    EXPECT_EQ(store.root(), empty_root());
    for (uint64_t to : {1u, 2u, 255u, 256u, 257u, 600u}) {
      auto appended = store.append_batch(batch_to(store, leaves, to));
      ASSERT_TRUE(appended) << appended.error().expected();
      ASSERT_EQ(store.size(), to);
    }
  }
  auto store = LedgerStore::open(path());
  ASSERT_TRUE(store) << store.error().expected();
  ASSERT_EQ(store->size(), 600u);
  EXPECT_EQ(store->last_time(), 1599);
  EXPECT_EQ(store->last_leaf(), leaf_hash(leaves[599]));
  auto all = store->leaves(0, 1000);
  ASSERT_TRUE(all);
  EXPECT_EQ(*all, leaves);
  EXPECT_EQ(store->leaves(598, 10)->size(), 2u);
  EXPECT_TRUE(store->leaves(600, 10)->empty());
  EXPECT_EQ(store->leaf(600).error().code(), Code::kNotFound);
  EXPECT_EQ(*store->leaf(599), leaves[599]);
  for (auto [from, count] : {std::pair<uint64_t, uint64_t>{0, 600},
                             {0, 0},
                             {255, 2},
                             {256, 256},
                             {511, 89},
                             {512, 88},
                             {599, 1},
                             {600, 0},
                             {10, 5}}) {
    auto hashes = store->leaf_hashes(from, count);
    ASSERT_TRUE(hashes);
    ASSERT_EQ(hashes->size(), count);
    for (uint64_t i = 0; i < count; ++i)
      ASSERT_EQ((*hashes)[i], leaf_hash(leaves[from + i])) << from << " " << i;
  }
  EXPECT_FALSE(store->leaf_hashes(600, 1));
  auto found = store->find_nonce(test::entry(3).author(), test::entry(3).nonce());
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, std::optional<uint64_t>(3));
  EXPECT_EQ(*store->find_nonce(key_of(77).public_key(), test::entry(3).nonce()), std::nullopt);
  EXPECT_EQ(*store->find_nonce(test::entry(3).author(), test::nonce_of(9999)), std::nullopt);
}

TEST_F(StoreTest, NeverCreatesOverAFileNorOpensNone) {
  EXPECT_EQ(refusal_to_open(), Code::kNotFound);
  ASSERT_TRUE(LedgerStore::create(path()));
  EXPECT_EQ(LedgerStore::create(path()).error().code(), Code::kConflict);
}

TEST_F(StoreTest, StartsOverWhereACreationWasKilled) {
  // What a process leaves that dies before its file is whole.
  std::ofstream(path() + ".new") << "half a file";
  std::ofstream(path() + ".new-wal") << "half a log";
  EXPECT_EQ(refusal_to_open(), Code::kNotFound);
  ASSERT_TRUE(LedgerStore::create(path()));
  EXPECT_TRUE(LedgerStore::open(path()));
  EXPECT_FALSE(std::filesystem::exists(path() + ".new"));
  EXPECT_FALSE(std::filesystem::exists(path() + ".new-wal"));
}

TEST_F(StoreTest, RefusesABatchForAHeadThatHasMoved) {
  auto store = LedgerStore::create(path()).take();
  auto leaves = chain(4);
  auto first = batch_to(store, leaves, 2);
  ASSERT_TRUE(store.append_batch(first));
  EXPECT_EQ(store.append_batch(first).error().code(), Code::kConflict);
  EXPECT_EQ(store.size(), 2u);
  EXPECT_TRUE(store.append_batch(batch_to(store, leaves, 4)));
}

TEST_F(StoreTest, RefusesTheBatchOfASecondWriterOnTheSameFile) {
  auto leaves = chain(4);
  auto store = LedgerStore::create(path()).take();
  auto other = LedgerStore::open(path()).take();
  auto mine = batch_to(store, leaves, 2);
  auto theirs = batch_to(other, leaves, 3);
  ASSERT_TRUE(store.append_batch(mine));
  EXPECT_EQ(other.append_batch(theirs).error().code(), Code::kConflict);
  EXPECT_EQ(other.size(), 0u);
  EXPECT_EQ(LedgerStore::open(path())->size(), 2u);
  EXPECT_TRUE(store.append_batch(batch_to(store, leaves, 4)));
}

TEST_F(StoreTest, FindsEveryNonceAlsoWhenItsIndexIsLostDamagedOrAnotherLedgers) {
  auto all_found = [&](const LedgerStore& store, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      auto found = store.find_nonce(test::entry(i).author(), test::entry(i).nonce());
      if (!found || *found != std::optional<uint64_t>(i)) return false;
    }
    return *store.find_nonce(key_of(77).public_key(), test::nonce_of(1)) == std::nullopt;
  };
  auto leaves = chain(40);
  {
    auto store = filled(20);
    EXPECT_TRUE(all_found(store, 20));
  }
  std::string index = path() + ".index";
  ASSERT_TRUE(std::filesystem::exists(index));
  std::filesystem::copy_file(index, path() + ".old");
  EXPECT_TRUE(all_found(LedgerStore::open(path()).take(), 20));
  std::filesystem::remove(index);
  {
    auto store = LedgerStore::open(path()).take();
    EXPECT_TRUE(all_found(store, 20));
    ASSERT_TRUE(store.append_batch(batch_to(store, leaves, 40)));
    EXPECT_TRUE(all_found(store, 40));
  }
  EXPECT_TRUE(all_found(LedgerStore::open(path()).take(), 40));
  // An older one is brought up, and a broken one made anew.
  std::filesystem::copy_file(path() + ".old", index,
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(all_found(LedgerStore::open(path()).take(), 40));
  std::ofstream(index, std::ios::trunc) << "not a database, but as long as the header of one is: "
                                           "one hundred bytes, and some more of them";
  EXPECT_TRUE(all_found(LedgerStore::open(path()).take(), 40));
  std::filesystem::resize_file(index, std::filesystem::file_size(index) / 2);
  EXPECT_TRUE(all_found(LedgerStore::open(path()).take(), 40));
  Folder other;
  {
    auto store = LedgerStore::create(other.file("ledger.db")).take();
    auto few = chain(2);
    Batch batch = batch_to(store, few, 2);
    ASSERT_TRUE(store.append_batch(batch));
  }
  std::filesystem::copy_file(index, other.file("ledger.db.index"),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(all_found(LedgerStore::open(other.file("ledger.db")).take(), 2));
}

TEST_F(StoreTest, RefusesABatchThatDoesNotAddUp) {
  auto store = filled(3);
  auto leaves = chain(5);
  auto good = batch_to(store, leaves, 5);
  auto refused = [&](Batch batch) {
    return store.append_batch(batch).error().code() == Code::kMalformed;
  };
  auto lie = good;
  lie.entries.pop_back();
  EXPECT_TRUE(refused(lie));
  lie = good;
  std::swap(lie.entries[0], lie.entries[1]);
  EXPECT_TRUE(refused(lie));
  lie = good;
  lie.entries[0].leaf[20] ^= 1;
  EXPECT_TRUE(refused(lie));
  lie = good;
  lie.new_root[0] ^= 1;
  EXPECT_TRUE(refused(lie));
  lie = good;
  lie.new_size = 6;
  EXPECT_TRUE(refused(lie));
  lie = good;
  lie.checkpoint = store.checkpoint();
  EXPECT_TRUE(refused(lie));
  lie = good;
  lie.time = 5;
  EXPECT_TRUE(refused(lie));
  EXPECT_TRUE(store.append_batch(good));
}

TEST_F(StoreTest, BindsOneLogKeyForEver) {
  auto store = filled(1);
  ASSERT_TRUE(store.bind_log_key(log_note_key().vkey()));
  EXPECT_TRUE(store.bind_log_key(log_note_key().vkey()));
  EXPECT_EQ(store.bind_log_key("other").error().code(), Code::kConflict);
  EXPECT_EQ(LedgerStore::open(path())->log_key(), log_note_key().vkey());
}

TEST_F(StoreTest, TheTablesRefuseToForget) {
  { filled(300); }
  for (auto* sql :
       {"UPDATE entry SET leaf = x'00' WHERE seq = 1", "DELETE FROM entry WHERE seq = 299",
        "UPDATE tile SET id = 7", "DELETE FROM tile", "DELETE FROM head",
        "UPDATE head SET size = size - 1", "UPDATE node SET id = 9", "DELETE FROM node"}) {
    EXPECT_FALSE(raw_sql(path(), sql)) << sql;
  }
  EXPECT_TRUE(LedgerStore::open(path()));
}

TEST_F(StoreTest, OpensNoFileWhoseHeadTilesEdgeOrCheckpointWereAltered) {
  auto leaves = chain(300);
  for (auto* sql :
       {"UPDATE entry SET leaf = x'00' WHERE seq = 299",
        "UPDATE entry SET leaf = x'00' WHERE seq = 256", "DELETE FROM entry WHERE seq = 299",
        "DELETE FROM entry WHERE seq = 0", "INSERT INTO entry VALUES(300, x'00')",
        "DELETE FROM tile", "DELETE FROM node", "UPDATE node SET hash = zeroblob(32)",
        "INSERT INTO tile VALUES(1, zeroblob(8160))", "UPDATE tile SET hashes = zeroblob(8160)",
        "UPDATE head SET root = zeroblob(32)", "UPDATE head SET size = 299",
        "UPDATE head SET last_leaf = zeroblob(32)", "UPDATE head SET time = 7",
        "UPDATE head SET checkpoint = ''",
        "UPDATE head SET checkpoint = replace(checkpoint, '300', '301')", "DELETE FROM head",
        "PRAGMA user_version = 4", "PRAGMA application_id = 1"}) {
    Folder folder;
    auto file = folder.file("ledger.db");
    {
      auto store = LedgerStore::create(file).take();
      ASSERT_TRUE(store.append_batch(batch_to(store, leaves, 300)));
    }
    ASSERT_TRUE(raw_sql(file, test::kDropGuards));
    ASSERT_TRUE(LedgerStore::open(file));
    ASSERT_TRUE(raw_sql(file, sql)) << sql;
    auto store = LedgerStore::open(file);
    ASSERT_FALSE(store) << sql;
    EXPECT_EQ(store.error().code(), Code::kBroken) << sql;
  }
}

// A file of this version, made into what earlier versions wrote.
constexpr char kToVersion2[] = R"sql(
CREATE TABLE whole(id INTEGER PRIMARY KEY, hashes BLOB NOT NULL CHECK(length(hashes) = 8192)) STRICT;
INSERT INTO whole SELECT tile.id, CAST(tile.hashes || node.last AS BLOB) FROM tile JOIN node USING(id);
DROP TABLE tile;
ALTER TABLE whole RENAME TO tile;
CREATE TABLE short(id INTEGER PRIMARY KEY, hash BLOB NOT NULL CHECK(length(hash) = 32)) STRICT;
INSERT INTO short SELECT id, hash FROM node;
DROP TABLE node;
ALTER TABLE short RENAME TO node;
CREATE TRIGGER tile_no_update BEFORE UPDATE ON tile BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER tile_no_delete BEFORE DELETE ON tile BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER node_no_update BEFORE UPDATE ON node BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER node_no_delete BEFORE DELETE ON node BEGIN SELECT RAISE(ABORT, 'append-only'); END;
PRAGMA user_version = 2;
)sql";
constexpr char kToVersion1[] = R"sql(
DROP TABLE node;
CREATE TABLE nonce(author BLOB NOT NULL, nonce TEXT NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(author, nonce)) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
)sql";

class OlderFile : public StoreTest, public testing::WithParamInterface<int> {};

TEST_P(OlderFile, IsBroughtToThisVersionWithItsRootItsProofsAndItsNonces) {
  constexpr uint64_t kSize = 700;  // two full tiles and a partial one
  auto leaves = chain(kSize);
  Digest root{};
  std::string note;
  {
    auto store = LedgerStore::create(path()).take();
    ASSERT_TRUE(store.append_batch(batch_to(store, leaves, kSize)));
    root = store.root();
    note = store.checkpoint();
  }
  ASSERT_TRUE(raw_sql(path(), test::kDropGuards));
  ASSERT_TRUE(raw_sql(path(), kToVersion2));
  if (GetParam() == 1) {
    ASSERT_TRUE(raw_sql(path(), kToVersion1));
  }
  {
    auto store = LedgerStore::open(path());
    ASSERT_TRUE(store) << store.error().expected();
    EXPECT_EQ(store->root(), root);
    EXPECT_EQ(store->checkpoint(), note);
    for (uint64_t seq : {0u, 255u, 256u, 511u, 512u, 699u}) {
      auto proof = store->inclusion_proof(store->snapshot(), seq, kSize);
      ASSERT_TRUE(proof) << proof.error().expected();
      EXPECT_TRUE(verify_inclusion(leaf_hash(leaves[seq]), seq, kSize, *proof, root));
      EXPECT_EQ(*store->find_nonce(test::entry(seq).author(), test::entry(seq).nonce()), seq);
    }
  }
  EXPECT_FALSE(raw_sql(path(), "DELETE FROM tile"));  // its guards are there again
  EXPECT_FALSE(raw_sql(path(), "UPDATE node SET last = zeroblob(32)"));
  auto again = LedgerStore::open(path());  // and what was brought here grows
  ASSERT_TRUE(again) << again.error().expected();
  auto longer = chain(kSize + 100);
  EXPECT_TRUE(again->append_batch(batch_to(*again, longer, kSize + 100)));
}

TEST_P(OlderFile, WithAnAlteredTileIsNotTakenOver) {
  { auto store = filled(600); }
  ASSERT_TRUE(raw_sql(path(), test::kDropGuards));
  ASSERT_TRUE(raw_sql(path(), kToVersion2));
  if (GetParam() == 1) {
    ASSERT_TRUE(raw_sql(path(), kToVersion1));
  }
  ASSERT_TRUE(raw_sql(path(),
                      "DROP TRIGGER tile_no_update; UPDATE tile SET hashes = zeroblob(8192) "
                      "WHERE id = 0; CREATE TRIGGER tile_no_update BEFORE UPDATE ON tile "
                      "BEGIN SELECT RAISE(ABORT, 'append-only'); END"));
  EXPECT_EQ(refusal_to_open(), Code::kBroken);
}

INSTANTIATE_TEST_SUITE_P(Versions, OlderFile, testing::Values(1, 2));

TEST_F(StoreTest, AFileOfAnUnknownVersionIsRefusedInWords) {
  { auto store = filled(3); }
  for (int version : {0, 4, 1000}) {
    ASSERT_TRUE(raw_sql(path(), "PRAGMA user_version = " + std::to_string(version)));
    auto store = LedgerStore::open(path());
    ASSERT_FALSE(store);
    EXPECT_EQ(store.error().code(), Code::kBroken);
    EXPECT_NE(store.error().expected().find("schema version 1, 2 or 3"), std::string::npos);
  }
}

TEST_F(StoreTest, AnAlteredWriteAheadLogIsNotTakenForAShorterOne) {
  auto leaves = chain(30);
  Folder copy;
  {
    auto store = LedgerStore::create(path()).take();
    for (uint64_t to : {1u, 10u, 20u, 30u})
      ASSERT_TRUE(store.append_batch(batch_to(store, leaves, to)));
    for (const char* part : {"", "-wal"}) {
      std::filesystem::copy_file(path() + part, copy.file("ledger.db") + part);
    }
  }
  auto file = copy.file("ledger.db");
  auto size = std::filesystem::file_size(file + "-wal");
  std::filesystem::copy_file(file + "-wal", copy.file("whole"));
  std::fstream log(file + "-wal", std::ios::in | std::ios::out | std::ios::binary);
  log.seekp(32 + 24 + 100);  // the first page of the first transaction
  log.put('!');
  log.close();
  auto refused = LedgerStore::open(file);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kBroken);
  EXPECT_NE(refused.error().expected().find("write-ahead log"), std::string::npos);
  EXPECT_EQ(std::filesystem::file_size(file + "-wal"), size) << "the evidence is kept";
  std::filesystem::copy_file(copy.file("whole"), file + "-wal",
                             std::filesystem::copy_options::overwrite_existing);
  auto opened = LedgerStore::open(file);
  ASSERT_TRUE(opened) << opened.error().expected();
  EXPECT_EQ(opened->size(), 30u);
}

}  // namespace
}  // namespace souk::ledger
