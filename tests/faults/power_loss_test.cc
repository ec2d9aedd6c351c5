// Every write, truncation, sync and deletion of appends and of closing a ledger fails once,
// in each way a disk can fail. Whatever was acknowledged is there afterwards.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "ledger/audit/audit.h"
#include "ledger/proof/recorded.h"
#include "ledger/sequencer/sequencer.h"
#include "tests/faults/faulty_disk.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::faults {
namespace {

namespace fs = std::filesystem;
using namespace ledger;  // NOLINT: the whole room is under test
using ledger::test::entry;
using ledger::test::FixedClock;
using ledger::test::Folder;
using ledger::test::key_of;
using ledger::test::kOrigin;
using ledger::test::log_note_key;

constexpr uint64_t kBefore = 254;  // so that a tile fills up under the faults
constexpr uint64_t kAppends = 4;

struct Outcome {
  uint64_t struck = 0, acknowledged = 0, refused = 0, doubtful = 0, unopened = 0;
};

class PowerLoss : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { install(); }

  void SetUp() override {
    begin();
    fs::create_directory(folder_.file("base"));
    auto log = start("base").take();
    for (uint64_t number = 0; number < kBefore; ++number) CHECK(log->append(entry(number)));
  }

  std::string ledger(const std::string& name) const { return folder_.file(name) + "/ledger.db"; }
  Result<std::unique_ptr<Sequencer>> start(const std::string& name) {
    auto path = ledger(name);
    auto store = fs::exists(path) ? TRY(LedgerStore::open(path)) : TRY(LedgerStore::create(path));
    return Sequencer::start(std::move(store), key_of(9), kOrigin, clock_);
  }

  // False when the fault was never reached: the sweep is over.
  bool one(Fault fault, uint64_t at, Outcome& seen) {
    SCOPED_TRACE("operation " + std::to_string(at) + ", fault " +
                 std::to_string(static_cast<int>(fault)));
    auto work = folder_.file("work");
    fs::remove_all(work);
    fs::copy(folder_.file("base"), work, fs::copy_options::recursive);
    begin();
    std::vector<Receipt> receipts;
    std::vector<uint64_t> unwritten;
    std::vector<std::pair<uint64_t, uint64_t>> together;  // place and number
    std::vector<uint64_t> not_now;
    {
      auto log = start("work");
      if (!log) {
        ADD_FAILURE() << log.error().expected();
        return false;
      }
      arm(fault, at, at * 7 + static_cast<uint64_t>(fault));
      for (uint64_t number = kBefore; number < kBefore + kAppends; ++number) {
        auto receipt = (*log)->append(entry(number));
        if (receipt) {
          receipts.push_back(*receipt);
        } else if (receipt.error().code() == Code::kTryAgain) {
          unwritten.push_back(number);
          if (fault == Fault::kFull) {
            EXPECT_TRUE(receipt.error().expected().starts_with("disk full"))
                << receipt.error().expected();
            EXPECT_FALSE((*log)->health());
            EXPECT_EQ((*log)->size(), kBefore + receipts.size());
            EXPECT_TRUE((*log)->leaf(kBefore - 1)) << "reading stops";
            EXPECT_EQ(unwritten.size(), 1u) << "the next is taken";
          }
        } else {
          EXPECT_EQ(receipt.error().code(), Code::kBroken);
          ++seen.doubtful;
        }
      }
      // And several that wait for one another's commit, the first of them twice.
      std::vector<std::pair<uint64_t, std::future<Result<uint64_t>>>> waiting;
      for (uint64_t number : {kBefore + kAppends, kBefore + kAppends + 1, kBefore + kAppends + 2,
                              kBefore + kAppends}) {
        waiting.emplace_back(number, (*log)->submit(entry(number)));
      }
      for (auto& [number, answer] : waiting) {
        auto place = answer.get();
        if (place) {
          together.emplace_back(*place, number);
        } else if (place.error().code() == Code::kTryAgain) {
          not_now.push_back(number);
        } else {
          EXPECT_EQ(place.error().code(), Code::kBroken);
          ++seen.doubtful;
        }
      }
    }  // closing folds the write-ahead log in, under the fault too
    bool reached = struck();
    repair();
    seen.struck += reached;
    seen.acknowledged += receipts.size() + together.size();
    seen.refused += unwritten.size() + not_now.size();
    // Of one sent twice the second may have been written though the first was not.
    for (uint64_t number : not_now) {
      bool placed = std::any_of(together.begin(), together.end(),
                                [&](const auto& one) { return one.second == number; });
      if (!placed) unwritten.push_back(number);
    }

    auto log = start("work");
    if (!log) {
      ADD_FAILURE() << "not reopened: " << log.error().expected();
      ++seen.unopened;
      return reached;
    }
    for (const auto& receipt : receipts) {
      auto again = (*log)->prove(receipt.seq);
      EXPECT_TRUE(again) << "acknowledged entry " << receipt.seq << " is lost";
      if (!again) continue;
      EXPECT_EQ(again->leaf_hash, receipt.leaf_hash);
      auto leaf = (*log)->leaf(receipt.seq);
      EXPECT_TRUE(leaf && confirm_one(*leaf, again->tlog_proof, log_note_key(), kOrigin));
    }
    for (const auto& [seq, number] : together) {
      auto stored = (*log)->leaf(seq);
      EXPECT_TRUE(stored) << "acknowledged entry " << seq << " is lost";
      auto leaf = stored ? decode_leaf(*stored) : Result<Leaf>(stored.error());
      EXPECT_TRUE(leaf && leaf->envelope == entry(number).envelope_bytes()) << number;
    }
    // What was said not to be written is not there: after "again" it gets a new place.
    for (uint64_t number : unwritten) {
      for (uint64_t seq = kBefore; seq < (*log)->size(); ++seq) {
        auto leaf = decode_leaf(*(*log)->leaf(seq));
        EXPECT_FALSE(leaf && leaf->envelope == entry(number).envelope_bytes()) << number;
      }
    }
    for (uint64_t number = kBefore; number < kBefore + kAppends + 3; ++number) {
      EXPECT_TRUE((*log)->append(entry(number)));
    }
    EXPECT_EQ((*log)->size(), kBefore + kAppends + 3);  // each once
    log->reset();
    auto report = audit_file(ledger("work"), log_note_key());
    EXPECT_TRUE(report.ok) << report.reason;
    return reached;
  }

