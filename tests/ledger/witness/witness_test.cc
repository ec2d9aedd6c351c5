#include "ledger/witness/witness.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/ledger/witness/witness_fixture.h"

namespace souk::ledger {
namespace {

using test::cosigner_of;
using test::FakeLog;
using test::key_of;
using test::kOrigin;
using test::WitnessHome;

// The checkpoint with the answer's lines after its own, read by a client.
CosignTime cosigned(const std::string& checkpoint, const WitnessAnswer& answer) {
  EXPECT_EQ(answer.status, 200) << answer.body;
  auto note = parse_note(checkpoint + answer.body);
  EXPECT_TRUE(note) << answer.body;
  if (!note) return 0;
  auto time = cosigned_at(*note, cosigner_of(5));
  EXPECT_TRUE(time && *time);
  return time && *time ? **time : 0;
}

class WitnessTest : public ::testing::Test {
 protected:
  WitnessAnswer add(const AddCheckpoint& request) {
    return witness_->add_checkpoint(request.text());
  }
  int status(const AddCheckpoint& request) { return add(request).status; }
  void expect_size(const AddCheckpoint& request, uint64_t size) {
    auto answer = add(request);
    EXPECT_EQ(answer.status, 409);
    EXPECT_EQ(answer.content_type, "text/x.tlog.size");
    EXPECT_EQ(answer.body, std::to_string(size) + "\n");
  }

