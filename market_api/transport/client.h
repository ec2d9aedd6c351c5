// One request at a time to one server. Blocking; use one client per thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "ledger/base/result.h"
#include "market_api/transport/message.h"

namespace souk::market {

class HttpClient {
 public:
  // "http://127.0.0.1:8080" or "https://market.example/prefix". kMalformed otherwise. Connects
  // lazily.
  static Result<HttpClient> open(const std::string& base_url);
  ~HttpClient();
  HttpClient(HttpClient&&) noexcept;
  HttpClient& operator=(HttpClient&&) noexcept;

  // Any HTTP status is a Response; no answer, or half of one, is kTryAgain. An answer
  // larger than `max_response` bytes is kRefused, also when it came packed by gzip: its body is
  // unpacked here. `path_and_query` begins with '/'.
  // `timeout_seconds` bounds each wait for the network, and the answer's body as a whole.
  Result<Response> send(const std::string& method, const std::string& path_and_query,
                        ByteView body = {}, const std::string& content_type = "",
                        int timeout_seconds = 30, size_t max_response = size_t{64} << 20);

 private:
  class Impl;
  explicit HttpClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::market
