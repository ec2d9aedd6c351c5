// The log as other people's tools see it: its checkpoint, its tiles, its entries.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "ledger/audit/tiles_audit.h"
#include "ledger/codec/json_reals.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "tests/support/live_story.h"

namespace souk::flows {
namespace {

namespace fs = std::filesystem;

struct Ran {
  int status = -1;
  std::string output;
};

Ran shell(const std::string& command) {
  Ran ran;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return ran;
  char piece[4096];
  while (size_t got = std::fread(piece, 1, sizeof piece, pipe)) ran.output.append(piece, got);
  int status = ::pclose(pipe);
  ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ran;
}

class TlogFlow : public ::testing::Test {
 protected:
  void SetUp() override {
    auto started = market.start();
    ASSERT_TRUE(started) << started.error().expected();
    ASSERT_TRUE(market.sync());
  }
  std::string key() { return *market.get("/v1/market")->find("vkey")->string(); }
  // More entries: deposits to the treasury's own account.
  void add(int count) {
    for (int i = 0; i < count; ++i) {
      auto recorded = market.record(contracts::sign_record(contracts::Deposit{lab.account(), 1 + i},
                                                           market.treasury.key, market.market()));
      ASSERT_TRUE(recorded) << recorded.error().expected();
    }
  }
  std::string folder() const { return market.data() + "/.."; }

  LiveMarket market;
  Party lab{"lab"};
};

TEST_F(TlogFlow, ServesCheckpointTilesAndBundlesWithTheirHeaders) {
  add(3);
  auto checkpoint = market.http("GET", "/checkpoint");
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->status, 200);
  EXPECT_EQ(checkpoint->content_type, "text/plain; charset=utf-8");
  EXPECT_EQ(checkpoint->headers.at("cache-control"), "no-cache");
  auto note_key = ledger::NoteKey::parse(key()).take();
  auto head = ledger::open_checkpoint(as_text(checkpoint->body), note_key);
  ASSERT_TRUE(head);
  std::string width = std::to_string(head->size);
  auto tile = market.http("GET", "/tile/0/000.p/" + width);
  ASSERT_TRUE(tile);
  ASSERT_EQ(tile->status, 200);
  EXPECT_EQ(tile->content_type, "application/octet-stream");
  EXPECT_EQ(tile->headers.at("cache-control"), "public, max-age=31536000, immutable");
  EXPECT_EQ(tile->body.size(), head->size * 32);
  auto bundle = market.http("GET", "/tile/entries/000.p/" + width);
  ASSERT_TRUE(bundle);
  auto leaves = ledger::parse_bundle(bundle->body, head->size);
  ASSERT_TRUE(leaves);
  EXPECT_EQ(ledger::leaf_hash(leaves->front()), (*fixed<32>(ByteView(tile->body).first(32))));
  // An earlier width is a beginning of it.
  auto narrow = market.http("GET", "/tile/0/000.p/1");
  EXPECT_EQ(narrow->body, Bytes(tile->body.begin(), tile->body.begin() + 32));

