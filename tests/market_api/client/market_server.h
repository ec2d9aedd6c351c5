// Serves a whole market as soukd would, on a real ledger, a real keeper and real blobs; and lies
// where a test tells it to.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "market_api/blobs/blobs.h"
#include "market_api/client/identity.h"
#include "market_api/client/local_files.h"
#include "market_api/client/market_line.h"
#include "market_api/transport/server.h"
#include "tests/support/market_fixture.h"

namespace souk::market {

class MarketServer {
 public:
  // Sees every request and its honest answer, which it may change. Before: instead of an answer.
  using Lie = std::function<void(const Request&, Response& answer)>;
  using Instead = std::function<std::optional<Response>(const Request&)>;

  explicit MarketServer(flows::MarketFixture& market) : market_(market) {
    auto blobs = BlobStore::open(folder_.file("blobs"));
    CHECK(blobs);
    blobs_.emplace(std::move(*blobs));
    auto server = HttpServer::start("127.0.0.1", 0, [this](const Request& request) {
      std::lock_guard lock(mutex_);
      if (instead_) {
        if (auto answer = instead_(request)) return *answer;
      }
      auto answer = honest(request);
      Response response = answer ? std::move(*answer) : problem(answer.error());
      if (lie_) lie_(request, response);
      return response;
    });
    CHECK(server);
    server_ = std::move(*server);
  }

  void lie(Lie lie) {
    std::lock_guard lock(mutex_);
    lie_ = std::move(lie);
  }
  void instead(Instead instead) {
    std::lock_guard lock(mutex_);
    instead_ = std::move(instead);
  }
  void be_honest() {
    lie({});
    instead({});
  }
  // Shows only the first `size` entries, under a checkpoint the log really signed.
  void show_old(std::optional<uint64_t> size) {
    std::lock_guard lock(mutex_);
    shown_ = size;
  }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  MarketLine line() const { return MarketLine::open(url()).take(); }
  BlobStore& blobs() { return *blobs_; }

  // Somebody of this market; the pin is to this server.
  Identity join(const std::string& name) {
    Home home(folder_.file("home"));
    auto made = home.create(name, {url(), market_.market(), market_.genesis().ledger_key});
    CHECK(made);
    return std::move(made).take();
  }

 private:
  Result<Response> honest(const Request& request) {
    const std::string& path = request.path;
    flows::History history = shown_ ? market_.prefix(*shown_) : market_.history();
    if (path == "/v1/checkpoint") {
      Response response;
      response.content_type = "text/plain";
      response.body = to_bytes(history.checkpoint);
      return response;
    }
    if (path == "/v1/entries" && request.method == "GET") {
      uint64_t from = std::stoull(request.query.at("from"));
      Json::Array leaves;
      for (uint64_t seq = from; seq < history.size(); ++seq) {
        leaves.push_back(to_base64(history.leaves[seq]));
      }
      return json_response(200, Json::Object{{"size", history.size()},
                                             {"checkpoint", history.checkpoint},
                                             {"leaves", std::move(leaves)}});
    }
    if (path == "/v1/entries") {
      auto json = TRY(parse_json(as_text(request.body)));
      auto envelope = TRY(ledger::envelope_from_json(json));
      auto receipt = TRY(market_.try_append(envelope));
      market_.follow();
      return json_response(201,
                           Json::Object{{"seq", receipt.seq}, {"leaf_hash", receipt.leaf_hash}});
    }
    if (path == "/v1/keeper") {
      auto answer = market_.keeper().ask(trainer::Kind::kAttest,
                                         Json::Object{{"nonce", request.query.at("nonce")}});
      auto body = TRY(trainer::expect(answer, trainer::Kind::kEvidence));
      return json_response(200, body);
    }
    if (path == "/v1/uploads") {
      auto json = TRY(parse_json(as_text(request.body)));
      auto fields = TRY(Fields::of(json, "upload"));
      auto digest = TRY(fields.digest("digest"));
      auto size = TRY(fields.integer("size"));
      auto upload = TRY(blobs_->begin(digest, static_cast<uint64_t>(size)));
      auto offset = TRY(blobs_->offset(upload));
      return json_response(200, Json::Object{{"upload", upload}, {"offset", offset}});
    }
    const std::string uploads = "/v1/uploads/", blobs = "/v1/blobs/", jobs = "/v1/jobs/";
    if (path.rfind(uploads, 0) == 0 && request.method == "PUT") {
      auto offset = TRY(blobs_->write(path.substr(uploads.size()),
                                      std::stoull(request.query.at("offset")), request.body));
      return json_response(200, Json::Object{{"offset", offset}});
    }
    if (path.rfind(uploads, 0) == 0) {
      std::string upload = path.substr(uploads.size());
      auto digest = TRY(blobs_->commit(upload.substr(0, upload.find('/'))));
      return json_response(201, Json::Object{{"digest", digest}});
    }
    if (path.rfind(blobs, 0) == 0) {
      auto digest = TRY(named_from_hex<ContractId>(path.substr(blobs.size())));
      Response response;
      response.content_type = "application/octet-stream";
      response.body = TRY(blobs_->read(digest.value(), std::stoull(request.query.at("offset")),
                                       std::stoull(request.query.at("length"))));
      return response;
    }
    if (path.rfind(jobs, 0) == 0) {
      auto id = TRY(named_from_hex<ContractId>(path.substr(jobs.size(), 64)));
      market_.follow();
      auto answer = market_.keeper().about(trainer::Kind::kRelease, id);
      if (answer.kind != trainer::Kind::kBytes) TRY(trainer::expect(answer, trainer::Kind::kBytes));
      Response response;
      response.content_type = "application/octet-stream";
      response.body = answer.body;
      return response;
    }
    return Error(Code::kNotFound, "expected a known path");
  }

  flows::MarketFixture& market_;
  flows::TempFolder folder_;
  std::optional<BlobStore> blobs_;
  std::mutex mutex_;
  Lie lie_;                        // Guarded by mutex_.
  Instead instead_;                // Guarded by mutex_.
  std::optional<uint64_t> shown_;  // Guarded by mutex_.
  std::unique_ptr<HttpServer> server_;
};

}  // namespace souk::market
