// kill -9 of the host or an enclave at every step boundary of the story, with real
// processes: what was acknowledged stays, and the story ends settled or refunded.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "ledger/crypto/hash.h"
#include "tests/support/live_story.h"

namespace souk::flows {
namespace {

using contracts::Phase;
using Step = LiveStory::Step;

constexpr Step kSteps[] = {Step::kFounded, Step::kHalfUploaded, Step::kUploaded,
                           Step::kOffered, Step::kDeposited,    Step::kSubmitted,
                           Step::kDecided, Step::kRunning,      Step::kEnded};

class CrashFlow : public ::testing::Test {
 protected:
  void SetUp() override {
    if (program("soukd").empty() || program("souk-enclave").empty()) {
      FAIL() << "expected soukd and souk-enclave in $SOUK_BIN";
    }
  }

  void expect_whole(LiveMarket& market, LiveStory& story) {
    EXPECT_EQ(market.missing(), "");
    EXPECT_EQ(story.verdict(), "");
    auto stopped = market.stop_host();
    EXPECT_TRUE(stopped) << stopped.error().expected();
    EXPECT_EQ(market.audit(), "");
  }

  // The story up to `step`, a death there, and the rest of it.
  void kill_at(Step step, const std::string& victim, uint32_t training_steps) {
    SCOPED_TRACE(victim + " dies when " + LiveStory::name_of(step));
    LiveMarket market;
    LiveStory story(market, rows_file(400), 400, 2, training_steps);
    auto started = market.start();
    ASSERT_TRUE(started) << started.error().expected();
    for (Step next : kSteps) {
      auto done = story.do_step(next);
      ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
      if (next == step) break;
    }
    if (victim == "host") {
      market.kill_host();
      if (step != Step::kFounded) {
        EXPECT_EQ(market.audit(), "");  // as it lay after the crash
      }
      auto again = market.start();
      ASSERT_TRUE(again) << again.error().expected();
      ASSERT_TRUE(market.sync());
      EXPECT_EQ(market.missing(), "");
    } else {
      market.kill_enclave(victim);
    }
    auto finished = story.finish();
    ASSERT_TRUE(finished) << finished.error().expected();
    // Who was running goes on, and is paid; a trainer that dies before it has begun may not.
    if (step == Step::kEnded || step == Step::kRunning) {
      EXPECT_EQ(story.phase(), Phase::kSettled);
    }
    if (step == Step::kRunning && victim != "keeper") {
      EXPECT_GE(story.taken_up(), 1U)
          << "the run was over before the death: the test shows nothing";
    }
    expect_whole(market, story);
  }
};

TEST_F(CrashFlow, TheHostMayDieAtEveryStep) {
  for (Step step : kSteps) {
    kill_at(step, "host", step == Step::kRunning ? 20'000 : 20);
  }
}

TEST_F(CrashFlow, TheKeeperMayDieAtEveryStep) {
  for (Step step : kSteps) {
    kill_at(step, "keeper", step == Step::kRunning ? 20'000 : 20);
  }
}

// A keeper that cannot ask policies any more blames none of them: it ends, and the next one
// decides.
TEST_F(CrashFlow, AKeeperWithoutItsNurseryRefusesNothingAndTheNextOneDecides) {
  for (Step step : {Step::kUploaded, Step::kDeposited}) {
    SCOPED_TRACE(LiveStory::name_of(step));
    LiveMarket market;
    LiveStory story(market, rows_file(400), 400, 2, 20);
    auto started = market.start();
    ASSERT_TRUE(started) << started.error().expected();
    for (Step next : kSteps) {
      auto done = story.do_step(next);
      ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
      if (next == step) break;
    }
    auto before = market.enclaves("keeper");
    ASSERT_EQ(before.size(), 1u);
    ASSERT_TRUE(market.kill_helpers("keeper"));
    auto finished = story.finish();
    // What asked the keeper that ended is told to ask again.
    if (!finished && finished.error().code() == Code::kTryAgain) finished = story.finish();
    ASSERT_TRUE(finished) << finished.error().expected();
    EXPECT_EQ(story.phase(), Phase::kSettled);
    EXPECT_NE(market.enclaves("keeper"), before);
    expect_whole(market, story);
  }
}

TEST_F(CrashFlow, TheTrainerMayDieWhileItTrains) {
  kill_at(Step::kDecided, "trainer", 20'000);
  kill_at(Step::kRunning, "trainer", 20'000);
}

// At moments nobody chose, host and trainer alike, as long as the run lasts.
TEST_F(CrashFlow, ARunSurvivesOneDeathAfterAnotherAndIsChargedOnce) {
  LiveMarket market;
  LiveStory story(market, rows_file(400), 400, 2, 40'000);
  ASSERT_TRUE(market.start());
  for (Step next : kSteps) {
    auto done = story.do_step(next);
    ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
    if (next == Step::kRunning) break;
  }
  std::mt19937 chance(20'261'122);
  for (int death = 0; death < 12 && story.phase() == Phase::kRunning; ++death) {
    auto wait = std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 400)(chance));
    std::this_thread::sleep_for(wait);
    if (death % 4 == 3) {
      market.kill_host();
      EXPECT_EQ(market.audit(), "");
      auto again = market.start();
      ASSERT_TRUE(again) << again.error().expected();
    } else {
      market.kill_enclave("trainer");
    }
    // What takes it up is there before it dies as well, however long its start takes.
    const uint32_t before = story.taken_up();
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(market.sync());
      if (story.phase() != Phase::kRunning || story.taken_up() > before) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  EXPECT_EQ(story.phase(), Phase::kSettled);
  EXPECT_GE(story.taken_up(), 3U);
  for (const auto& [id, dataset] : market.state().datasets()) {
    EXPECT_EQ(dataset.budget.reserved, contracts::Charges{});
    EXPECT_EQ(dataset.budget.committed, story.granted());
  }
  expect_whole(market, story);
}

TEST_F(CrashFlow, TheHostMayDieWhileItFoundsTheMarket) {
  for (int delay_ms : {0, 1, 2, 3, 5, 8, 12, 17, 23, 30, 40, 60, 90}) {
    SCOPED_TRACE(std::to_string(delay_ms) + " ms");
    LiveMarket market;
    market.launch();
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    market.kill_host();
    auto started = market.start();
    ASSERT_TRUE(started) << started.error().expected();
    ASSERT_TRUE(market.sync());
    EXPECT_TRUE(market.state().keeper());
    ASSERT_TRUE(market.stop_host());
    EXPECT_EQ(market.audit(), "");
  }
}

// Deaths at moments nobody chose, a dozen in one story.
TEST_F(CrashFlow, TheStorySurvivesOneDeathAfterAnother) {
  LiveMarket market;
  LiveStory story(market, rows_file(400), 400, 2, 2000);
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  std::mt19937 chance(20'240'607);
  for (int death = 0; death < 12; ++death) {
    SCOPED_TRACE("death " + std::to_string(death));
    auto wait = std::chrono::milliseconds(std::uniform_int_distribution<int>(0, 250)(chance));
    bool host = chance() % 2 == 0;
    Step reached = kSteps[std::min<size_t>(static_cast<size_t>(death), 5)];
    for (Step next : kSteps) {
      auto done = story.do_step(next);
      if (next == reached || !done) break;
    }
    std::this_thread::sleep_for(wait);
    if (host) {
      market.kill_host();
      EXPECT_EQ(market.audit(), "");
      auto again = market.start();
      ASSERT_TRUE(again) << again.error().expected();
      ASSERT_TRUE(market.sync());
    } else {
      market.kill_enclave(chance() % 2 == 0 ? "keeper" : "trainer");
    }
    EXPECT_EQ(market.missing(), "");
  }
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  expect_whole(market, story);
}

TEST_F(CrashFlow, AnUploadGoesOnWhereItStopped) {
  LiveMarket market;
  ASSERT_TRUE(market.start());
  Bytes file = rows_file(3000);
  ASSERT_TRUE(market.upload(file, 20'000));
  market.kill_host();
  ASSERT_TRUE(market.start());
  Json ask = Json::Object{{"digest", ledger::sha256(file)}, {"size", file.size()}};
  auto begun = market.json("POST", "/v1/uploads", ask);
  ASSERT_TRUE(begun);
  EXPECT_EQ(*begun->find("offset")->integer(), 20'000);
  EXPECT_TRUE(market.upload(file, file.size()));
}

TEST_F(CrashFlow, AnEntrySentAgainAfterACrashHasItsOldPlace) {
  LiveMarket market;
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  Party lab{"lab"};
  auto deposit = contracts::sign_record(contracts::Deposit{lab.account(), 5}, market.treasury.key,
                                        market.market());
  ASSERT_TRUE(market.record(deposit));
  market.kill_host();
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.record(deposit));  // refuses another place
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().balance(lab.account()), 5);
}

}  // namespace
}  // namespace souk::flows
