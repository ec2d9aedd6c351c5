// soukd, called wrongly: exit status 2, one clear line, and nothing made.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/support/live_market.h"

namespace souk::flows {
namespace {

namespace fs = std::filesystem;

struct Called {
  int status = -1;
  std::string out, err;
};

// RFC 8032, 7.1, test 1.
constexpr char kSomebody[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

class SoukdTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_FALSE(program("soukd").empty()) << "expected soukd in $SOUK_BIN"; }

  static std::string text_in(const std::string& path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  Called call(const std::string& arguments) {
    std::string command = "HOME='" + folder.path() + "' timeout 60 '" + program("soukd") + "' " +
                          arguments + " >'" + folder.file("out") + "' 2>'" + folder.file("err") +
                          "'";
    int raw = std::system(command.c_str());
    return {WIFEXITED(raw) ? WEXITSTATUS(raw) : -1, text_in(folder.file("out")),
            text_in(folder.file("err"))};
  }
  void expect_usage(const std::string& arguments, const std::string& clue) {
    auto called = call(arguments);
    EXPECT_EQ(called.status, 2) << arguments << "\n" << called.err;
    EXPECT_EQ(called.out, "") << arguments;
    EXPECT_NE(called.err.find(clue), std::string::npos) << arguments << "\n" << called.err;
    EXPECT_EQ(std::count(called.err.begin(), called.err.end(), '\n'), 1) << called.err;
    EXPECT_FALSE(fs::exists(folder.file("market"))) << arguments << " made something";
  }

  TempFolder folder;
};

TEST_F(SoukdTest, WrongCallsMakeNothing) {
  std::string data = "--data '" + folder.file("market") + "' ";
  std::string treasury = "--treasury " + std::string(kSomebody) + " ";
  expect_usage("", "--data");
  expect_usage(data + "--frobnicate", "--frobnicate");
  expect_usage(data + treasury + "--port 99999", "--port");
  expect_usage(data + treasury + "--host 0.0.0.0", "127.x.y.z");
  expect_usage(data + treasury + "--host ::1", "127.x.y.z");
  expect_usage(data + treasury + "--currency euro", "--currency");
  expect_usage(data + treasury + "--currency EU", "--currency");
  expect_usage(data + "--treasury zz", "--treasury");
  // Nobody can sign for zeros, for points of small order, or for what is no point.
  for (const std::string& nobody :
       {std::string(64, '0'), "01" + std::string(62, '0'),
        std::string("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        "ec" + std::string(60, 'f') + "7f", "02" + std::string(62, '0')}) {
    expect_usage(data + "--treasury " + nobody, "--treasury");
  }
  expect_usage("--data /dev/null " + treasury, "/dev/null");
  expect_usage("--data /proc/none/such " + treasury, "/proc/none/such");
}

TEST_F(SoukdTest, HelpIsAYes) {
  auto called = call("--help");
  EXPECT_EQ(called.status, 0);
  EXPECT_NE(called.out.find("--data"), std::string::npos);
}

TEST_F(SoukdTest, ASecondOneOnTheSameFolderLeavesTheFirstAlone) {
  LiveMarket market;
  ASSERT_TRUE(market.start());
  ASSERT_TRUE(market.sync());
  uint64_t size = market.state().size();
  auto second = call("--data '" + market.data() + "'");
  EXPECT_EQ(second.status, 3) << second.err;
  EXPECT_NE(second.err.find("no other soukd"), std::string::npos) << second.err;
  EXPECT_EQ(second.out, "");
  Party lab{"lab"};
  ASSERT_TRUE(market.record(contracts::sign_record(contracts::Deposit{lab.account(), 5},
                                                   market.treasury.key, market.market())));
  ASSERT_TRUE(market.sync());
  EXPECT_EQ(market.state().size(), size + 1);
  market.kill_host();
  EXPECT_EQ(market.audit(), "");
}

TEST_F(SoukdTest, WhatIsLeftOfAMarketIsNotFoundedAnew) {
  LiveMarket market;
  ASSERT_TRUE(market.start());
  market.kill_host();
  for (const char* end : {"", "-wal", "-shm"}) fs::remove(market.data() + "/ledger.db" + end);
  auto called = call("--treasury " + std::string(kSomebody) + " --data '" + market.data() + "'");
  EXPECT_EQ(called.status, 2) << called.err;
  EXPECT_NE(called.err.find("ledger.db: expected the ledger"), std::string::npos) << called.err;
  EXPECT_FALSE(fs::exists(market.data() + "/ledger.db"));
}

}  // namespace
}  // namespace souk::flows
