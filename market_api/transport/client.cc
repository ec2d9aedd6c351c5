#include "market_api/transport/client.h"

#include <chrono>

#include "ledger/codec/gzip.h"
#include "market_api/transport/cpprest.h"

namespace souk::market {
namespace {

using web::http::client::http_client;
using web::http::client::http_client_config;

constexpr size_t kChunk = size_t{256} << 10;

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

bool takes_body(const std::string& method) {
  return method == "POST" || method == "PUT" || method == "PATCH";
}

}  // namespace

class HttpClient::Impl {
 public:
  explicit Impl(web::uri base) : base_(std::move(base)) {}

  Result<Response> send(const std::string& method, const std::string& path_and_query, ByteView body,
                        const std::string& content_type, int timeout_seconds, size_t max_response) {
    if (path_and_query.empty() || path_and_query[0] != '/') {
      return Error(Code::kMalformed, "expected a path that begins with '/'");
    }
    pplx::cancellation_token_source cancel;
    bool finished = false;
    try {
      web::http::http_request request(method);
      request.set_request_uri(web::uri(path_and_query));
      if (takes_body(method) || !body.empty()) {
        request.set_body(std::vector<unsigned char>(body.begin(), body.end()));
        request.headers().set_content_type(content_type.empty() ? "application/octet-stream"
                                                                : content_type);
      }
      // What stands in front of a server may compress, and a static log may do so unasked.
      request.headers().add("Accept-Encoding", "gzip, identity");
      auto answer = client(timeout_seconds).request(request, cancel.get_token()).get();
      auto response = read(answer, timeout_seconds, max_response);
      if (!response) cancel.cancel();
      finished = true;
      return response;
    } catch (const web::uri_exception&) {
      return Error(Code::kMalformed, "expected a path of URL characters");
    } catch (const std::exception& reason) {
      if (!finished) cancel.cancel();
      client_.reset();  // its connection is in an unknown state
      return Error(Code::kTryAgain, "no answer from " + base_.to_string() + " (" + reason.what() +
                                        "); is the server running there?");
    }
  }

 private:
  http_client& client(int timeout_seconds) {
    if (!client_ || timeout_ != timeout_seconds) {
      http_client_config config;
      config.set_timeout(std::chrono::seconds(timeout_seconds));
      config.set_chunksize(kChunk);
      config.set_max_redirects(0);  // a market does not send its clients elsewhere
      client_ = std::make_unique<http_client>(base_, config);
      timeout_ = timeout_seconds;
    }
    return *client_;
  }

  // RFC 9110, 8.4: as it was before it was packed for the way.
  static Result<Response> decoded(Response from, size_t max_response) {
    auto found = from.headers.find("content-encoding");
    if (found == from.headers.end()) return from;
    auto coding = lower(found->second);
    if (coding == "gzip" || coding == "x-gzip") {
      auto unpacked = gunzip(from.body, max_response);
      if (!unpacked) return Error(Code::kRefused, "answer: " + unpacked.error().expected());
      from.body = std::move(unpacked).take();
    } else if (!coding.empty() && coding != "identity") {
      return Error(Code::kRefused, "answer: expected Content-Encoding gzip or none");
    }
    from.headers.erase(found);
    return from;
  }

  static Result<Response> read(web::http::http_response& from, int timeout_seconds,
                               size_t max_response) {
    auto too_large = [&] {
      return Error(Code::kRefused,
                   "expected an answer of at most " + std::to_string(max_response) + " bytes");
    };
    Response to{.status = from.status_code(),
                .content_type = from.headers().content_type(),
                .body = {},
                .headers = {},
                .file = {}};
    for (const auto& [name, value] : from.headers()) to.headers[lower(name)] = value;
    uint64_t announced = 0;
    bool has_length = from.headers().match("Content-Length", announced);
    if (has_length && announced > max_response) return too_large();
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
    auto stream = from.body().streambuf();
    for (;;) {
      size_t held = to.body.size();
      to.body.resize(held + kChunk);
      size_t got = stream.getn(to.body.data() + held, kChunk).get();
      to.body.resize(held + got);
      if (to.body.size() > max_response) return too_large();
      if (got == 0) break;
      if (std::chrono::steady_clock::now() > deadline) {
        return Error(Code::kTryAgain,
                     "expected the whole answer within " + std::to_string(timeout_seconds) + " s");
      }
    }
    from.content_ready().get();  // throws if the connection ended early
    if (has_length && announced != to.body.size()) {
      return Error(Code::kTryAgain,
                   "expected the whole announced answer, the connection ended early");
    }
    return decoded(std::move(to), max_response);
  }

  const web::uri base_;
  std::unique_ptr<http_client> client_;
  int timeout_ = 0;
};

Result<HttpClient> HttpClient::open(const std::string& base_url) {
  start_pplx_threads();
  auto malformed = [] {
    return Error(Code::kMalformed, "expected a URL like http://127.0.0.1:8080");
  };
  try {
    web::uri base(base_url);
    bool web = base.scheme() == "http" || base.scheme() == "https";
    bool plain = base.query().empty() && base.fragment().empty() && base.user_info().empty();
    // The library takes any port for one, and any characters for a host.
    bool port = base.port() >= 0 && base.port() <= 65535;
    bool host = !base.host().empty() && base.host().size() <= 253 &&
                (base.host().front() == '[') == (base.host().back() == ']');
    if (!web || !plain || !port || !host) return malformed();
    return HttpClient(std::make_unique<Impl>(std::move(base)));
  } catch (const std::exception&) {
    return malformed();
  }
}

HttpClient::HttpClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpClient::~HttpClient() = default;
HttpClient::HttpClient(HttpClient&&) noexcept = default;
HttpClient& HttpClient::operator=(HttpClient&&) noexcept = default;

Result<Response> HttpClient::send(const std::string& method, const std::string& path_and_query,
                                  ByteView body, const std::string& content_type,
                                  int timeout_seconds, size_t max_response) {
  return impl_->send(method, path_and_query, body, content_type, timeout_seconds, max_response);
}

}  // namespace souk::market
