// A real server on the loopback interface, our client, and raw sockets for what no
// well-behaved client would send.
#include "market_api/transport/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "market_api/transport/client.h"

namespace souk::market {
namespace {

using namespace std::chrono_literals;

Response text(int status, std::string_view body) {
  return {.status = status,
          .content_type = "text/plain",
          .body = to_bytes(body),
          .headers = {},
          .file = {}};
}

class RawConnection {
 public:
  explicit RawConnection(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(port);
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0;
  }
  ~RawConnection() { ::close(fd_); }
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  bool connected() const { return connected_; }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Everything up to and including `mark`, or what came before 10 s of silence or the end.
  std::string read_until(std::string_view mark) {
    std::string got;
    while (got.find(mark) == std::string::npos) {
      auto more = read_some(10000);
      if (more.empty()) break;
      got += more;
    }
    return got;
  }
  // What arrives within `wait`; empty if nothing does.
  std::string read_some(int wait_ms) {
    pollfd waiting{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&waiting, 1, wait_ms) <= 0) return {};
    char buffer[4096];
    ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    return n > 0 ? std::string(buffer, static_cast<size_t>(n)) : std::string();
  }

 private:
  int fd_;
  bool connected_ = false;
};

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    start({.max_body = 1 << 20, .workers = 4, .max_waiting = 64});
    char name[] = "/tmp/souk-transport-XXXXXX";
    ASSERT_GE(file_ = ::mkstemp(name), 0);
    file_name_ = name;
  }
  void TearDown() override {
    server_.reset();
    ::close(file_);
    ::unlink(file_name_.c_str());
  }
  void start(HttpLimits limits) {
    auto server = HttpServer::start(
        "127.0.0.1", 0, [this](const Request& request) { return answer(request); }, limits);
    ASSERT_TRUE(server) << server.error().expected();
    server_ = std::move(server).take();
  }
  HttpClient client() {
    return HttpClient::open("http://127.0.0.1:" + std::to_string(server_->port())).take();
  }
  // The head of the answer to a raw request, or "" if there was none.
  std::string raw(std::string_view request) {
    RawConnection connection(server_->port());
    connection.send(request);
    return connection.read_until("\r\n\r\n");
  }

  Response answer(const Request& request) {
    ++handled_;
    if (request.path == "/echo") {
      Response response = text(200, "");
      response.body = request.body;
      response.headers["x-method"] = request.method;
      auto type = request.headers.find("content-type");
      response.headers["x-type"] = type == request.headers.end() ? "" : type->second;
      for (const auto& [name, value] : request.query) response.headers["x-q-" + name] = value;
      return response;
    }
    if (request.path == "/throw") throw std::runtime_error("secret detail");
    if (request.path == "/throw-int") throw 42;
    if (request.path == "/empty") return text(204, "");
    if (request.path == "/empty-ok") return text(200, "");
    if (request.path == "/length-without-body") {
      auto response = text(200, "");
      response.headers["Content-Length"] = "5";
      return response;
    }
    if (request.path == "/split") {
      auto response = text(200, "x");
      response.headers["x-name"] = "a\r\nSet-Cookie: stolen=1";
      return response;
    }
    if (request.path == "/file") {
      auto response = text(200, "");
      response.file = FilePart{.path = file_name_,
                               .offset = std::stoull(request.query.at("offset")),
                               .length = std::stoull(request.query.at("length"))};
      return response;
    }
    if (request.path == "/big") return text(200, std::string(300000, 'b'));
    if (request.path == "/wait") {
      std::unique_lock lock(mutex_);
      ++waiting_;
      changed_.notify_all();
      changed_.wait_for(lock, 20s, [this] { return open_; });
      return text(200, "waited");
    }
    return problem(404, "not_found", "Not found", "expected a known path");
  }
  void wait_for_waiting(int count) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, 20s, [&] { return waiting_ >= count; }));
  }
  void open_gate() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

  std::unique_ptr<HttpServer> server_;
  std::atomic<int> handled_{0};
  std::string file_name_;
  int file_ = -1;
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

