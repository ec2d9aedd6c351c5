#include "market_api/client/market_line.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

namespace souk::market {
namespace {

constexpr size_t kMaxAnswer = size_t{48} << 20;
constexpr uint64_t kUploadPiece = uint64_t{4} << 20;
constexpr uint64_t kDownloadPiece = uint64_t{8} << 20;
constexpr uint64_t kMaxBlob = uint64_t{8} << 30;
constexpr int kAttempts = 4;
constexpr std::chrono::milliseconds kLongestWait{8000};
// An answer that took longer has been waited for already: by the market, for its witnesses.
constexpr std::chrono::seconds kSoon{5};

void wait_before(int attempt) {
  std::this_thread::sleep_for(std::chrono::milliseconds(200 << attempt));
}

// What a market answers and this API does not know is the market's fault: nobody's call or file is
// malformed for it.
template <class T>
Result<T> heard(Result<T> answer) {
  if (answer || answer.error().code() != Code::kMalformed) return answer;
  return Error(Code::kRefused,
               "the market's answer is none of this API: " + answer.error().expected());
}

}  // namespace

Result<MarketLine> MarketLine::open(const std::string& url) {
  auto http = HttpClient::open(url);
  if (!http) return std::move(http).take_error().within("market URL");
  // A market is at the root: what follows the host would be asked for and not be there.
  size_t host = url.find("://") + 3;
  if (size_t path = url.find('/', host); path != std::string::npos && path + 1 != url.size()) {
    return Error(Code::kMalformed,
                 "market URL: expected one without a path, like " + url.substr(0, path));
  }
  return MarketLine(url, std::move(*http));
}

Result<Response> MarketLine::ask(const std::string& method, const std::string& path, ByteView body,
                                 const std::string& content_type, int timeout_seconds) {
  auto response = http_.send(method, path, body, content_type, timeout_seconds, kMaxAnswer);
  if (!response) return std::move(response).take_error().within("market at " + url_);
  if (response->status / 100 == 2) return response;
  if (response->content_type.find("application/problem+json") == std::string::npos) {
    response->body.clear();  // whatever it is, it is none of this API
    return error_from(*response).within("expected a souk market at " + url_);
  }
  return error_from(*response).within("market");
}

Result<Json> MarketLine::ask_json(const std::string& method, const std::string& path,
                                  const Json* body, int timeout_seconds) {
  std::string text = body ? canonical(*body) : "";
  auto response =
      TRY(ask(method, path, as_bytes(text), body ? "application/json" : "", timeout_seconds));
  auto json = parse_json(as_text(response.body), kMaxAnswer);
  if (!json) {
    return Error(Code::kRefused,
                 "expected JSON from the market at " + url_ + ": " + json.error().expected());
  }
  return json;
}

Result<ServedMarket> MarketLine::market() {
  auto json = TRY(ask_json("GET", "/v1/market"));
  return heard([&]() -> Result<ServedMarket> {
    auto fields = TRY(Fields::of(json, "market"));
    ServedMarket served;
    served.market = TRY(fields.text("market"));
    served.vkey = TRY(fields.text("vkey"));
    served.origin = TRY(fields.text("origin"));
    served.genesis = TRY(fields.base64("genesis"));
    return served;
  }());
}

Result<ServedPage> MarketLine::entries(uint64_t from, uint64_t max) {
  auto json = TRY(ask_json("GET", "/v1/entries?from=" + std::to_string(from) +
                                      "&max=" + std::to_string(max) + "&ack=" + level_));
  return heard([&]() -> Result<ServedPage> {
    auto fields = TRY(Fields::of(json, "entries"));
    ServedPage page;
    page.size = static_cast<uint64_t>(TRY(fields.integer("size")));
    page.checkpoint = TRY(fields.text("checkpoint", 1 << 20));
    const Json::Array* leaves = TRY(fields.array("leaves"));
    for (const Json& leaf : *leaves) {
      if (!leaf.string()) return Error(Code::kMalformed, "entries.leaves: expected base64 texts");
      page.leaves.push_back(TRY(from_base64(*leaf.string())));
    }
    return page;
  }());
}

Result<std::string> MarketLine::checkpoint() {
  auto response = TRY(ask("GET", "/v1/checkpoint?ack=" + level_));
  return to_text(response.body);
}

Result<Recorded> MarketLine::record(const ledger::Envelope& envelope) {
  Json body = ledger::to_json(envelope);
  const auto began = std::chrono::steady_clock::now();
  for (int attempt = 0;; ++attempt) {
    auto json = ask_json("POST", "/v1/entries?ack=" + level_, &body);
    bool soon = std::chrono::steady_clock::now() - began < kSoon;
    if (!json && json.error().code() == Code::kTryAgain && soon && attempt + 1 < kAttempts) {
      wait_before(attempt);
      continue;
    }
    if (!json) return std::move(json).take_error();
    return heard([&]() -> Result<Recorded> {
      auto fields = TRY(Fields::of(*json, "receipt"));
      Recorded recorded;
      recorded.seq = static_cast<uint64_t>(TRY(fields.integer("seq")));
      recorded.leaf_hash = TRY(fields.digest("leaf_hash"));
      return recorded;
    }());
  }
}

Result<contracts::Evidence> MarketLine::keeper(const std::string& nonce_hex) {
  auto json = TRY(ask_json("GET", "/v1/keeper?nonce=" + nonce_hex));
  return heard([&]() -> Result<contracts::Evidence> {
    auto fields = TRY(Fields::of(json, "keeper"));
    const Json* evidence = TRY(fields.any("evidence"));
    return contracts::evidence_from_json(*evidence);
  }());
}

Result<MarketLine::Upload> MarketLine::begin_upload(const Digest& digest, uint64_t size) {
  Json begin = Json::Object{{"digest", digest}, {"size", size}};
  auto json = TRY(ask_json("POST", "/v1/uploads", &begin));
  return heard([&]() -> Result<Upload> {
    auto fields = TRY(Fields::of(json, "upload"));
    Upload upload;
    upload.path = "/v1/uploads/" + percent_encode(TRY(fields.text("upload", 256)));
    upload.offset =
        static_cast<uint64_t>(TRY(fields.integer("offset", 0, static_cast<int64_t>(size))));
    return upload;
  }());
}

// False, at once, where it has lasted too long. A full disk is for the operator to mend.
bool MarketLine::waited(Outage& outage, const Error& error) const {
  const auto now = std::chrono::steady_clock::now();
  if (outage.failures++ == 0) outage.began = now;
  const bool full = error.expected().find("disk full") != std::string::npos;
  if (full && outage.failures >= kAttempts) return false;
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(outage.began + patience_ - now);
  if (left.count() <= 0) return false;
  const std::chrono::milliseconds step(200LL << std::min(outage.failures, 6));
  if (waiting_) {
    waiting_("no answer yet, trying for " + std::to_string((left.count() + 999) / 1000) +
             " s more");
  }
  std::this_thread::sleep_for(std::min({step, left, kLongestWait}));
  return true;
}

// All of `bytes` past what the market has. An outage is waited out, and each may last as long as
// the first, if between them the upload has come further than it ever was.
Result<MarketLine::Upload> MarketLine::send_pieces(const Digest& digest, ByteView bytes,
                                                   const Progress& progress, Outage& outage) {
  std::optional<Upload> upload;  // none: to be begun, or begun again
  std::optional<uint64_t> furthest;
  while (!upload || upload->offset < bytes.size()) {
    if (!upload) {
      auto begun = begin_upload(digest, bytes.size());
      if (!begun && begun.error().code() == Code::kTryAgain && waited(outage, begun.error()))
        continue;
      upload = TRY(std::move(begun));
      if (!furthest) furthest = upload->offset;
      continue;
    }
    if (progress) progress(upload->offset, bytes.size());
    auto piece = bytes.subspan(upload->offset,
                               std::min<uint64_t>(kUploadPiece, bytes.size() - upload->offset));
    auto answer = ask("PUT", upload->path + "?offset=" + std::to_string(upload->offset), piece,
                      "application/octet-stream");
    if (answer) {
      upload->offset = TRY(offset_in(*answer, upload->offset + piece.size(), bytes.size()));
      if (upload->offset > *furthest) outage = {};
      furthest = std::max(*furthest, upload->offset);
      continue;
    }
    // Not found: it gave way to others that were sending, and begins anew.
    bool again =
        answer.error().code() == Code::kTryAgain || answer.error().code() == Code::kNotFound;
    if (!again || !waited(outage, answer.error())) return std::move(answer).take_error();
    upload.reset();
  }
  if (progress) progress(bytes.size(), bytes.size());
  return *upload;
}

Result<uint64_t> MarketLine::offset_in(const Response& answer, uint64_t sent, uint64_t size) {
  auto read = [&]() -> Result<int64_t> {
    auto json = TRY(parse_json(as_text(answer.body), kMaxAnswer));
    auto fields = TRY(Fields::of(json, "upload"));
    return fields.integer("offset");
  };
  int64_t offset = TRY(heard(read()));
  uint64_t held = static_cast<uint64_t>(offset);
  if (offset >= 0 && held >= sent && held <= size) return held;
  return Error(Code::kRefused, "upload: expected the market to hold " + std::to_string(sent) +
                                   " of " + std::to_string(size) + " bytes now, it says " +
                                   std::to_string(offset));
}

Status MarketLine::upload(const Digest& digest, ByteView bytes, const Progress& progress) {
  Json nothing = Json::Object{};
  Outage outage;
  for (bool first = true;;) {
    auto upload = TRY(send_pieces(digest, bytes, progress, outage));
    auto committed = ask_json("POST", upload.path + "/commit", &nothing);
    // Somebody else's bytes stood at the beginning, and the market has dropped them; or it gave
    // way.
    bool dropped = !committed && (committed.error().code() == Code::kUnauthentic ||
                                  committed.error().code() == Code::kNotFound);
    if (dropped && std::exchange(first, false)) continue;
    // Whether it is kept or not, the market says at the next beginning.
    if (!committed && committed.error().code() == Code::kTryAgain &&
        waited(outage, committed.error()))
      continue;
    if (!committed) return std::move(committed).take_error();
    auto read = [&]() -> Result<Digest> {
      auto fields = TRY(Fields::of(*committed, "commit"));
      return fields.digest("digest");
    };
    Digest kept = TRY(heard(read()));
    if (kept == digest) return Done{};
    return Error(Code::kRefused, "upload: expected the market to keep " + to_hex(ByteView(digest)) +
                                     ", it says " + to_hex(ByteView(kept)));
  }
}

Result<Json> MarketLine::quote(const PublicKey& consumer, const Json& submit) {
  Json body = Json::Object{{"consumer", consumer}, {"submit", submit}};
  for (int attempt = 0;; ++attempt) {
    auto answer = ask_json("POST", "/v1/quotes", &body);
    bool later = !answer && answer.error().code() == Code::kTryAgain;
    if (!later || attempt + 1 == kAttempts) return answer;
    wait_before(attempt);  // others ask as well
  }
}

Result<ServedJob> MarketLine::job(const ContractId& contract) {
  auto json = TRY(ask_json("GET", "/v1/jobs/" + to_hex(contract)));
  return heard([&]() -> Result<ServedJob> {
    auto fields = TRY(Fields::of(json, "job"));
    ServedJob job;
    job.phase = TRY(fields.text("phase"));
    job.step = TRY(fields.integer("step"));
    job.steps = TRY(fields.integer("steps"));
    job.epsilon_micro = TRY(fields.integer("epsilon_micro"));
    job.detail = TRY(fields.text("detail"));
    return job;
  }());
}

Result<Bytes> MarketLine::header(const ContractId& contract) {
  auto response = TRY(ask("GET", "/v1/jobs/" + to_hex(contract) + "/header"));
  return std::move(response.body);
}

Result<Bytes> MarketLine::blob(const Digest& digest, uint64_t size, const Progress& progress) {
  if (size > kMaxBlob) return Error(Code::kRefused, "blob: expected at most 8 GiB");
  Bytes bytes;
  bytes.reserve(size);
  int failures = 0;
  while (bytes.size() < size) {
    if (progress) progress(bytes.size(), size);
    uint64_t length = std::min<uint64_t>(kDownloadPiece, size - bytes.size());
    auto response = ask("GET", "/v1/blobs/" + to_hex(ByteView(digest)) +
                                   "?offset=" + std::to_string(bytes.size()) +
                                   "&length=" + std::to_string(length));
    if (response) {
      if (response->body.size() != length) {
        return Error(Code::kRefused, "blob: expected " + std::to_string(length) + " bytes at " +
                                         std::to_string(bytes.size()));
      }
      append(bytes, response->body);
      failures = 0;
      continue;
    }
    if (response.error().code() != Code::kTryAgain || ++failures == kAttempts) {
      return std::move(response).take_error();
    }
    wait_before(failures);
  }
  if (progress) progress(size, size);
  return bytes;
}

}  // namespace souk::market
