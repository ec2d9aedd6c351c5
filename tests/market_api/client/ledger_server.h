// Serves a History as soukd would, so that a client can be shown any ledger.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "market_api/client/market_line.h"
#include "market_api/transport/server.h"
#include "tests/support/market_fixture.h"

namespace souk::market {

class LedgerServer {
 public:
  explicit LedgerServer(flows::History history) : history_(std::move(history)) {
    auto server = HttpServer::start("127.0.0.1", 0,
                                    [this](const Request& request) { return answer(request); });
    CHECK(server);
    server_ = std::move(*server);
  }

  void show(flows::History history) {
    std::lock_guard lock(mutex_);
    history_ = std::move(history);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  MarketLine line() const { return MarketLine::open(url()).take(); }

 private:
  Response answer(const Request& request) {
    std::lock_guard lock(mutex_);
    if (request.path == "/v1/checkpoint") {
      Response response;
      response.content_type = "text/plain";
      response.body = to_bytes(history_.checkpoint);
      return response;
    }
    if (request.path != "/v1/entries")
      return problem(Error(Code::kNotFound, "expected a known path"));
    uint64_t from = std::stoull(request.query.at("from"));
    if (from > history_.size())
      return problem(Error(Code::kMalformed, "from: expected at most the size"));
    Json::Array leaves;
    // Few at a time, so that every client has to ask again.
    for (uint64_t seq = from; seq < history_.size() && seq < from + 3; ++seq) {
      leaves.push_back(to_base64(history_.leaves[seq]));
    }
    return json_response(200, Json::Object{{"size", history_.size()},
                                           {"checkpoint", history_.checkpoint},
                                           {"leaves", std::move(leaves)}});
  }

  std::mutex mutex_;
  flows::History history_;  // Guarded by mutex_.
  std::unique_ptr<HttpServer> server_;
};

}  // namespace souk::market
