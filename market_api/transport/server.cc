#include "market_api/transport/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <vector>

#include "market_api/transport/cpprest.h"
#include "market_api/transport/file_body.h"

namespace souk::market {
namespace {

using web::http::http_request;
using web::http::http_response;
using web::http::experimental::listener::http_listener;

constexpr auto kDrain = std::chrono::seconds(5);
constexpr int kPortTries = 16;

// The address itself: names other than localhost could resolve to anything.
Result<std::string> loopback_address(const std::string& host) {
  if (host == "localhost") return std::string("127.0.0.1");
  in_addr address{};
  if (::inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127) {
    return host;
  }
  return Error(
      Code::kRefused,
      "expected localhost or a 127.x.y.z address to listen on: this server must not face a "
      "network; put a reverse proxy in front of it");
}

// A port that was free a moment ago, or 0.
uint16_t free_port(const std::string& address) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  sockaddr_in name{};
  name.sin_family = AF_INET;
  ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
  socklen_t length = sizeof name;
  auto* generic = reinterpret_cast<sockaddr*>(&name);
  bool bound = ::bind(fd, generic, length) == 0 && ::getsockname(fd, generic, &length) == 0;
  ::close(fd);
  return bound ? ntohs(name.sin_port) : uint16_t{0};
}

bool serves(const std::string& method) {
  return method == "GET" || method == "HEAD" || method == "POST" || method == "PUT" ||
         method == "DELETE" || method == "PATCH";
}

bool must_have_body(const std::string& method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

bool plain_header(const std::string& text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos;
}

// What is wrong with the announced body, if anything.
std::optional<Response> refuse_body(const http_request& request, const HttpLimits& limits) {
  const auto& headers = request.headers();
  auto length = headers.find("Content-Length");
  if (headers.has("Transfer-Encoding")) {
    return problem(411, "length_required", "Length required",
                   "expected a Content-Length and no Transfer-Encoding");
  }
  if (length == headers.end()) {
    if (!must_have_body(request.method())) return std::nullopt;
    return problem(411, "length_required", "Length required", "expected a Content-Length");
  }
  const std::string& text = length->second;
  bool digits = !text.empty() && text.size() <= 18 &&
                std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits) {
    return problem(411, "length_required", "Length required",
                   "expected Content-Length once, as a decimal number");
  }
  if (std::stoull(text) > limits.max_body) {
    return problem(413, "too_large", "The body is too large",
                   "expected at most " + std::to_string(limits.max_body) + " bytes");
  }
  return std::nullopt;
}

enum class Send { kAll, kHeadersOnly };

Result<http_response> to_cpprest(const Response& from, Send what) {
  http_response to(static_cast<web::http::status_code>(from.status));
  for (const auto& [name, value] : from.headers) {
    auto framing = lower(name);
    if (framing == "content-length" || framing == "transfer-encoding" || framing == "connection" ||
        framing == "content-type" || name.empty() || !plain_header(name) || !plain_header(value)) {
      return Error(Code::kBroken, "expected plain response headers");
    }
    to.headers().add(name, value);
  }
  if (!plain_header(from.content_type)) {
    return Error(Code::kBroken, "expected a plain content type");
  }
  bool bodyless = from.status < 200 || from.status == 204 || from.status == 304;
  uint64_t length = from.file ? from.file->length : from.body.size();
  if (what == Send::kHeadersOnly && length > 0 && !bodyless) {
    to.set_body(announced_body(length), length, from.content_type);
    to.headers().add("Connection", "close");
  } else if (from.file && !bodyless) {
    auto stream = TRY(open_file_body(*from.file));
    to.set_body(stream, from.file->length, from.content_type);
  } else if (!from.body.empty() && !bodyless) {
    to.set_body(from.body);
    to.headers().set_content_type(from.content_type);
  }
  // Never a Content-Length without a body: cpprestsdk ends the process over it.
  return to;
}

}  // namespace

Status check_listen_address(const std::string& host) {
  TRY(loopback_address(host));
  return Done{};
}

