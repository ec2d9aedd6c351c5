// A disk that is full while soukd runs, with real processes on a small file system of their
// own: nothing acknowledged is lost, readers go on, and so does the market when there is room.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "ledger/crypto/hash.h"
#include "tests/ledger/raw_file.h"
#include "tests/support/live_story.h"

namespace souk::flows {
namespace {

using contracts::Phase;

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_FALSE(program("soukd").empty() || program("souk").empty()) << "expected $SOUK_BIN";
  }
  void TearDown() override {
    market.kill_host();
    if (mounted_) umount2(market.data().c_str(), MNT_DETACH);
  }

  // False where this user may not mount.
  bool on_a_small_disk() {
    mkdir(market.data().c_str(), 0700);
    mounted_ = mount("souk-test", market.data().c_str(), "tmpfs", 0, "size=24m") == 0;
    return mounted_;
  }
  void fill() {
    int fd = open(filler().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
    ASSERT_GE(fd, 0);
    std::vector<char> zeros(1 << 20);
    // A file system counts its free pages roughly at first: full is what stays full.
    for (int full = 0; full < 5;) {
      bool any = false;
      for (size_t piece = zeros.size(); piece > 0;) {
        if (write(fd, zeros.data(), piece) > 0) {
          any = true;
        } else {
          piece /= 2;
        }
      }
      full = any ? 0 : full + 1;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    close(fd);
  }
  // All but so many bytes.
  void fill_up_to(off_t left) {
    fill();
    struct stat info {};
    ASSERT_EQ(stat(filler().c_str(), &info), 0);
    ASSERT_EQ(truncate(filler().c_str(), info.st_size - left), 0);
  }
  uint64_t free_bytes() const {
    struct statvfs info {};
    EXPECT_EQ(statvfs(market.data().c_str(), &info), 0);
    return uint64_t{info.f_bavail} * info.f_frsize;
  }
  // What soukd says of a job, once that begins with these words.
  bool job_says(const ContractId& contract, const std::string& words) {
    for (int i = 0; i < 2000; ++i) {
      auto job = market.get("/v1/jobs/" + to_hex(contract));
      const Json* detail = job ? job->find("detail") : nullptr;
      if (detail && detail->string() && detail->string()->starts_with(words)) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  // The first `until` bytes, in one piece; all: committed too.
  Status upload_at_once(ByteView file, size_t until) {
    Json ask = Json::Object{{"digest", ledger::sha256(file)}, {"size", file.size()}};
    auto begun = TRY(market.json("POST", "/v1/uploads", ask));
    auto path = "/v1/uploads/" + *begun.find("upload")->string();
    auto sent = TRY(market.http("PUT", path + "?offset=0", file.first(until)));
    if (sent.status != 200) return market::error_from(sent);
    if (until < file.size()) return Done{};
    auto committed = TRY(market.http("POST", path + "/commit"));
    if (committed.status != 201) return market::error_from(committed);
    return Done{};
  }
  void make_room() { unlink(filler().c_str()); }
  std::string filler() const { return market.data() + "/filler"; }
  std::string said() const { return read_text(market.logs() + "/soukd.err"); }
  void wait_until_it_says(const std::string& words) {
    for (int i = 0; i < 1000 && said().find(words) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_NE(said().find(words), std::string::npos) << said();
  }

  ledger::Envelope deposit(contracts::Minor minor) {
    return contracts::sign_record(contracts::Deposit{lab.account(), minor}, market.treasury.key,
                                  market.market());
  }
  // Exit status of a command line of souk, and what it wrote to stderr.
  int souk(const std::string& arguments, std::string* errors = nullptr) {
    std::string log = market.logs() + "/souk.err";
    std::string command = "SOUK_HOME=" + market.logs() + "/home " + program("souk") + " " +
                          arguments + " > /dev/null 2> " + log;
    int status = std::system(command.c_str());
    if (errors) *errors = read_text(log);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void make_a_client() {
    ASSERT_EQ(souk("init --market " + market.url() + " --market-id " + to_hex(market.market()) +
                   " --name lab"),
              0);
    auto seed = market.treasury.key.seed(SecretAccess{});
    auto bytes = seed.bytes(SecretAccess{});
    std::string key = market.logs() + "/treasury.key";
    std::ofstream(key) << to_hex(ByteView(bytes)) << "\n";
    ASSERT_EQ(chmod(key.c_str(), 0600), 0);
  }
  std::string pay(int minor) {
    return "treasury deposit --key " + market.logs() + "/treasury.key " + to_hex(lab.account()) +
           " " + std::to_string(minor);
  }

  LiveMarket market;
  Party lab{"lab"};

 private:
  bool mounted_ = false;
};

TEST_F(FullDisk, RefusesWritesInWordsServesReadersAndGoesOnWhenThereIsRoom) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  auto started = market.start();
  ASSERT_TRUE(started) << started.error().expected();
  ASSERT_TRUE(market.sync());
  make_a_client();
  fill();
  // Pages that the ledger's files have already are still theirs.
  contracts::Minor paid = 0;
  while (paid < 300 && market.record(deposit(1))) ++paid;
  ASSERT_LT(paid, 300);
  fill();
  ASSERT_TRUE(market.sync());
  auto size = market.state().size();

  auto second = deposit(2000);
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto answer = market.http("POST", "/v1/entries", envelope_bytes(second));
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 503);
    EXPECT_EQ(answer->content_type, "application/problem+json");
    auto error = market::error_from(*answer);
    EXPECT_EQ(error.code(), Code::kTryAgain);
    EXPECT_NE(error.expected().find("disk full"), std::string::npos) << error.expected();
    EXPECT_NE(error.expected().find("nothing was recorded"), std::string::npos);
  }
  std::string errors;
  EXPECT_EQ(souk(pay(300), &errors), 3);
  EXPECT_NE(errors.find("disk full"), std::string::npos) << errors;
  EXPECT_NE(errors.find("nothing was recorded"), std::string::npos) << errors;
  auto uploaded = market.upload(rows_file(400), rows_file(400).size());
  ASSERT_FALSE(uploaded);
  EXPECT_EQ(uploaded.error().code(), Code::kTryAgain) << uploaded.error().expected();
  wait_until_it_says("soukd: disk full");

  EXPECT_TRUE(market.sync());
  EXPECT_EQ(market.state().size(), size);
  EXPECT_EQ(market.missing(), "");
  EXPECT_EQ(souk("ledger audit"), 0);

  make_room();
  ASSERT_TRUE(market.record(second));
  wait_until_it_says("has room again");
  EXPECT_EQ(souk(pay(300)), 0);
  LiveStory story(market, rows_file(400), 400, 2, 20);
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  EXPECT_EQ(story.phase(), Phase::kSettled);
  EXPECT_EQ(story.verdict(), "");
  EXPECT_EQ(market.state().balance(lab.account()), paid + 2300);  // each once
  EXPECT_EQ(market.missing(), "");
  ASSERT_TRUE(market.stop_host());
  EXPECT_EQ(market.audit(), "");
}

TEST_F(FullDisk, ADeathOnItLosesNothingThatWasAcknowledged) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  for (int i = 1; i <= 20; ++i) ASSERT_TRUE(market.record(deposit(i)));
  fill();
  contracts::Minor paid = 210;
  auto refused = deposit(1);
  for (; paid < 500 && market.record(refused); ++paid) refused = deposit(1);
  ASSERT_LT(paid, 500);
  market.kill_host();
  make_room();
  auto again = market.start();
  ASSERT_TRUE(again) << again.error().expected();
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.missing(), "");
  EXPECT_EQ(market.state().balance(lab.account()), paid);
  ASSERT_TRUE(market.record(refused));
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().balance(lab.account()), paid + 1);
}

