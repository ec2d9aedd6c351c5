// The HTTP API of a market, one function per route (market_api/SPEC.md, API). What
// comes back is the host's word: well formed, and not believed. market_view.h says
// what is so.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "contracts/records/records.h"
#include "ledger/entry/envelope.h"
#include "market_api/transport/client.h"

namespace souk::market {

// done bytes, of how many.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

struct ServedMarket {
  std::string market, vkey, origin;
  Bytes genesis;  // leaf 0
};

struct ServedPage {
  uint64_t size = 0;
  std::string checkpoint;
  std::vector<Bytes> leaves;
};

struct ServedJob {
  std::string phase, detail;
  int64_t step = 0, steps = 0, epsilon_micro = 0;
};

struct Recorded {
  uint64_t seq = 0;
  Digest leaf_hash{};
};

// A problem the server answers keeps its code; no answer is kTryAgain; an answer
// that is not of this API is kRefused, or as error_from() tells its status.
class MarketLine {
 public:
  static constexpr std::chrono::seconds kPatience{60};
  static Result<MarketLine> open(const std::string& url);

  // From now on entries() and checkpoint() ask for what a quorum of the market's witnesses
  // has cosigned, and record() waits for them.
  void ask_witnessed() { level_ = "witnessed"; }

  // How long upload() waits out a market that does not answer, or is busy, while it comes no
  // further; each wait is twice the one before, up to 8 s. Whoever watches is told in words.
  using Waiting = std::function<void(const std::string& why)>;
  void wait_out(std::chrono::milliseconds patience, Waiting waiting = {}) {
    patience_ = patience;
    waiting_ = std::move(waiting);
  }

  Result<ServedMarket> market();
  Result<ServedPage> entries(uint64_t from, uint64_t max);
  Result<std::string> checkpoint();
  // Idempotent, so a lost answer is asked for again.
  Result<Recorded> record(const ledger::Envelope& envelope);
  Result<contracts::Evidence> keeper(const std::string& nonce_hex);
  // Goes on where an earlier upload of the same bytes stopped.
  Status upload(const Digest& digest, ByteView bytes, const Progress& progress);
  Result<Json> quote(const PublicKey& consumer, const Json& submit);
  Result<ServedJob> job(const ContractId& contract);
  Result<Bytes> header(const ContractId& contract);
  // Piece by piece; exactly `size` bytes.
  Result<Bytes> blob(const Digest& digest, uint64_t size, const Progress& progress);

 private:
  MarketLine(std::string url, HttpClient http) : url_(std::move(url)), http_(std::move(http)) {}
  struct Upload {
    std::string path;
    uint64_t offset = 0;  // bytes the market says it has
  };
  Result<Upload> begin_upload(const Digest& digest, uint64_t size);
  // Failures since something last came further.
  struct Outage {
    int failures = 0;
    std::chrono::steady_clock::time_point began;
  };
  bool waited(Outage& outage, const Error& error) const;
  Result<Upload> send_pieces(const Digest& digest, ByteView bytes, const Progress& progress,
                             Outage& outage);
  static Result<uint64_t> offset_in(const Response& answer, uint64_t sent, uint64_t size);
  Result<Response> ask(const std::string& method, const std::string& path, ByteView body = {},
                       const std::string& content_type = "", int timeout_seconds = 60);
  Result<Json> ask_json(const std::string& method, const std::string& path,
                        const Json* body = nullptr, int timeout_seconds = 60);

  std::string url_;
  HttpClient http_;
  std::string level_ = "local";
  std::chrono::milliseconds patience_ = kPatience;
  Waiting waiting_;
};

}  // namespace souk::market
