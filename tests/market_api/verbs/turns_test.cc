// One at a time: the ledger before participants before questions, and no more waiting than there is
// room for.
#include "market_api/verbs/turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace souk::market {
namespace {

using std::chrono::milliseconds;

class TurnsTest : public ::testing::Test {
 protected:
  // A thread that waits for its turn, notes its letter and ends. Returns when it waits.
  void wait_as(Rank rank, char letter) {
    auto comes = std::make_shared<std::atomic<bool>>(false);
    threads_.emplace_back([this, comes, rank, letter] {
      *comes = true;
      comes->notify_one();
      auto turn = turns.take(rank);
      std::lock_guard lock(mutex_);
      order += turn ? letter : '-';
    });
    comes->wait(false);
    std::this_thread::sleep_for(milliseconds(60));
  }
  void join() {
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }
  void TearDown() override { join(); }

  Turns turns{{{{64, milliseconds(60'000)}, {2, milliseconds(60'000)}, {3, milliseconds(400)}}}};
  std::string order;

 private:
  std::mutex mutex_;
  std::vector<std::thread> threads_;
};

TEST_F(TurnsTest, WhatTheLedgerWaitsForGoesFirstAndEqualsInTheOrderOfComing) {
  auto first = turns.take(Rank::kQuestion);
  ASSERT_TRUE(first);
  wait_as(Rank::kQuestion, 'q');
  wait_as(Rank::kParticipant, 'p');
  wait_as(Rank::kQuestion, 'r');
  wait_as(Rank::kLedger, 'l');
  wait_as(Rank::kLedger, 'm');
  { auto ends = std::move(*first); }
  join();
  EXPECT_EQ(order, "lmpqr");
}

TEST_F(TurnsTest, MoreThanMayWaitAreToldToComeBack) {
  std::optional<Turns::Turn> held(turns.take(Rank::kLedger).take());
  wait_as(Rank::kParticipant, 'a');
  wait_as(Rank::kParticipant, 'b');
  auto third = turns.take(Rank::kParticipant);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code(), Code::kTryAgain);
  wait_as(Rank::kLedger, 'l');  // others are not held up by that
  held.reset();
  join();
  EXPECT_EQ(order, "lab");
}

TEST_F(TurnsTest, WhoWaitsTooLongIsToldToComeBackAndHoldsUpNobody) {
  std::optional<Turns::Turn> held(turns.take(Rank::kLedger).take());
  wait_as(Rank::kQuestion, 'q');
  join();
  EXPECT_EQ(order, "-");
  held.reset();
  EXPECT_TRUE(turns.take(Rank::kQuestion));
}

}  // namespace
}  // namespace souk::market
