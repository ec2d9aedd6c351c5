// What our client asks for and takes from a server that is not ours, played by one that is.
#include "market_api/transport/client.h"

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "market_api/transport/server.h"

namespace souk::market {
namespace {

Response saying(std::string_view body) {
  Response response;
  response.status = 200;
  response.content_type = "text/plain";
  response.body = to_bytes(body);
  return response;
}

std::unique_ptr<HttpServer> serving(Handler handler) {
  return HttpServer::start("127.0.0.1", 0, std::move(handler)).take();
}

std::string url_of(const HttpServer& server) {
  return "http://127.0.0.1:" + std::to_string(server.port());
}

HttpClient client_of(const HttpServer& server) {
  return HttpClient::open(url_of(server)).take();
}

// A static log may be served packed, and a proxy may pack what it passes on.
TEST(Client, UnpacksWhatCameInGzipAndNoMoreThanItAskedFor) {
  // "hello" by gzip -9n.
  const Bytes packed{0x1f, 0x8b, 0x08, 0,    0,    0,    0,    0,    0x02, 0x03, 0xcb, 0x48, 0xcd,
                     0xc9, 0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 0x05, 0,    0,    0};
  std::string coding = "gzip", accepted;
  Bytes body = packed;
  auto server = serving([&](const Request& request) {
    accepted = request.headers.at("accept-encoding");
    Response response = saying("");
    response.body = body;
    response.headers["Content-Encoding"] = coding;
    return response;
  });
  auto http = client_of(*server);
  auto ask = [&](size_t most) { return http.send("GET", "/", {}, "", 30, most); };
  auto hello = ask(1000);
  ASSERT_TRUE(hello) << hello.error().expected();
  EXPECT_EQ(as_text(hello->body), "hello");
  EXPECT_EQ(hello->headers.count("content-encoding"), 0u);
  EXPECT_NE(accepted.find("gzip"), std::string::npos);
  EXPECT_EQ(ask(4).error().code(), Code::kRefused);
  body.resize(body.size() - 1);
  EXPECT_EQ(ask(1000).error().code(), Code::kRefused);
  body = to_bytes("hello");
  EXPECT_EQ(ask(1000).error().code(), Code::kRefused);
  coding = "identity";
  EXPECT_EQ(as_text(ask(1000)->body), "hello");
  coding = "br";
  EXPECT_EQ(ask(1000).error().code(), Code::kRefused);
}

TEST(Client, RefusesAnAnswerLargerThanAskedFor) {
  auto server = serving([](const Request&) { return saying(std::string(300000, 'b')); });
  auto http = client_of(*server);
  auto response = http.send("GET", "/", {}, "", 30, 299999);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), Code::kRefused);
  auto enough = http.send("GET", "/", {}, "", 30, 300000);
  ASSERT_TRUE(enough) << enough.error().expected();
  EXPECT_EQ(enough->body.size(), 300000u);
}

TEST(Client, WithoutAnAnswerInTimeIsToldToTryAgain) {
  std::promise<void> gate;
  auto open = gate.get_future().share();
  auto server = serving([open](const Request&) {
    open.wait();
    return saying("late");
  });
  auto response = client_of(*server).send("GET", "/", {}, "", 1);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), Code::kTryAgain);
  gate.set_value();
}

TEST(Client, SaysWhereAPortIsDead) {
  auto server = serving([](const Request&) { return saying("here"); });
  const std::string url = url_of(*server);
  auto http = client_of(*server);
  ASSERT_TRUE(http.send("GET", "/"));
  server->stop();
  auto response = http.send("GET", "/");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), Code::kTryAgain);
  EXPECT_NE(response.error().expected().find(url), std::string::npos);
}

TEST(Client, WantsAPlainWebUrl) {
  for (auto* url :
       {"", "localhost:1", "ftp://x/", "http://", "http://x/?q=1", "http://u@x/", "/"}) {
    auto http = HttpClient::open(url);
    ASSERT_FALSE(http) << url;
    EXPECT_EQ(http.error().code(), Code::kMalformed);
  }
  auto http = HttpClient::open("http://127.0.0.1:1");
  ASSERT_TRUE(http);
  EXPECT_EQ(http->send("GET", "nowhere").error().code(), Code::kMalformed);
  EXPECT_EQ(http->send("GET", "/a b").error().code(), Code::kMalformed);
}

}  // namespace
}  // namespace souk::market