  FakeLog log_{600};
  FakeLog fork_{600, 1};
  WitnessHome home_;
  std::unique_ptr<Witness> witness_ = home_.start();
};

TEST_F(WitnessTest, CosignsEachGrowingCheckpointWithItsTime) {
  EXPECT_EQ(cosigned(log_.note(7), add(log_.request(0, 7))), 1'700'000'000u);
  home_.fixed_clock().set(1'700'000'009'999);
  EXPECT_EQ(cosigned(log_.note(600), add(log_.request(7, 600))), 1'700'000'009u);
}

TEST_F(WitnessTest, CosignsTheSameCheckpointAgainWithANewerTime) {
  EXPECT_EQ(status(log_.request(0, 7)), 200);
  home_.fixed_clock().set(1'700'000'060'000);
  EXPECT_EQ(cosigned(log_.note(7), add(log_.request(7, 7))), 1'700'000'060u);
}

TEST_F(WitnessTest, ItsTimeDoesNotGoBackWithItsClockAndIsNeverZero) {
  EXPECT_EQ(status(log_.request(0, 7)), 200);
  home_.fixed_clock().set(1'700'000'000'000 - 86'400'000);
  EXPECT_EQ(cosigned(log_.note(8), add(log_.request(7, 8))), 1'700'000'000u);

  WitnessHome young;
  young.fixed_clock().set(0);
  auto witness = young.start();
  EXPECT_GE(cosigned(log_.note(7), witness->add_checkpoint(log_.request(0, 7).text())), 1u);
}

TEST_F(WitnessTest, AnswersTheSizeItHoldsWhenTheOldSizeIsAnother) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  expect_size(log_.request(0, 200), 100);
  expect_size(log_.request(99, 200), 100);
  expect_size(log_.request(101, 200), 100);
  expect_size(log_.request(0, 50), 100);
  expect_size(log_.request(50, 50), 100);
  EXPECT_EQ(status(log_.request(100, 200)), 200);
  expect_size(log_.request(100, 200), 200);
}

TEST_F(WitnessTest, AsksForTheSizeZeroOfALogItNeverCosigned) {
  expect_size(log_.request(3, 7), 0);
}

TEST_F(WitnessTest, RefusesAnOldSizeAboveTheCheckpoint) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  AddCheckpoint request{.old_size = 100, .proof = {}, .checkpoint = log_.note(99)};
  EXPECT_EQ(status(request), 400);
}

TEST_F(WitnessTest, RefusesForksRollbacksAndProofsThatDoNotHold) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  EXPECT_EQ(status(fork_.request(100, 200)), 422);
  EXPECT_EQ(status(fork_.request(100, 100)), 422);
  auto shorter = log_.request(100, 200);
  shorter.proof.pop_back();
  EXPECT_EQ(status(shorter), 422);
  auto longer = log_.request(100, 200);
  longer.proof.push_back(longer.proof.front());
  EXPECT_EQ(status(longer), 422);
  auto swapped = log_.request(100, 200);
  std::swap(swapped.proof[0], swapped.proof[1]);
  EXPECT_EQ(status(swapped), 422);
  auto needless = log_.request(100, 100);
  needless.proof.push_back(empty_root());
  EXPECT_EQ(status(needless), 422);
  EXPECT_EQ(status(log_.request(100, 200)), 200);  // nothing of that was kept
}

TEST_F(WitnessTest, KeepsTheRequestsThatProveALogsMisbehaviour) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  EXPECT_EQ(status(fork_.request(100, 200)), 422);
  witness_.reset();
  auto kept = WitnessStore::open(home_.file()).take().evidence(kOrigin).take();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(parse_add_checkpoint(kept[0])->checkpoint, fork_.note(200));
}

TEST_F(WitnessTest, ATreeOfSizeZeroHasTheRootOfNothing) {
  EXPECT_EQ(status(log_.request(0, 0)), 200);
  EXPECT_EQ(status(log_.request(0, 0)), 200);
  AddCheckpoint lie{.old_size = 0, .proof = {}, .checkpoint = ""};
  lie.checkpoint = sign_checkpoint({.origin = kOrigin, .size = 0, .root = log_.tree().root(1)},
                                   test::log_note_key(), key_of(9));
  EXPECT_EQ(status(lie), 422);
  auto proved = log_.request(0, 7);
  proved.proof.push_back(empty_root());
  EXPECT_EQ(status(proved), 422);
  EXPECT_EQ(status(log_.request(0, 7)), 200);
}

TEST_F(WitnessTest, KnowsLogsByOriginAndKey) {
  auto other = NoteKey::of("other.example", key_of(9).public_key()).take();
  AddCheckpoint unknown{.old_size = 0, .proof = {}, .checkpoint = ""};
  unknown.checkpoint = sign_checkpoint({.origin = "other.example", .size = 0, .root = empty_root()},
                                       other, key_of(9));
  EXPECT_EQ(status(unknown), 404);

  auto good = log_.request(0, 7);
  auto wrong_key = NoteKey::of(kOrigin, key_of(8).public_key()).take();
  auto stranger = good;
  stranger.checkpoint = sign_checkpoint({.origin = kOrigin, .size = 7, .root = log_.tree().root(7)},
                                        wrong_key, key_of(8));
  EXPECT_EQ(status(stranger), 403);

  auto false_line = good;  // the log's name and key ID on a signature of something else
  auto line = log_.note(8).substr(log_.note(8).find("\n\n") + 2);
  false_line.checkpoint += line;
  EXPECT_EQ(status(false_line), 403);

  auto grease = good;
  grease.checkpoint += "\xe2\x80\x94 grease.example AAAAAQIDBAUG\n";
  EXPECT_EQ(status(grease), 200);
}

TEST_F(WitnessTest, AcceptsEachKeyOfAnOrigin) {
  witness_.reset();
  auto second = NoteKey::of(kOrigin, key_of(8).public_key()).take();
  ASSERT_TRUE(WitnessStore::open(home_.file()).take().add_log(kOrigin, second.vkey()));
  witness_ = home_.start();
  EXPECT_EQ(status(log_.request(0, 7)), 200);
  auto rotated = log_.request(7, 9);
  rotated.checkpoint = sign_checkpoint({.origin = kOrigin, .size = 9, .root = log_.tree().root(9)},
                                       second, key_of(8));
  EXPECT_EQ(status(rotated), 200);
}

TEST_F(WitnessTest, RefusesRequestsThatAreNotOne) {
  auto good = log_.request(0, 7).text();
  auto with_old = [&](const std::string& old) { return old + good.substr(good.find('\n')); };
  for (std::string lie :
       {std::string(), std::string("old 0\n"), std::string("old 0\n\n"), with_old("old"),
        with_old("old "), with_old("old 00"), with_old("old -1"), with_old("old +1"),
        with_old("old 1 "), with_old("Old 1"), with_old("old 18446744073709551616"),
        with_old("old 0\r"), with_old("old 0\nAAAA"), good.substr(1), good + "\n",
        with_old("old 0\n" + to_base64(empty_root()) + " ")}) {
    EXPECT_EQ(witness_->add_checkpoint(lie).status, 400) << lie;
  }
  EXPECT_EQ(witness_->add_checkpoint(with_old("old 18446744073709551615")).status, 400);
}

TEST_F(WitnessTest, TakesSixtyThreeHashesAndNotOneMore) {
  auto request = log_.request(0, 7);
  request.proof.assign(63, empty_root());
  EXPECT_EQ(status(request), 422);
  request.proof.assign(64, empty_root());
  EXPECT_EQ(status(request), 400);
}

TEST_F(WitnessTest, ServesTheNewestCheckpointWithTheLogsSignatureAndItsOwn) {
  auto hash = to_hex(ByteView(sha256(as_bytes(kOrigin))));
  EXPECT_EQ(witness_->checkpoint(hash).status, 404);
  auto grease = log_.request(0, 7);
  grease.checkpoint += "\xe2\x80\x94 grease.example AAAAAQIDBAUG\n";
  auto answer = add(grease);
  ASSERT_EQ(answer.status, 200);
  EXPECT_EQ(witness_->checkpoint(hash), (WitnessAnswer{.body = log_.note(7) + answer.body}));
  EXPECT_EQ(witness_->checkpoint("").status, 404);
  EXPECT_EQ(witness_->checkpoint(kOrigin).status, 404);
}

TEST_F(WitnessTest, RemembersAfterARestartAndForgetsNothingItAnswered) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  witness_.reset();
  witness_ = home_.start();
  expect_size(log_.request(0, 100), 100);
  EXPECT_EQ(status(fork_.request(100, 100)), 422);
  EXPECT_EQ(status(log_.request(100, 101)), 200);
}

TEST_F(WitnessTest, DoesNotGoOnWithAnOldCopyOfItsFile) {
  EXPECT_EQ(status(log_.request(0, 100)), 200);
  witness_.reset();
  std::filesystem::copy_file(home_.file(), home_.backup());
  witness_ = home_.start();
  EXPECT_EQ(status(log_.request(100, 200)), 200);
  witness_.reset();
  std::filesystem::copy_file(home_.backup(), home_.file(),
                             std::filesystem::copy_options::overwrite_existing);
  auto again = home_.try_start();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Code::kRefused);
}

