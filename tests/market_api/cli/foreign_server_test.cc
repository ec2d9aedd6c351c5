// What souk says of a server that is no market, or cannot answer now: 3 where it may pass by
// itself, 1 where it does not, and never 4. Nothing is called bad that was not looked at.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ledger/proof/checkpoint.h"
#include "ledger/proof/merkle.h"
#include "ledger/store/tiles_dir.h"
#include "market_api/client/identity.h"
#include "market_api/transport/server.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::market {
namespace {

using ledger::test::Folder;
using ledger::test::key_of;

struct Ran {
  int status = -1;
  std::string out, err;
};

class ForeignServer : public ::testing::Test {
 protected:
  void SetUp() override {
    auto builder = ledger::TilesBuilder::open(folder_.file("log")).take();
    std::vector<Digest> hashes;
    for (int i = 0; i < 300; ++i) {
      std::string leaf = "leaf " + std::to_string(i);
      hashes.push_back(ledger::leaf_hash(as_bytes(leaf)));
      ASSERT_TRUE(builder.add(as_bytes(leaf)));
    }
    ASSERT_TRUE(builder.finish());
    ASSERT_TRUE(builder.put_text(
        "checkpoint", ledger::sign_checkpoint(
                          {.origin = "log.example", .size = 300, .root = ledger::tree_root(hashes)},
                          log_, key_of(9))));
    // The log's files, but those whose path begins like this.
    auto answer = [this](const Request& request) -> Response {
      if (request.path.starts_with(from_)) return bare(status_);
      auto file = ledger::files_of(folder_.file("log"))(request.path.substr(1));
      if (!file) return bare(404);
      Response found;
      found.content_type = "application/octet-stream";
      found.body = std::move(*file);
      return found;
    };
    server_ = HttpServer::start("127.0.0.1", 0, answer).take();
    url_ = "http://127.0.0.1:" + std::to_string(server_->port());
  }
  // As a proxy says it: no word of ours.
  static Response bare(int status) {
    return {.status = status,
            .content_type = "text/html",
            .body = to_bytes("<html>" + std::to_string(status) + "</html>"),
            .headers = {},
            .file = {}};
  }
  Ran souk(const std::string& arguments) {
    const char* bin = std::getenv("SOUK_BIN");
    CHECK(bin != nullptr);
    std::string command = "SOUK_HOME=" + folder_.file("home") + " " + bin + "/souk " + arguments +
                          " >" + folder_.file("out") + " 2>" + folder_.file("err") + " </dev/null";
    int status = std::system(command.c_str());
    auto read = [&](const std::string& name) {
      std::ifstream in(folder_.file(name));
      return std::string(std::istreambuf_iterator<char>(in), {});
    };
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("out"), read("err")};
  }
  void expect_told(const std::string& arguments, int said, int expected) {
    auto ran = souk(arguments);
    EXPECT_EQ(ran.status, expected) << said << ": " << arguments << "\n" << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_NE(ran.err.find(std::to_string(said)), std::string::npos) << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
  }

  Folder folder_;
  const ledger::NoteKey log_ = ledger::NoteKey::of("log.example", key_of(9).public_key()).take();
  std::string from_ = "/";  // set while nobody asks
  std::atomic<int> status_ = 503;
  std::unique_ptr<HttpServer> server_;
  std::string url_;
};

TEST_F(ForeignServer, WhatMayPassByItselfIsNotNowAndTheRestIsNo) {
  const std::string key = " --key " + log_.vkey();
  const std::string market(64, 'a');
  for (const auto& [said, expected] : std::map<int, int>{
           {429, 3}, {500, 3}, {502, 3}, {503, 3}, {504, 3}, {401, 1}, {403, 1}, {404, 1}}) {
    status_ = said;
    from_ = "/";
    expect_told("init --market " + url_ + " --market-id " + market + " --name a", said, expected);
    EXPECT_FALSE(std::filesystem::exists(folder_.file("home")));
    for (const char* from : {"/", "/tile/entries/001", "/tile/entries/000"}) {
      from_ = from;
      expect_told("ledger export " + folder_.file("made") + " --url " + url_ + key, said, expected);
      EXPECT_FALSE(std::filesystem::exists(folder_.file("made")));
    }
    for (const char* from : {"/", "/tile/entries/001", "/tile/0/000", "/tile/1"}) {
      from_ = from;
      if (from_ != "/" && expected == 1) continue;  // it withholds what it signed for: bad
      expect_told("ledger audit --tiles " + url_ + key, said, expected);
    }
  }
  from_ = "/nothing";
  EXPECT_EQ(souk("ledger audit --tiles " + url_ + key).status, 0);
  from_ = "/tile/0/000";
  status_ = 404;
  auto withheld = souk("ledger audit --json --tiles " + url_ + key);
  EXPECT_EQ(withheld.status, 1);
  EXPECT_NE(withheld.out.find("\"ok\":false"), std::string::npos) << withheld.out;
}

TEST_F(ForeignServer, ExportIsOfThePinnedMarketAndImportIntoTheHomesMarket) {
  from_ = "/nothing";
  auto nowhere = souk("ledger export " + folder_.file("made"));
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_NE(nowhere.err.find("expected --data DIR, --url URL, or an identity that pins a market"),
            std::string::npos)
      << nowhere.err;
  Home home(folder_.file("home"));
  ASSERT_TRUE(home.create("lab", {url_, MarketId(), log_.vkey()}));
  auto exported = souk("ledger export " + folder_.file("made"));
  EXPECT_EQ(exported.status, 0) << exported.err;
  EXPECT_TRUE(std::filesystem::exists(folder_.file("made/tile/entries/001.p/44")));
  // Under the pinned key, and no other.
  ASSERT_TRUE(home.create(
      "fool",
      {url_, MarketId(), ledger::NoteKey::of("log.example", key_of(8).public_key())->vkey()}));
  EXPECT_EQ(souk("ledger export " + folder_.file("other") + " --as fool").status, 1);
  EXPECT_FALSE(std::filesystem::exists(folder_.file("other")));
  // These leaves are no ledger of ours; with --data or without, it is they that are refused.
  auto into = souk("ledger import " + folder_.file("made"));
  EXPECT_EQ(into.status, 1) << into.err;
  EXPECT_NE(into.err.find("entry 0"), std::string::npos) << into.err;
  EXPECT_FALSE(std::filesystem::exists(folder_.file("home/market")));
}

}  // namespace
}  // namespace souk::market