TEST_F(ServerTest, EchoesMethodQueryTypeAndBody) {
  auto http = client();
  Bytes body(100000);
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<uint8_t>(i * 7);
  for (auto* method : {"POST", "PUT", "PATCH", "DELETE"}) {
    auto response = http.send(method, "/echo?a=x%20y&b=", body, "application/x-test");
    ASSERT_TRUE(response) << response.error().expected();
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->body, body);
    EXPECT_EQ(response->content_type, "text/plain");
    EXPECT_EQ(response->headers["x-method"], method);
    EXPECT_EQ(response->headers["x-type"], "application/x-test");
    EXPECT_EQ(response->headers["x-q-a"], "x y");
  }
}

TEST_F(ServerTest, AnEmptyBodyIsABody) {
  auto http = client();
  auto response = http.send("POST", "/echo");
  ASSERT_TRUE(response) << response.error().expected();
  EXPECT_EQ(response->status, 200);
  EXPECT_TRUE(response->body.empty());
}

TEST_F(ServerTest, AnUnknownPathIsAProblem404) {
  auto response = client().send("GET", "/nowhere");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 404);
  EXPECT_EQ(response->content_type, "application/problem+json");
  EXPECT_EQ(error_from(*response).code(), Code::kNotFound);
}

TEST_F(ServerTest, ABodyOfExactlyTheLimitPassesAndOneByteMoreIs413) {
  auto http = client();
  auto exact = http.send("POST", "/echo", Bytes(1 << 20));
  ASSERT_TRUE(exact) << exact.error().expected();
  EXPECT_EQ(exact->status, 200);
  int before = handled_;
  auto more = http.send("POST", "/echo", Bytes((1 << 20) + 1));
  ASSERT_TRUE(more) << more.error().expected();
  EXPECT_EQ(more->status, 413);
  EXPECT_EQ(handled_, before);
  auto next = http.send("POST", "/echo", to_bytes("still in step"));
  ASSERT_TRUE(next);
  EXPECT_EQ(as_text(next->body), "still in step");
}

size_t resident_bytes() {
  size_t pages = 0;
  size_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

TEST_F(ServerTest, ABodyFarBeyondTheLimitIsNotKeptInMemory) {
  constexpr size_t kSize = size_t{200} << 20;
  size_t before = resident_bytes();
  RawConnection connection(server_->port());
  connection.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kSize) +
                  "\r\n\r\n");
  std::string piece(1 << 20, 'x');
  for (size_t sent = 0; sent < kSize; sent += piece.size()) connection.send(piece);
  EXPECT_EQ(connection.read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 413");
  EXPECT_LT(resident_bytes(), before + (size_t{100} << 20));
}

TEST_F(ServerTest, ABodyWithoutAPlainContentLengthIs411) {
  for (auto* headers : {
           "",                                                     // none
           "Transfer-Encoding: chunked\r\n",                       // chunked
           "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",  // both
           "Content-Length: +5\r\n",
           "Content-Length: 5, 5\r\n",  // odd numbers
           "Content-Length: 0x5\r\n",
           "Content-Length: 5 5\r\n",
       }) {
    int before = handled_;
    auto head = raw(std::string("POST /echo HTTP/1.1\r\nHost: x\r\n") + headers +
                    "\r\n5\r\nhello\r\n0\r\n\r\n");
    EXPECT_EQ(head.substr(0, 12), "HTTP/1.1 411") << headers;
    EXPECT_EQ(handled_, before) << headers;
  }
}

TEST_F(ServerTest, TraceOptionsAndInventedMethodsAre405) {
  for (auto* method : {"TRACE", "OPTIONS", "CONNECT", "BREW"}) {
    auto head = raw(std::string(method) + " /echo HTTP/1.1\r\nHost: x\r\nX-Secret: s\r\n\r\n");
    EXPECT_EQ(head.substr(0, 12), "HTTP/1.1 405") << method;
    EXPECT_EQ(head.find("X-Secret"), std::string::npos);
  }
  EXPECT_EQ(handled_, 0);
}