// Shared by the listener's callbacks, which may outlive the server by a moment.
class HttpServer::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Handler handler, HttpLimits limits) : handler_(std::move(handler)), limits_(limits) {}

  Status listen(const std::string& address, uint16_t port) {
    start_pplx_threads();
    for (int attempt = 0; attempt < kPortTries; ++attempt) {
      port_ = port != 0 ? port : free_port(address);
      try {
        http_listener listener(web::uri("http://" + address + ":" + std::to_string(port_) + "/"));
        auto receive = [self = shared_from_this()](const http_request& request) {
          self->receive(request);
        };
        listener.support(receive);
        listener.support("TRACE", receive);  // the library would echo and advertise by itself
        listener.support("OPTIONS", receive);
        listener.open().get();
        listener_ = std::move(listener);
        for (size_t i = 0; i < std::max<size_t>(1, limits_.workers); ++i) {
          workers_.emplace_back([this] { work(); });
        }
        return Done{};
      } catch (const std::exception&) {
        if (port != 0) break;
      }
    }
    return Error(Code::kConflict, "expected port " + std::to_string(port_) + " of " + address +
                                      " to be free to listen on");
  }

  uint16_t port() const { return port_; }

  void stop() {
    std::lock_guard once(stop_mutex_);
    if (stopped_) return;
    stopped_ = true;
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      idle_.wait_for(lock, kDrain, [this] { return under_way_ == 0; });
    }
    try {
      listener_.close().get();
    } catch (const std::exception&) {
      // Closing twice or too late: closed either way.
    }
    listener_ = http_listener();  // its callback owned us
    {
      std::lock_guard lock(mutex_);
      finished_ = true;
      queue_.clear();
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
  }

 private:
  // On a pplx thread: decide from the headers, never wait, never throw.
  void receive(const http_request& request) {
    try {
      if (auto refusal = admit(request)) {
        discard_body(request);
        send(request, *refusal, [] {});
        return;
      }
    } catch (...) {
      send(request, problem(Error(Code::kBroken, "the request could not be handled")), [] {});
      return;
    }
    auto self = shared_from_this();
    request.content_ready().then([self, request](const pplx::task<http_request>& ready) {
      try {
        ready.get();
        self->enqueue(request);
      } catch (...) {
        // The client left in the middle of its body.
        self->send(request, problem(400, "malformed", "Malformed request", "expected a whole body"),
                   [self] { self->leave(); });
      }
    });
  }

  // Nothing, and the request is counted as under way; or the refusal.
  std::optional<Response> admit(const http_request& request) {
    if (!serves(request.method())) {
      auto refusal = problem(405, "method_not_allowed", "Method not allowed",
                             "expected GET, HEAD, POST, PUT, PATCH or DELETE");
      refusal.headers["Allow"] = "GET, HEAD, POST, PUT, PATCH, DELETE";
      return refusal;
    }
    if (auto refusal = refuse_body(request, limits_)) return refusal;
    std::lock_guard lock(mutex_);
    if (stopping_ || under_way_ >= limits_.max_waiting) {
      auto refusal =
          problem(503, "try_again", "Try again later",
                  stopping_ ? "the server is stopping" : "too many requests are waiting");
      refusal.headers["Retry-After"] = "1";
      return refusal;
    }
    ++under_way_;
    return std::nullopt;
  }

  // The body still arrives, as the connection must stay in step; it is not kept.
  static void discard_body(const http_request& request) {
    auto body = request.body();
    if (!body.is_valid()) return;
    observe(body.streambuf().close(std::ios_base::in), [] {});
  }

  void enqueue(const http_request& request) {
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(request);
    }
    wake_.notify_one();
  }

  void leave() {
    std::lock_guard lock(mutex_);
    --under_way_;
    if (under_way_ == 0) idle_.notify_all();
  }

  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return finished_ || !queue_.empty(); });
      if (queue_.empty()) return;
      auto request = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      send(request, answer(request), [self = shared_from_this()] { self->leave(); });
    }
  }

  Response answer(const http_request& from) {
    try {
      auto query = parse_query(from.request_uri().query());
      if (!query) return problem(query.error());
      // RFC 9110, 9.3.2: as GET, without the body.
      Request request{.method = from.method() == "HEAD" ? "GET" : from.method(),
                      .path = from.request_uri().path(),
                      .query = std::move(*query),
                      .headers = {},
                      .body = from.extract_vector().get()};
      for (const auto& [name, value] : from.headers()) request.headers[lower(name)] = value;
      return handler_(request);
    } catch (const std::exception&) {
      return problem(Error(Code::kBroken, "the request could not be handled"));
    } catch (...) {
      return problem(Error(Code::kBroken, "the request could not be handled"));
    }
  }

  template <class Then>
  void send(const http_request& request, const Response& response, Then then) {
    try {
      auto what = request.method() == "HEAD" ? Send::kHeadersOnly : Send::kAll;
      auto converted = to_cpprest(response, what);
      if (!converted) converted = to_cpprest(problem(converted.error()), what);
      observe(request.reply(*converted), then);
    } catch (...) {
      then();  // answered already, or no memory: the connection decides
    }
  }

  // Set once before listening.
  const Handler handler_;
  const HttpLimits limits_;
  uint16_t port_ = 0;
  http_listener listener_;
  std::vector<std::thread> workers_;

  std::mutex stop_mutex_;
  bool stopped_ = false;  // Guarded by stop_mutex_.

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  // Guarded by mutex_.
  std::deque<http_request> queue_;
  size_t under_way_ = 0;
  bool stopping_ = false;
  bool finished_ = false;
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(std::string host, uint16_t port,
                                                      Handler handler, HttpLimits limits) {
  auto address = TRY(loopback_address(host));
  auto impl = std::make_shared<Impl>(std::move(handler), limits);
  TRY(impl->listen(address, port));
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() {
  stop();
}
uint16_t HttpServer::port() const {
  return impl_->port();
}
void HttpServer::stop() {
  impl_->stop();
}

}  // namespace souk::market
