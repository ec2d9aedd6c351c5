#include "ledger/witness/feeder.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "ledger/crypto/hash.h"
#include "tests/ledger/witness/witness_fixture.h"

namespace souk::ledger {
namespace {

using test::cosigner_of;
using test::FixedClock;
using test::Folder;
using test::key_of;
using test::kOrigin;
using test::log_note_key;
using test::WitnessHome;

constexpr int64_t kPatienceMs = 20'000;

// A witness behind a wire that a test can cut.
struct Wired {
  explicit Wired(uint8_t number, Clock* clock) : home(number, clock), witness(home.start()) {}

  WitnessFeeder::Exchange exchange() {
    return [this](const std::string& method, const std::string& path,
                  const std::string& body) -> Result<WitnessAnswer> {
      ++requests;
      if (down) return Error(Code::kTryAgain, "no answer");
      while (stopped) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      WitnessAnswer answer;
      if (method == "POST") {
        EXPECT_EQ(path, "/add-checkpoint");
        answer = witness->add_checkpoint(body);
      } else {
        EXPECT_EQ(path, "/" + to_hex(ByteView(sha256(as_bytes(kOrigin)))) + "/checkpoint");
        answer = witness->checkpoint(path.substr(1, 64));
      }
      if (lose_answers) return Error(Code::kTryAgain, "the connection broke");
      return answer;
    };
  }

  WitnessHome home;
  std::unique_ptr<Witness> witness;
  std::atomic<bool> down{false}, stopped{false}, lose_answers{false};
  std::atomic<int> requests{0};
};

class FeederTest : public ::testing::Test {
 protected:
  void SetUp() override {
    open_log();
    start_feeder({});
  }
  void TearDown() override {
    for (auto* one : {&one_, &two_, &three_}) one->stopped = false;
    feeder_.reset();
  }

  void open_log() {
    auto store = std::filesystem::exists(path()) ? LedgerStore::open(path()).take()
                                                 : LedgerStore::create(path()).take();
    log_ = Sequencer::start(std::move(store), key_of(9), kOrigin, clock_).take();
  }
  std::string path() const { return folder_.file("ledger.db"); }

  WitnessQuorum quorum() const {
    std::string text;
    for (uint8_t number = 5; number <= 7; ++number) {
      text += "witness W" + std::to_string(number) + " " + cosigner_of(number).vkey() + "\n";
    }
    return WitnessQuorum::parse(text + "group G 2 W5 W6 W7\nquorum G\n").take();
  }

  void start_feeder(ByteView saved) {
    auto needed = quorum();
    std::vector<WitnessFeeder::Peer> peers;
    for (auto* wired : {&one_, &two_, &three_}) {
      peers.push_back({needed.members()[peers.size()], wired->exchange()});
    }
    WitnessFeeder::Hooks hooks;
    hooks.keep_evidence = [this](const std::string& json) {
      evidence_.push_back(parse_canonical(json, 1 << 20).take());
      return "evidence-" + std::to_string(evidence_.size());
    };
    hooks.keep_state = [this](ByteView state) { state_ = Bytes(state.begin(), state.end()); };
    feeder_ =
        WitnessFeeder::start(*log_, std::move(needed), std::move(peers), std::move(hooks), saved);
  }
  void restart(ByteView saved) {
    feeder_.reset();
    log_.reset();
    open_log();
    start_feeder(saved);
  }
  void append(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) ASSERT_TRUE(log_->append(test::entry(next_++)));
    feeder_->kick();
  }
  Result<Witnessed> wait(int64_t max_age_ms = -1) {
    return feeder_->wait_for(log_->size(), max_age_ms, kPatienceMs);
  }
  void expect_witnessed(uint64_t size) {
    auto got = feeder_->wait_for(size, -1, kPatienceMs);
    ASSERT_TRUE(got) << got.error().expected();
    EXPECT_GE(got->size, size);
    auto checkpoint = open_checkpoint(got->note, log_note_key());
    ASSERT_TRUE(checkpoint);
    EXPECT_EQ(checkpoint->size, got->size);
    EXPECT_EQ(*quorum().witnessed_at(*parse_note(got->note)), got->time);
  }
  std::string kind(size_t at) const { return *evidence_.at(at).find("kind")->string(); }

  Folder folder_;
  FixedClock clock_{1'700'000'000'000};
  Wired one_{5, &clock_}, two_{6, &clock_}, three_{7, &clock_};
  std::unique_ptr<Sequencer> log_;
  std::unique_ptr<WitnessFeeder> feeder_;
  std::vector<Json> evidence_;
  Bytes state_;
  uint64_t next_ = 0;
};

TEST_F(FeederTest, BringsEveryCommittedCheckpointToAQuorum) {
  expect_witnessed(0);
  append(1);
  expect_witnessed(1);
  append(700);
  expect_witnessed(701);
  EXPECT_TRUE(feeder_->halted());
}

TEST_F(FeederTest, OneWitnessThatIsDownOrHangsHoldsUpNobody) {
  one_.down = true;
  append(3);
  expect_witnessed(3);
  one_.down = false;
  two_.stopped = true;
  append(3);
  expect_witnessed(6);
}

TEST_F(FeederTest, WithoutAQuorumNothingIsWitnessedAndTheReasonIsSaid) {
  append(1);
  expect_witnessed(1);
  one_.down = two_.down = true;
  append(1);
  auto got = feeder_->wait_for(2, -1, 2000);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kTryAgain);
  EXPECT_NE(got.error().expected().find("W5: no answer"), std::string::npos);
  EXPECT_EQ(feeder_->newest().size, 1u);
  one_.down = false;
  expect_witnessed(2);
}