TEST_F(WitnessTest, DoesNotServeAnotherWitnesssFile) {
  witness_.reset();
  auto guard = CountGuard::open(home_.guard_file()).take();
  auto other = Witness::start(WitnessStore::open(home_.file()).take(), cosigner_of(6), key_of(6),
                              std::move(guard), home_.fixed_clock());
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Code::kConflict);
  EXPECT_FALSE(WitnessStore::create(home_.file(), cosigner_of(5).vkey()));
}

// Two processes on one file, and several threads in each: of requests from one old size
// to different trees exactly one is answered 200.
TEST_F(WitnessTest, OfManyAtOnceFromOneOldSizeExactlyOneSucceeds) {
  auto second = home_.try_start().take();  // a second process would open the same file
  ASSERT_EQ(status(log_.request(0, 1)), 200);
  uint64_t size = 1;
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> accepted{0};
    std::atomic<uint64_t> won{0};
    std::vector<std::thread> threads;
    for (uint64_t i = 1; i <= 4; ++i) {
      threads.emplace_back([&, i] {
        auto& witness = i % 2 == 0 ? *witness_ : *second;
        auto answer = witness.add_checkpoint(log_.request(size, size + i).text());
        EXPECT_TRUE(answer.status == 200 || answer.status == 409) << answer.body;
        if (answer.status == 200) {
          ++accepted;
          won = size + i;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(accepted, 1);
    size = won;
  }
}

}  // namespace
}  // namespace souk::ledger