// A contract that meets the full disk on its way ends settled or refunded all the same.
TEST_F(FullDisk, AJobThatMeetsItEndsSettledOrRefunded) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  for (auto step : {LiveStory::Step::kSubmitted, LiveStory::Step::kRunning}) {
    SCOPED_TRACE(LiveStory::name_of(step));
    if (!market.running()) {
      ASSERT_TRUE(market.start());
    }
    LiveStory story(market, rows_file(400), 400, 2, 3000);
    ASSERT_TRUE(market.sync());
    for (auto next :
         {LiveStory::Step::kHalfUploaded, LiveStory::Step::kUploaded, LiveStory::Step::kOffered,
          LiveStory::Step::kDeposited, LiveStory::Step::kSubmitted, step}) {
      auto done = story.do_step(next);
      ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
    }
    fill();
    std::this_thread::sleep_for(std::chrono::milliseconds(700));
    make_room();
    auto finished = story.finish();
    ASSERT_TRUE(finished) << finished.error().expected();
    EXPECT_EQ(story.verdict(), "");
  }
  ASSERT_TRUE(market.stop_host());
  EXPECT_EQ(market.audit(), "");
}

// A result that finds no room is kept, and is there when there is some: nothing is trained, and
// no epsilon spent, for nothing.
TEST_F(FullDisk, AResultThatFindsNoRoomIsKeptUntilThereIsSome) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  ASSERT_TRUE(market.start());
  LiveStory story(market, rows_file(400), 400, 2, 20'000);
  for (auto next :
       {LiveStory::Step::kFounded, LiveStory::Step::kHalfUploaded, LiveStory::Step::kUploaded,
        LiveStory::Step::kOffered, LiveStory::Step::kDeposited, LiveStory::Step::kSubmitted,
        LiveStory::Step::kRunning}) {
    auto done = story.do_step(next);
    ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
  }
  fill();
  ASSERT_TRUE(job_says(story.contract(), "its end waits: disk full"));
  std::this_thread::sleep_for(std::chrono::seconds(1));
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(story.phase(), Phase::kRunning);
  make_room();
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  EXPECT_EQ(story.phase(), Phase::kSettled);
  EXPECT_EQ(story.verdict(), "");
}