  void sweep(Fault fault) {
    Outcome seen;
    uint64_t at = 1;
    while (one(fault, at, seen) && !HasFailure()) ++at;
    EXPECT_GE(seen.struck, 10u);
    std::printf(
        "%llu operations failed, one at a time: %llu appends acknowledged and kept, "
        "%llu refused, %llu of unknown outcome\n",
        static_cast<unsigned long long>(seen.struck),
        static_cast<unsigned long long>(seen.acknowledged),
        static_cast<unsigned long long>(seen.refused),
        static_cast<unsigned long long>(seen.doubtful));
  }

  Folder folder_;
  FixedClock clock_{1'000'000};
};

// That these tests would notice: the same on a disk that only says that it has synced.
TEST_F(PowerLoss, ADiskThatLiesLosesWhatWasAcknowledged) {
  fs::copy(folder_.file("base"), folder_.file("work"), fs::copy_options::recursive);
  begin();
  {
    auto log = start("work").take();
    lie();
    ASSERT_TRUE(log->append(entry(kBefore)));
    arm(Fault::kPowerLoss, 1, 0);
  }
  ASSERT_TRUE(struck());
  repair();
  EXPECT_EQ(start("work").take()->size(), kBefore);
}

TEST_F(PowerLoss, AnOperationThatFailsAndDidNotHappenLosesNothing) {
  sweep(Fault::kFails);
}
TEST_F(PowerLoss, AnOperationThatFailsAndDidHappenLosesNothing) {
  sweep(Fault::kFailsPersisted);
}
// Every write of an append in turn finds the disk full. Nothing of it is recorded, the log keeps
// what it had and says so, and takes the next entry by itself.
TEST_F(PowerLoss, AWriteThatFindsNoRoomRefusesOneAppendAndTheLogGoesOn) {
  Outcome seen;
  uint64_t at = 1;
  while (one(Fault::kFull, at, seen) && !HasFailure()) ++at;
  EXPECT_GE(seen.struck, 10u);
  // The syncs among the operations fail as a disk fails, for good; no other does.
  EXPECT_GE(seen.refused, 8u);
  EXPECT_LE(seen.doubtful, (kAppends + 4) * (kAppends + 3));
}
TEST_F(PowerLoss, APowerLossTakesNothingThatWasAcknowledged) {
  sweep(Fault::kPowerLoss);
}
TEST_F(PowerLoss, NorDoesOneThatLeavesAnyPartOfTheUnsyncedWrites) {
  sweep(Fault::kPowerLossTorn);
}

}  // namespace
}  // namespace souk::faults