TEST_F(FeederTest, CosignsTheSameTreeAgainForAYoungerTime) {
  append(1);
  expect_witnessed(1);
  auto before = feeder_->newest();
  clock_.set(1'700'000'090'000);
  auto again = wait(0);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->size, before.size);
  EXPECT_EQ(again->time, 1'700'000'090u);
}

// The witness has committed and we never heard of it.
TEST_F(FeederTest, ALostAnswerIsAskedForAgain) {
  append(5);
  expect_witnessed(5);
  one_.lose_answers = two_.lose_answers = true;
  append(5);
  EXPECT_FALSE(feeder_->wait_for(10, -1, 300));
  append(5);
  one_.lose_answers = two_.lose_answers = false;
  expect_witnessed(15);
  EXPECT_TRUE(feeder_->halted());
  EXPECT_TRUE(evidence_.empty());
}

TEST_F(FeederTest, GoesOnAfterARestartWithItsStateAndWithoutIt) {
  append(5);
  expect_witnessed(5);
  auto kept = state_;
  restart(kept);
  EXPECT_EQ(feeder_->newest().size, 5u);
  append(1);
  expect_witnessed(6);
  restart({});
  append(1);
  expect_witnessed(7);
  restart(as_bytes("{\"note\":\"rubbish\",\"sizes\":{}}"));
  append(1);
  expect_witnessed(8);
  EXPECT_TRUE(evidence_.empty());
}

TEST_F(FeederTest, AnOlderLedgerIsStoppedWithEvidenceThatConvictsIt) {
  append(3);
  expect_witnessed(3);
  feeder_.reset();
  log_.reset();
  std::filesystem::copy_file(path(), folder_.file("old.db"));
  open_log();
  // All at once: a witness holds three or seven, none a size between.
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(log_->append(test::entry(next_++)));
  start_feeder(state_);
  expect_witnessed(7);
  feeder_.reset();
  log_.reset();
  for (const char* part : {"-wal", "-shm"}) std::filesystem::remove(path() + part);
  std::filesystem::copy_file(folder_.file("old.db"), path(),
                             std::filesystem::copy_options::overwrite_existing);
  open_log();
  start_feeder(state_);
  auto got = wait(0);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kUnauthentic);
  EXPECT_FALSE(feeder_->halted());
  feeder_.reset();
  ASSERT_FALSE(evidence_.empty());
  EXPECT_EQ(kind(0), "larger_size");
  EXPECT_EQ(*evidence_[0].find("reported_size")->string(), "7");
  EXPECT_EQ(*evidence_[0].find("our_size")->string(), "3");
  // Both checkpoints, both signed by the log.
  EXPECT_TRUE(*evidence_[0].find("signed_by_this_log")->boolean());
  auto theirs = open_checkpoint(*evidence_[0].find("witness_checkpoint")->string(), log_note_key());
  ASSERT_TRUE(theirs);
  EXPECT_EQ(theirs->size, 7u);
}

TEST_F(FeederTest, AnotherContinuationOfOneLedgerIsStopped) {
  append(3);
  expect_witnessed(3);
  feeder_.reset();
  log_.reset();
  std::filesystem::copy_file(path(), folder_.file("copy.db"));
  open_log();
  start_feeder(state_);
  append(2);
  expect_witnessed(5);
  feeder_.reset();
  log_.reset();
  for (const char* part : {"-wal", "-shm"}) std::filesystem::remove(path() + part);
  std::filesystem::copy_file(folder_.file("copy.db"), path(),
                             std::filesystem::copy_options::overwrite_existing);
  open_log();
  next_ = 100;  // other entries than before
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(log_->append(test::entry(next_++)));
  start_feeder(state_);
  auto got = wait(0);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kUnauthentic);
  feeder_.reset();
  ASSERT_FALSE(evidence_.empty());
  EXPECT_EQ(kind(0), "fork");
}

TEST_F(FeederTest, AWitnessThatForgotCountsNoMoreAndTheOthersSuffice) {
  append(3);
  expect_witnessed(3);
  // All three hold it; then one comes back with an empty memory and an empty count.
  auto by_one = [&] {
    return feeder_->newest().note.find("witness.example/w5") != std::string::npos;
  };
  for (int i = 0; i < 2000 && !by_one(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_TRUE(by_one());
  feeder_.reset();
  auto saved = to_text(state_);
  ASSERT_NE(saved.find(cosigner_of(5).vkey() + "\":\"3\""), std::string::npos) << saved;
  WitnessHome empty(5, &clock_);
  one_.witness = empty.start();
  // The state says that it cosigned up to here.
  start_feeder(as_bytes(saved));
  append(1);
  expect_witnessed(4);
  for (int i = 0; i < 2000 && feeder_->troubles()[0].empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(feeder_->halted());
  EXPECT_FALSE(by_one());
  feeder_.reset();
  ASSERT_EQ(evidence_.size(), 1u);
  EXPECT_EQ(kind(0), "forgetful_witness");
}

TEST_F(FeederTest, TakesNoCosignatureOfSomebodyElse) {
  feeder_.reset();
  std::swap(one_.witness, two_.witness);  // each answers in the other's name
  start_feeder({});
  append(1);
  auto got = feeder_->wait_for(1, -1, 2000);
  ASSERT_FALSE(got);
  EXPECT_NE(got.error().expected().find("expected its cosignature"), std::string::npos);
}

}  // namespace
}  // namespace souk::ledger