  auto status = [&](const std::string& path) { return market.http("GET", path)->status; };
  for (const char* absent :
       {"/tile/0/000", "/tile/0/000.p/255", "/tile/0/001.p/1", "/tile/1/000.p/1", "/tile/63/000",
        "/tile/entries/000", "/tile/entries/x001/000"}) {
    EXPECT_EQ(status(absent), 404) << absent;
  }
  for (const char* impossible : {"/tile/64/000", "/tile/0/0", "/tile/00/000", "/tile/0/000.p/0",
                                 "/tile/0/000.p/256", "/tile/0/x000/001", "/tile/0/000.p/01",
                                 "/tile/entries/000.p/", "/tile/data/000", "/tile/0", "/tile"}) {
    EXPECT_EQ(status(impossible), 400) << impossible;
  }
  EXPECT_EQ(market.http("GET", "/tile/0/001")->headers.at("cache-control"), "no-store");
}

TEST_F(TlogFlow, AnswersHeadAndConditionalRequestsAndRefusesToBeWrittenTo) {
  add(3);
  auto curl = [&](const std::string& arguments) {
    auto ran = shell("curl -s -o /dev/stdout " + arguments);
    EXPECT_EQ(ran.status, 0) << arguments;
    return ran.output;
  };
  auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  auto tile = curl("-I " + market.url() + "/tile/0/000.p/2");
  EXPECT_TRUE(has(tile, " 200 ") && has(tile, "Content-Length: 64\r") &&
              has(tile, "public, max-age=31536000, immutable"))
      << tile;
  auto checkpoint = curl("-I " + market.url() + "/checkpoint");
  EXPECT_TRUE(has(checkpoint, " 200 ") && has(checkpoint, "no-cache")) << checkpoint;
  size_t at = checkpoint.find("ETag: ");
  ASSERT_NE(at, std::string::npos) << checkpoint;
  auto tag = checkpoint.substr(at + 6, checkpoint.find('\r', at) - at - 6);
  auto again = [&] {
    return curl("-i -H 'If-None-Match: " + tag + "' " + market.url() + "/checkpoint");
  };
  EXPECT_TRUE(has(again(), " 304 "));
  add(1);
  EXPECT_TRUE(has(again(), " 200 "));
  for (const char* path : {"/checkpoint", "/tile/0/000.p/2"}) {
    auto refused = curl("-i -X POST -d x " + market.url() + path);
    EXPECT_TRUE(has(refused, " 405 ") && has(refused, "Allow: GET, HEAD\r")) << refused;
  }
}

TEST_F(TlogFlow, DebiansGoModuleToolsVerifyTheLiveLog) {
  std::string sumdb = "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog";
  if (shell("go version").status != 0 || !fs::exists(sumdb)) {
    GTEST_SKIP() << "needs the Debian packages golang-go and golang-golang-x-mod-dev";
  }
  const char* source = std::getenv("SOUK_SOURCE");
  ASSERT_NE(source, nullptr);
  std::string go = "GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE=" + folder() + "/gocache ";
  auto built = shell(go + "go build -o " + folder() + "/verify_log " + source +
                     "/tests/interop/verify_log.go");
  ASSERT_EQ(built.status, 0) << built.output;

  std::string earlier;
  auto note_key = ledger::NoteKey::parse(key()).take();
  for (int more : {0, 1, 6, 253}) {  // the last fills a tile
    add(more);
    auto served = market.http("GET", "/checkpoint");
    auto head = ledger::open_checkpoint(as_text(served->body), note_key);
    ASSERT_TRUE(head);
    auto verified = shell(folder() + "/verify_log " + market.url() + " '" + key() + "'" + earlier);
    EXPECT_EQ(verified.status, 0) << verified.output;
    EXPECT_NE(verified.output.find(std::to_string(head->size) + " entries"), std::string::npos)
        << verified.output;
    earlier += " " + std::to_string(head->size) + ":" + to_base64(head->root);
  }
  // A tree that never was is not taken for an earlier one.
  auto forged = shell(folder() + "/verify_log " + market.url() + " '" + key() +
                      "' 3:" + to_base64(Digest{1}));
  EXPECT_NE(forged.status, 0);
}

TEST_F(TlogFlow, ExportIsAuditedAndRestoredAndNothingAlteredIs) {
  add(260);
  ASSERT_TRUE(market.sync());
  auto size = market.state().size();
  std::string souk = program("souk") + " ";
  std::string served = "'" + key() + "'";
  auto live = shell(souk + "ledger audit --json --tiles " + market.url() + " --key " + served);
  EXPECT_EQ(live.status, 0) << live.output;
  market.kill_host();
  std::string out = folder() + "/out";
  auto exported = shell(souk + "ledger export " + out + " --json --data " + market.data());
  ASSERT_EQ(exported.status, 0) << exported.output;
  auto audited = shell(souk + "ledger audit --json --tiles " + out + " --key " + served);
  ASSERT_EQ(audited.status, 0) << audited.output;
  auto json = parse_json_marking_reals(audited.output).take();
  EXPECT_EQ(*json.find("signatures")->integer(), static_cast<int64_t>(size));
  std::string back = folder() + "/back";
  auto restored = shell(souk + "ledger import " + out + " --json --data " + back);
  ASSERT_EQ(restored.status, 0) << restored.output;
  auto file = shell(souk + "ledger audit --json --data " + back);
  EXPECT_EQ(file.status, 0) << file.output;
  EXPECT_NE(file.output.find("\"size\":" + std::to_string(size)), std::string::npos);
  EXPECT_NE(shell(souk + "ledger import " + out + " --data " + back).status, 0);  // never over one

  // One letter of one entry, whatever it was: named by file and bytes, and not imported.
  std::string bundle = out + "/tile/entries/000";
  {
    std::fstream entries(bundle, std::ios::in | std::ios::out | std::ios::binary);
    entries.seekg(5000);
    const int was = entries.get();
    entries.seekp(5000);
    entries.put(was == 'X' ? 'Y' : 'X');
    ASSERT_TRUE(entries.flush());
  }
  auto bad = shell(souk + "ledger audit --json --tiles " + out + " --key " + served);
  EXPECT_EQ(bad.status, 1) << bad.output;
  auto report = parse_json_marking_reals(bad.output).take();
  EXPECT_EQ(*report.find("file")->string(), "tile/entries/000");
  auto range = *report.find("byte_range")->array();
  EXPECT_LE(*range[0].integer(), 5000);
  EXPECT_GT(*range[1].integer(), 5000);
  auto refused = shell(souk + "ledger import " + out + " --data " + folder() + "/none");
  EXPECT_EQ(refused.status, 1) << refused.output;
  EXPECT_FALSE(fs::exists(folder() + "/none/ledger.db"));
  // The entry that was changed, not the next one, whose chain it breaks.
  const std::string entry = "entry " + std::to_string(*report.find("first_bad")->integer()) + ":";
  EXPECT_NE(refused.output.find(entry), std::string::npos) << entry << " " << refused.output;
}

}  // namespace
}  // namespace souk::flows
