#include <gtest/gtest.h>

#include "ledger/proof/merkle.h"
#include "ledger/proof/recorded.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

using test::chain;
using test::entry;
using test::key_of;
using test::kOrigin;
using test::log_note_key;

std::string checkpoint_over(const std::vector<Bytes>& leaves, size_t count) {
  std::vector<Digest> hashes;
  for (size_t i = 0; i < count; ++i) hashes.push_back(leaf_hash(leaves[i]));
  return sign_checkpoint({.origin = kOrigin, .size = count, .root = tree_root(hashes)},
                         log_note_key(), key_of(9));
}

ChainReader reader_of(const std::vector<Bytes>& leaves, size_t count) {
  auto reader = ChainReader::start(kOrigin, log_note_key());
  for (size_t i = 0; i < count; ++i) CHECK(reader.add(leaves[i]));
  return reader;
}

Code refusal(const Status& status) {
  EXPECT_FALSE(status);
  return status ? Code::kBroken : status.error().code();
}

TEST(Chain, RecordsWhatItsCheckpointConfirms) {
  auto leaves = chain(6);
  auto reader = reader_of(leaves, 4);
  auto first = reader.confirm(checkpoint_over(leaves, 4));
  ASSERT_TRUE(first) << first.error().expected();
  ASSERT_EQ(first->size(), 4u);
  EXPECT_EQ(reader.confirmed_size(), 4u);
  ASSERT_TRUE(reader.add(leaves[4]));
  ASSERT_TRUE(reader.add(leaves[5]));
  auto second = reader.confirm(checkpoint_over(leaves, 6));
  ASSERT_TRUE(second);
  ASSERT_EQ(second->size(), 2u);
  EXPECT_EQ((*second)[1].seq(), 5u);
  EXPECT_EQ((*second)[1].entry().nonce(), test::nonce_of(5));
  EXPECT_EQ(reader.last_time(), 1005);
  EXPECT_TRUE(reader.confirm(checkpoint_over(leaves, 6))->empty());
}

TEST(Chain, ConfirmsNothingUnderACheckpointOneSmallerOneLargerOrOfAnotherKey) {
  auto leaves = chain(6);
  auto reader = reader_of(leaves, 4);
  EXPECT_FALSE(reader.confirm(checkpoint_over(leaves, 3)));
  EXPECT_FALSE(reader.confirm(checkpoint_over(leaves, 5)));
  auto other_root =
      sign_checkpoint({.origin = kOrigin, .size = 4, .root = {}}, log_note_key(), key_of(9));
  EXPECT_FALSE(reader.confirm(other_root));
  auto stranger = NoteKey::of(kOrigin, key_of(8).public_key()).take();
  auto forged =
      sign_checkpoint({.origin = kOrigin, .size = 4, .root = reader.root()}, stranger, key_of(8));
  auto refused = reader.confirm(forged);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kUnauthentic);
  EXPECT_EQ(reader.confirmed_size(), 0u);
  EXPECT_EQ(reader.confirm(checkpoint_over(leaves, 4))->size(), 4u);
}

TEST(Chain, RefusesLeavesOutOfOrderTwiceOrLeftOut) {
  auto leaves = chain(4);
  auto reader = reader_of(leaves, 2);
  EXPECT_EQ(refusal(reader.add(leaves[3])), Code::kConflict);
  EXPECT_EQ(refusal(reader.add(leaves[1])), Code::kConflict);
  EXPECT_EQ(refusal(reader.add(leaves[0])), Code::kConflict);
  EXPECT_EQ(reader.size(), 2u);
  EXPECT_TRUE(reader.add(leaves[2]));
}

TEST(Chain, RefusesAnotherPredecessorAndTimeThatRunsBackwards) {
  auto leaves = chain(2);
  auto reader = reader_of(leaves, 2);
  auto next = [&](Digest prev, TimeMs time) {
    return reader.add(
        encode_leaf({.seq = 2, .prev = prev, .time = time, .envelope = entry(2).envelope_bytes()}));
  };
  auto wrong = reader.last_leaf();
  wrong[0] ^= 1;
  EXPECT_EQ(refusal(next(wrong, 2000)), Code::kConflict);
  EXPECT_EQ(refusal(next(reader.last_leaf(), 1000)), Code::kConflict);
  EXPECT_TRUE(next(reader.last_leaf(), 1001));
}