// RFC 9110, 9.3.2: what GET would say, and then nothing.
TEST_F(ServerTest, HeadHasTheHeadersOfGetAndNoBody) {
  ASSERT_EQ(::write(file_, "0123456789", 10), 10);
  for (const char* path :
       {"/echo", "/big", "/nowhere", "/throw", "/empty", "/empty-ok", "/file?offset=2&length=5"}) {
    auto asked = [&](const char* method) {
      RawConnection connection(server_->port());
      connection.send(std::string(method) + " " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
      auto head = connection.read_until("\r\n\r\n");
      return head + connection.read_some(200);
    };
    auto whole = asked("GET"), head = asked("HEAD");
    EXPECT_EQ(head.substr(head.find("\r\n\r\n")), "\r\n\r\n") << path;
    EXPECT_EQ(head.substr(0, 12), whole.substr(0, 12)) << path;
    for (const char* name : {"Content-Length: ", "Content-Type: "}) {
      auto line_of = [&](const std::string& text) {
        size_t at = text.find(name);
        return at == std::string::npos ? "" : text.substr(at, text.find('\r', at) - at);
      };
      EXPECT_EQ(line_of(head), line_of(whole)) << path;
    }
  }
  // The server serves on.
  EXPECT_EQ(raw("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
}

TEST_F(ServerTest, ExceptionsOfTheHandlerAre500AndSayNothing) {
  auto http = client();
  for (auto* path : {"/throw", "/throw-int"}) {
    auto response = http.send("GET", path);
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 500);
    EXPECT_EQ(error_from(*response).code(), Code::kBroken);
    EXPECT_EQ(as_text(response->body).find("secret"), std::string_view::npos);
  }
}

TEST_F(ServerTest, AnswersWithoutABodyAreSafe) {
  auto http = client();
  auto none = http.send("GET", "/empty");
  ASSERT_TRUE(none) << none.error().expected();
  EXPECT_EQ(none->status, 204);
  auto ok = http.send("GET", "/empty-ok");
  ASSERT_TRUE(ok) << ok.error().expected();
  EXPECT_EQ(ok->status, 200);
  EXPECT_TRUE(ok->body.empty());
}

TEST_F(ServerTest, HeadersThatWouldBreakTheFramingAre500) {
  for (auto* path : {"/length-without-body", "/split"}) {
    auto head = raw(std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(head.substr(0, 12), "HTTP/1.1 500") << path;
    EXPECT_EQ(head.find("Set-Cookie"), std::string::npos);
  }
}

TEST_F(ServerTest, ABadQueryIs400) {
  for (auto* query : {"a=1&a=2", "a=%0"}) {
    auto head = raw(std::string("GET /echo?") + query + " HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(head.substr(0, 12), "HTTP/1.1 400") << query;
  }
  EXPECT_EQ(handled_, 0);
}

TEST_F(ServerTest, PathsAreNotDecoded) {
  auto response = client().send("GET", "/%65cho");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 404);
}

TEST_F(ServerTest, PartsOfAFileAreStreamedExactly) {
  Bytes content(3000000);
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<uint8_t>(i * 31 >> 3);
  ASSERT_EQ(::write(file_, content.data(), content.size()), static_cast<ssize_t>(content.size()));
  auto http = client();
  struct Part {
    size_t offset, length;
  };
  for (auto [offset, length] : {Part{0, 3000000}, Part{1, 1}, Part{2999999, 1}, Part{12345, 70001},
                                Part{0, 0}, Part{3000000, 0}}) {
    auto response = http.send(
        "GET", "/file?offset=" + std::to_string(offset) + "&length=" + std::to_string(length));
    ASSERT_TRUE(response) << response.error().expected();
    EXPECT_EQ(response->status, 200);
    auto first = content.begin() + static_cast<std::ptrdiff_t>(offset);
    EXPECT_EQ(response->body, Bytes(first, first + static_cast<std::ptrdiff_t>(length)));
  }
  EXPECT_EQ(http.send("GET", "/file?offset=0&length=3000001")->status, 500);
  EXPECT_EQ(http.send("GET", "/file?offset=3000001&length=0")->status, 500);
}

TEST_F(ServerTest, AFileThatShrinksEndsTheConnectionAndNotTheServer) {
  ASSERT_EQ(::ftruncate(file_, 64 << 20), 0);
  RawConnection connection(server_->port());
  connection.send("GET /file?offset=0&length=67108864 HTTP/1.1\r\nHost: x\r\n\r\n");
  auto got = connection.read_until("\r\n\r\n");
  EXPECT_EQ(got.substr(0, 12), "HTTP/1.1 200");
  ASSERT_EQ(::ftruncate(file_, 0), 0);
  while (!connection.read_some(10000).empty()) {
  }
  EXPECT_EQ(client().send("GET", "/echo")->status, 200);
}

TEST_F(ServerTest, DownloadsThatAreLeftHalfWayHoldUpNobody) {
  ASSERT_EQ(::ftruncate(file_, 64 << 20), 0);
  for (int i = 0; i < 40; ++i) {
    RawConnection connection(server_->port());
    connection.send("GET /file?offset=0&length=67108864 HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_EQ(connection.read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
  }
  auto response = client().send("GET", "/file?offset=0&length=1000000");
  ASSERT_TRUE(response) << response.error().expected();
  EXPECT_EQ(response->body, Bytes(1000000));
}

TEST_F(ServerTest, ManyRequestsAtOnceEachGetTheirOwnAnswer) {
  std::atomic<int> good{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      auto http = client();
      for (int i = 0; i < 50; ++i) {
        auto body = to_bytes(std::to_string(t) + "/" + std::to_string(i));
        auto response = http.send("POST", "/echo", body);
        if (response && response->status == 200 && response->body == body) ++good;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(good, 400);
}

TEST_F(ServerTest, HalfSentBodiesHoldUpNobody) {
  std::vector<std::unique_ptr<RawConnection>> stalled;
  for (int i = 0; i < 50; ++i) {
    stalled.push_back(std::make_unique<RawConnection>(server_->port()));
    stalled.back()->send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf");
  }
  auto response = client().send("POST", "/echo", to_bytes("whole"));
  ASSERT_TRUE(response) << response.error().expected();
  EXPECT_EQ(response->status, 200);
  stalled.clear();  // all leave in the middle
  for (int i = 0; i < 100; ++i) EXPECT_EQ(client().send("GET", "/echo")->status, 200);
}

TEST_F(ServerTest, MoreThanMayWaitAre503) {
  start({.max_body = 1 << 20, .workers = 1, .max_waiting = 2});
  std::jthread first([&] { EXPECT_EQ(client().send("GET", "/wait")->status, 200); });
  wait_for_waiting(1);
  RawConnection second(server_->port());
  second.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha");
  // Its header should be read before the third asks, or the third takes its place.
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  int status = 0;
  for (int i = 0; i < 200 && status != 503; ++i) {
    // Two are under way once the second's header has been read.
    RawConnection third(server_->port());
    third.send("GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    auto head = third.read_some(100);
    if (head.size() > 12) status = std::stoi(head.substr(9, 3));
  }
  EXPECT_EQ(status, 503);
  open_gate();
  second.send("lf");
  EXPECT_EQ(second.read_until("\r\n\r\n").substr(0, 12), "HTTP/1.1 200");
}

TEST_F(ServerTest, StopLetsTheHandlerFinishAndThenNobodyConnects) {
  auto port = server_->port();
  std::jthread under_way([&] {
    auto response = client().send("GET", "/wait");
    ASSERT_TRUE(response) << response.error().expected();
    EXPECT_EQ(as_text(response->body), "waited");
  });
  wait_for_waiting(1);
  std::jthread opener([&] {
    std::this_thread::sleep_for(100ms);
    open_gate();
  });
  server_->stop();
  server_->stop();
  EXPECT_FALSE(RawConnection(port).connected());
}

TEST_F(ServerTest, ATakenPortIsAConflict) {
  auto second =
      HttpServer::start("127.0.0.1", server_->port(), [](const Request&) { return Response{}; });
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kConflict);
}

TEST(Server, ListensOnLoopbackOnly) {
  for (auto* host : {"0.0.0.0", "", "*", "+", "::", "::1", "192.168.1.1", "128.0.0.1",
                     "127.0.0.1.example.com", "localhost.example.com", "127.1"}) {
    auto server = HttpServer::start(host, 0, [](const Request&) { return Response{}; });
    ASSERT_FALSE(server) << host;
    EXPECT_EQ(server.error().code(), Code::kRefused) << host;
  }
  for (auto* host : {"localhost", "127.0.0.1", "127.0.0.2"}) {
    auto server = HttpServer::start(host, 0, [](const Request&) { return Response{}; });
    ASSERT_TRUE(server) << host;
    EXPECT_NE((*server)->port(), 0);
  }
}

}  // namespace
}  // namespace souk::market