// A job whose model has no room is not started: it waits in escrow, with nothing committed.
TEST_F(FullDisk, AJobWaitsForTheRoomOfItsModelBeforeItIsStarted) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  ASSERT_TRUE(market.start());
  LiveStory story(market, rows_file(400), 400, 2, 2);
  story.hidden = 1000;  // a file of 4 MB
  for (auto next :
       {LiveStory::Step::kFounded, LiveStory::Step::kHalfUploaded, LiveStory::Step::kUploaded,
        LiveStory::Step::kOffered, LiveStory::Step::kDeposited}) {
    auto done = story.do_step(next);
    ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
  }
  fill_up_to(5 << 20);
  ASSERT_TRUE(story.do_step(LiveStory::Step::kSubmitted));
  ASSERT_TRUE(job_says(story.contract(), "start waits: disk full"));
  std::this_thread::sleep_for(std::chrono::seconds(2));
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(story.phase(), Phase::kEscrowed);
  EXPECT_FALSE(market.state().contract(story.contract())->start);
  make_room();
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  EXPECT_EQ(story.phase(), Phase::kSettled);
  EXPECT_EQ(story.verdict(), "");
}

// Who uploads all day fills what is there for uploads, and no more.
TEST_F(FullDisk, UploadsOfStrangersLeaveRoomForTheLedgerAndForModels) {
  if (!on_a_small_disk()) GTEST_SKIP() << "this user may not mount a file system";
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  make_a_client();
  LiveStory story(market, rows_file(400), 400, 2, 20);
  for (auto next : {LiveStory::Step::kHalfUploaded, LiveStory::Step::kUploaded,
                    LiveStory::Step::kOffered, LiveStory::Step::kDeposited}) {
    auto done = story.do_step(next);
    ASSERT_TRUE(done) << LiveStory::name_of(next) << ": " << done.error().expected();
  }
  uint32_t number = 0;
  for (size_t size : {size_t{1} << 20, size_t{1} << 16, size_t{1} << 12, size_t{512}}) {
    for (bool room = true; room;) {
      Bytes bytes(size, static_cast<uint8_t>(number));
      std::memcpy(bytes.data(), &number, sizeof number);
      // Some come to an end, some never do.
      auto uploaded = upload_at_once(bytes, ++number % 3 == 0 ? size / 2 + 1 : size);
      room = static_cast<bool>(uploaded);
      if (room) continue;
      EXPECT_EQ(uploaded.error().code(), Code::kTryAgain);
      EXPECT_NE(uploaded.error().expected().find("disk full"), std::string::npos)
          << uploaded.error().expected();
    }
  }
  EXPECT_GT(number, 10U);
  EXPECT_GT(free_bytes(), uint64_t{5} << 20);
  std::string table = market.logs() + "/table.csv", policy = market.logs() + "/policy.lua";
  std::ofstream(table) << "a,b,kind\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n";
  std::ofstream(policy) << kNoisyPolicy;
  std::string errors;
  EXPECT_EQ(souk("dataset publish " + table + " --policy " + policy +
                     " --label kind --budget-epsilon 1 --budget-delta 1e-6 --price 1",
                 &errors),
            3);
  EXPECT_NE(errors.find("disk full"), std::string::npos) << errors;
  auto finished = story.finish();
  ASSERT_TRUE(finished) << finished.error().expected();
  EXPECT_EQ(story.phase(), Phase::kSettled);
  EXPECT_EQ(story.verdict(), "");
  ASSERT_TRUE(market.stop_host());
  EXPECT_EQ(market.audit(), "");
}

// Any other failed commit: nobody can tell what is on the disk but the next start.
TEST_F(FullDisk, AWriteOfUnknownOutcomeEndsTheHostInWordsAndTheNextStartFindsOut) {
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  ASSERT_TRUE(market.record(deposit(1)));
  // A deferred constraint that can only fail inside COMMIT itself.
  std::string ledger = market.data() + "/ledger.db";
  ASSERT_TRUE(ledger::test::raw_sql(
      ledger,
      "CREATE TABLE parent(id INTEGER PRIMARY KEY);"
      "CREATE TABLE child(id INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);"
      "CREATE TRIGGER fault AFTER INSERT ON entry BEGIN INSERT INTO child VALUES(NEW.seq + 1000); "
      "END;"));
  auto doubtful = deposit(20);
  ASSERT_FALSE(market.record(doubtful));
  int status = 0;
  ASSERT_EQ(waitpid(market.host(), &status, 0), market.host());
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_NE(said().find("the ledger's last write has no known outcome"), std::string::npos)
      << said();
  market.forget_host();
  ASSERT_TRUE(
      ledger::test::raw_sql(ledger, "DROP TRIGGER fault; DROP TABLE child; DROP TABLE parent"));
  auto again = market.start();
  ASSERT_TRUE(again) << again.error().expected();
  ASSERT_TRUE(market.record(doubtful));
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().balance(lab.account()), 21);
  EXPECT_EQ(market.missing(), "");
}

}  // namespace
}  // namespace souk::flows
