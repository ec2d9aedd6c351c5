#include "market_api/witness/routes.h"

#include <gtest/gtest.h>

#include "ledger/crypto/hash.h"
#include "market_api/transport/client.h"
#include "market_api/transport/server.h"
#include "tests/ledger/witness/witness_fixture.h"

namespace souk::market {
namespace {

using ledger::test::FakeLog;
using ledger::test::kOrigin;
using ledger::test::WitnessHome;

// Over a real connection, as a log elsewhere would speak to it.
class WitnessHttp : public ::testing::Test {
 protected:
  Response send(const std::string& method, const std::string& path, const std::string& body = "") {
    auto answer = client_.send(method, path, as_bytes(body), "text/plain");
    EXPECT_TRUE(answer);
    return answer ? std::move(*answer) : Response{};
  }

  FakeLog log_{10};
  WitnessHome home_;
  std::unique_ptr<ledger::Witness> witness_ = home_.start();
  std::unique_ptr<HttpServer> server_ =
      HttpServer::start("127.0.0.1", 0, [this](const Request& request) {
        return route_witness(*witness_, "/w", request);
      }).take();
  HttpClient client_ =
      HttpClient::open("http://127.0.0.1:" + std::to_string(server_->port())).take();
};

TEST_F(WitnessHttp, AnswersWithTheCodesAndTypesOfTheSpecification) {
  auto added = send("POST", "/w/add-checkpoint", log_.request(0, 4).text());
  EXPECT_EQ(added.status, 200);
  auto lines = ledger::parse_signature_lines(as_text(added.body));
  ASSERT_TRUE(lines);
  EXPECT_EQ(lines->size(), 1u);

  auto stale = send("POST", "/w/add-checkpoint", log_.request(0, 9).text());
  EXPECT_EQ(stale.status, 409);
  EXPECT_EQ(stale.content_type, "text/x.tlog.size");
  EXPECT_EQ(as_text(stale.body), "4\n");

  EXPECT_EQ(send("POST", "/w/add-checkpoint", "old 4\n").status, 400);
  EXPECT_EQ(send("POST", "/w/add-checkpoint", FakeLog(10, 1).request(4, 9).text()).status, 422);
}

TEST_F(WitnessHttp, ServesTheNewestCheckpointToMonitors) {
  auto path = "/w/" + to_hex(ByteView(ledger::sha256(as_bytes(kOrigin)))) + "/checkpoint";
  EXPECT_EQ(send("GET", path).status, 404);
  auto added = send("POST", "/w/add-checkpoint", log_.request(0, 4).text());
  auto shown = send("GET", path);
  EXPECT_EQ(shown.status, 200);
  EXPECT_EQ(as_text(shown.body), log_.note(4) + to_text(added.body));
}

TEST_F(WitnessHttp, KnowsNoOtherPathsAndMethods) {
  EXPECT_EQ(send("GET", "/w/add-checkpoint").status, 405);
  EXPECT_EQ(send("POST", "/w/" + std::string(64, 'a') + "/checkpoint").status, 405);
  for (const char* path : {"/", "/w", "/add-checkpoint", "/w/add-checkpoint/", "/w/checkpoint",
                           "/w/sign-subtree", "/w/abc/checkpoint"}) {
    EXPECT_EQ(send("POST", path).status, 404) << path;
    EXPECT_EQ(send("GET", path).status, 404) << path;
  }
}

}  // namespace
}  // namespace souk::market
