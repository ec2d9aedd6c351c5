// An HTTP server for one handler, on the loopback interface only: the listener below
// it has no limits on headers or idle connections and must not face a network. A reverse
// proxy that has them stands in front where others connect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "ledger/base/result.h"
#include "market_api/transport/message.h"

namespace souk::market {

struct HttpLimits {
  size_t max_body = size_t{16} << 20;  // bytes; announced larger -> 413, not kept in memory
  size_t workers = 16;                 // threads that run the handler
  size_t max_waiting = 256;            // requests being read or waiting; more -> 503
};

// Whether start() could listen there: "localhost" or a 127.x.y.z address, else kRefused.
Status check_listen_address(const std::string& host);

// Runs on a worker thread, several at once. May block. An exception becomes a 500.
using Handler = std::function<Response(const Request&)>;

class HttpServer {
 public:
  // Listens when it returns. `host` is "localhost" or a 127.x.y.z address, anything else
  // is kRefused; port 0 picks a free one; kConflict if the port is taken.
  //
  // HEAD reaches the handler as GET and is answered with the headers of that answer alone.
  // Answered without the handler: TRACE, OPTIONS, CONNECT and unknown methods 405;
  // a body without a plain Content-Length (chunked) 411; too large 413; a query that does
  // not decode 400. Response headers with CR, LF or NUL become a 500.
  static Result<std::unique_ptr<HttpServer>> start(std::string host, uint16_t port, Handler handler,
                                                   HttpLimits limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

  // Refuses new requests with 503, lets those under way finish (up to 5 s), closes. Safe to call
  // twice; not from a handler.
  void stop();

 private:
  class Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace souk::market