TEST(Chain, RefusesEveryFlippedBitOfTheNextLeafExceptThoseOnlyTheRootSees) {
  auto leaves = chain(3);
  auto clean = reader_of(leaves, 3);
  auto note = checkpoint_over(leaves, 3);
  for (size_t bit = 0; bit < leaves[2].size() * 8; ++bit) {
    auto reader = reader_of(leaves, 2);
    auto lie = leaves[2];
    lie[bit / 8] = static_cast<uint8_t>(lie[bit / 8] ^ (1u << (bit % 8)));
    auto added = reader.add(lie);
    EXPECT_FALSE(added && reader.confirm(note)) << bit;
  }
  EXPECT_TRUE(clean.confirm(note));
}

TEST(Chain, RefusesEntriesOfAnotherMarketAndASecondGenesis) {
  auto leaves = chain(1);
  auto add = [&](ChainReader& reader, uint64_t seq, const AuthenticEntry& e) {
    return reader.add(encode_leaf(
        {.seq = seq, .prev = reader.last_leaf(), .time = 5000, .envelope = e.envelope_bytes()}));
  };
  auto reader = reader_of(leaves, 1);
  EXPECT_EQ(
      refusal(add(reader, 1, test::climb(test::envelope_of(key_of(2), std::string(64, 'b'), 1)))),
      Code::kConflict);
  EXPECT_EQ(refusal(add(reader, 1, test::climb(test::envelope_of(key_of(2), "", 1)))),
            Code::kConflict);
  EXPECT_TRUE(add(reader, 1, entry(1)));
  auto empty = ChainReader::start(kOrigin, log_note_key());
  EXPECT_EQ(refusal(add(empty, 0, entry(1))), Code::kConflict);
}

TEST(Chain, GoesOnFromItsSealedState) {
  auto leaves = chain(9);
  auto reader = reader_of(leaves, 5);
  ASSERT_TRUE(reader.confirm(checkpoint_over(leaves, 5)));
  ASSERT_TRUE(reader.add(leaves[5]));  // pending: not part of what is sealed
  auto restored = ChainReader::restore(kOrigin, log_note_key(), reader.seal_state());
  ASSERT_TRUE(restored) << restored.error().expected();
  EXPECT_EQ(restored->size(), 5u);
  for (size_t i = 5; i < 9; ++i) ASSERT_TRUE(restored->add(leaves[i]));
  EXPECT_EQ(restored->confirm(checkpoint_over(leaves, 9))->size(), 4u);
}

TEST(Chain, RefusesAStateOfAnotherLogOrOneThatDoesNotAddUp) {
  auto leaves = chain(5);
  auto reader = reader_of(leaves, 5);
  ASSERT_TRUE(reader.confirm(checkpoint_over(leaves, 5)));
  auto state = reader.seal_state();
  EXPECT_FALSE(ChainReader::restore("other.example", log_note_key(), state));
  auto json = parse_canonical(as_text(state)).take();
  auto with = [&](const std::string& name, Json value) {
    auto lie = json;
    (*lie.object())[name] = std::move(value);
    return ChainReader::restore(kOrigin, log_note_key(), to_bytes(canonical(lie)));
  };
  EXPECT_TRUE(with("time", 1));
  EXPECT_FALSE(with("size", 6));
  EXPECT_FALSE(with("size", 4));
  EXPECT_FALSE(with("checkpoint", checkpoint_over(leaves, 4)));
  EXPECT_FALSE(with("checkpoint", ""));
  EXPECT_FALSE(with("frontier", Json::Array{}));
  EXPECT_FALSE(with("market", ""));
  EXPECT_FALSE(with("kind", "souk.chain/v2"));
  EXPECT_FALSE(with("zoo", 1));
}

TEST(Chain, DiscardsWhatWasNeverConfirmed) {
  auto leaves = chain(5);
  auto reader = reader_of(leaves, 2);
  ASSERT_TRUE(reader.confirm(checkpoint_over(leaves, 2)));
  ASSERT_TRUE(reader.add(leaves[2]));
  reader.discard_pending();
  EXPECT_EQ(reader.size(), 2u);
  ASSERT_TRUE(reader.add(leaves[2]));
  EXPECT_EQ(reader.confirm(checkpoint_over(leaves, 3))->size(), 1u);
}

}  // namespace
}  // namespace souk::ledger
