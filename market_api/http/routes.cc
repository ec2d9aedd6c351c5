#include "market_api/http/routes.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "ledger/crypto/hash.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tile_path.h"

namespace souk::market {
namespace {

using trainer::Kind;

constexpr size_t kMaxLeaves = 1000;
constexpr size_t kMaxLeafBytes = 4 << 20;
constexpr size_t kMaxPiece = 8 << 20;
constexpr size_t kMaxQuote = 128 << 10;  // a contract.submit fits into one ledger entry

std::vector<std::string> parts_of(const std::string& path) {
  std::vector<std::string> parts;
  size_t at = 1;
  while (at <= path.size()) {
    size_t slash = std::min(path.find('/', at), path.size());
    parts.push_back(path.substr(at, slash - at));
    at = slash + 1;
  }
  return parts;
}

Result<uint64_t> number(const Request& request, const std::string& name,
                        std::optional<uint64_t> otherwise = std::nullopt) {
  auto it = request.query.find(name);
  if (it == request.query.end()) {
    if (otherwise) return *otherwise;
    return Error(Code::kMalformed, "?" + name + "=: expected this number");
  }
  uint64_t value = 0;
  const auto& text = it->second;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || text.empty()) {
    return Error(Code::kMalformed, "?" + name + "=: expected a whole number");
  }
  return value;
}

template <class Name>
Result<Name> id_of(const std::string& text) {
  auto id = named_from_hex<Name>(text);
  if (!id) return Error(Code::kMalformed, "path: expected 64 lower-case hex digits");
  return id;
}

Response of_bytes(Bytes bytes, const char* type) {
  Response response;
  response.content_type = type;
  response.body = std::move(bytes);
  return response;
}

Result<Response> market_page(Market& market) {
  const auto& key = market.ledger().log_key();
  return json_response(200, Json::Object{{"market", market.id()},
                                         {"ledger_key", key.vkey()},
                                         {"vkey", key.vkey()},
                                         {"origin", key.name()},
                                         {"genesis", market.genesis_leaf()}});
}

// ?ack=local|witnessed, or the same as a preference (RFC 7240).
Result<Acknowledgement> acknowledgement(const Request& request) {
  std::string wanted = "local";
  if (auto it = request.headers.find("prefer"); it != request.headers.end()) {
    if (it->second.find("ack=witnessed") != std::string::npos) wanted = "witnessed";
  }
  if (auto it = request.query.find("ack"); it != request.query.end()) wanted = it->second;
  if (wanted == "local") return Acknowledgement::kLocal;
  if (wanted == "witnessed") return Acknowledgement::kWitnessed;
  return Error(Code::kMalformed, "?ack=: expected local or witnessed");
}

const char* name_of(Acknowledgement level) {
  return level == Acknowledgement::kWitnessed ? "witnessed" : "local";
}

// How far the witnesses stand behind this ledger.
Result<Response> witnesses(Market& market) {
  Json::Object out{{"size", market.ledger().size()}, {"configured", market.witnesses() != nullptr}};
  if (market.witnesses()) {
    auto newest = market.witnesses()->newest();
    auto halted = market.witnesses()->halted();
    Json::Array troubles;
    for (const auto& trouble : market.witnesses()->troubles()) troubles.push_back(trouble);
    out["witnessed_size"] = newest.size;
    out["time"] = newest.time;
    out["checkpoint"] = newest.note;
    out["halted"] = halted ? "" : halted.error().expected();
    out["troubles"] = std::move(troubles);
  }
  return json_response(200, out);
}

// The newest of this level; a witnessed one with its cosignatures.
Result<std::string> checkpoint_of(Market& market, Acknowledgement level) {
  if (level == Acknowledgement::kLocal) return market.ledger().checkpoint();
  auto newest = market.witnesses() ? market.witnesses()->newest() : ledger::Witnessed{};
  if (newest.note.empty()) return Error(Code::kNotFound, "expected a witnessed checkpoint");
  return newest.note;
}

Result<Response> checkpoint(Market& market, const Request& request) {
  auto level = TRY(acknowledgement(request));
  auto note = TRY(checkpoint_of(market, level));
  return of_bytes(to_bytes(note), "text/plain; charset=utf-8");
}

Result<Response> entries(Market& market, const Request& request) {
  uint64_t from = TRY(number(request, "from", 0));
  uint64_t max = TRY(number(request, "max", kMaxLeaves));
  auto level = TRY(acknowledgement(request));
  auto note = TRY(checkpoint_of(market, level));
  auto checkpoint = TRY(ledger::open_checkpoint(note, market.ledger().log_key()));
  Json::Array leaves;
  size_t bytes = 0;
  for (uint64_t seq = from;
       seq < checkpoint.size && leaves.size() < std::min<uint64_t>(max, kMaxLeaves) &&
       bytes < kMaxLeafBytes;
       ++seq) {
    auto leaf = TRY(market.ledger().leaf(seq));
    bytes += leaf.size();
    leaves.push_back(to_base64(leaf));
  }
  return json_response(
      200,
      Json::Object{{"size", checkpoint.size}, {"checkpoint", note}, {"leaves", std::move(leaves)}});
}

Result<Response> proof(Market& market, const Request& request) {
  uint64_t seq = TRY(number(request, "seq"));
  auto level = TRY(acknowledgement(request));
  auto receipt = TRY(market.prove(seq, level));
  auto leaf = TRY(market.ledger().leaf(seq));
  return json_response(200,
                       Json::Object{{"leaf", to_base64(leaf)}, {"tlog_proof", receipt.tlog_proof}});
}

Result<Response> consistency(Market& market, const Request& request) {
  uint64_t from = TRY(number(request, "old"));
  uint64_t to = TRY(number(request, "new"));
  auto hashes = TRY(market.ledger().consistency(from, to));
  Json::Array out;
  for (const auto& hash : hashes) out.push_back(Json(hash));
  return json_response(200, Json::Object{{"proof", std::move(out)}});
}

Result<Response> append_entry(Market& market, const Request& request) {
  auto level = TRY(acknowledgement(request));
  auto receipt = TRY(market.record(request.body, level));
  return json_response(201, Json::Object{{"ack", name_of(level)},
                                         {"seq", receipt.seq},
                                         {"leaf_hash", receipt.leaf_hash},
                                         {"checkpoint", receipt.checkpoint},
                                         {"tlog_proof", receipt.tlog_proof}});
}

Result<Response> keeper(Market& market, const Request& request) {
  auto it = request.query.find("nonce");
  if (it == request.query.end() || it->second.size() != 64 || !from_hex(it->second)) {
    return Error(Code::kMalformed, "?nonce=: expected 64 lower-case hex digits");
  }
  auto answer = TRY(market.keeper().ask(
      trainer::frame(Kind::kAttest, Json::Object{{"nonce", it->second}}), Rank::kParticipant));
  auto body = TRY(trainer::expect(answer, Kind::kEvidence));
  return json_response(200, body);
}

Status check_upload_id(const std::string& text) {
  if (is_upload_id(text)) return Done{};
  return Error(Code::kMalformed, "path: expected the upload that POST /v1/uploads named");
}

Result<Response> begin_upload(Market& market, const Request& request) {
  auto json = TRY(parse_json(as_text(request.body), kMaxRecordBytes));
  auto fields = TRY(Fields::of(json, "upload"));
  auto digest = TRY(fields.digest("digest"));
  auto size = TRY(fields.integer("size", 1, int64_t{1} << 40));
  TRY(fields.done());
  auto upload = TRY(market.blobs().begin(digest, static_cast<uint64_t>(size)));
  auto offset = TRY(market.blobs().offset(upload));
  return json_response(200, Json::Object{{"upload", upload}, {"offset", offset}});
}

Result<Response> upload_piece(Market& market, const Request& request, const std::string& upload) {
  TRY(check_upload_id(upload));
  if (request.body.size() > kMaxPiece) {
    return Error(Code::kMalformed, "expected a piece of at most 8 MiB");
  }
  uint64_t at = TRY(number(request, "offset"));
  auto offset = TRY(market.blobs().write(upload, at, request.body));
  return json_response(200, Json::Object{{"offset", offset}});
}

Result<Response> commit_upload(Market& market, const std::string& upload) {
  TRY(check_upload_id(upload));
  auto digest = TRY(market.blobs().commit(upload));
  return json_response(201, Json::Object{{"digest", digest}});
}

Result<Response> blob(Market& market, const Request& request, const std::string& name) {
  auto id = TRY(id_of<ContractId>(name));
  uint64_t size = TRY(market.blobs().size(id.value()));
  uint64_t offset = TRY(number(request, "offset", 0));
  if (offset > size) return Error(Code::kMalformed, "?offset=: expected at most the blob's size");
  uint64_t length = TRY(number(request, "length", size - offset));
  auto path = TRY(market.blobs().path(id.value()));
  Response response;
  response.content_type = "application/octet-stream";
  response.file = FilePart{path, offset, std::min(length, size - offset)};
  return response;
}

Result<Response> quote(Market& market, const Request& request) {
  auto json = TRY(parse_json(as_text(request.body), kMaxQuote));
  auto fields = TRY(Fields::of(json, "quote"));
  auto consumer = TRY(fields.named<PublicKey>("consumer"));
  const Json* submit = TRY(fields.any("submit"));
  TRY(fields.done());
  std::vector<DatasetId> named;
  if (const Json* list = submit->find("datasets"); list && list->array()) {
    for (const auto& item : *list->array()) {
      auto id = item.string() ? named_from_hex<DatasetId>(*item.string())
                              : Result<DatasetId>(Error(Code::kMalformed, "an id"));
      if (id) named.push_back(*id);  // what is none, the keeper refuses
    }
  }
  Json::Array unavailable;
  if (named.size() <= contracts::kMaxDatasets) {
    for (const auto& id : market.unavailable(market.state(), named))
      unavailable.push_back(Json(id));
  }
  auto answer = TRY(market.keeper().ask(
      trainer::frame(Kind::kQuote, Json::Object{{"consumer", consumer},
                                                {"submit", *submit},
                                                {"unavailable", std::move(unavailable)}}),
      Rank::kQuestion));
  auto body = TRY(trainer::expect(answer, Kind::kDecision));
  const Json* decision = body.find("decision");
  return json_response(200, decision ? *decision : body);
}

Result<Response> job(Market& market, const std::string& name) {
  auto id = TRY(id_of<ContractId>(name));
  auto state = market.state();
  const auto* contract = state.contract(id);
  if (!contract) return Error(Code::kNotFound, "expected a contract on this ledger");
  auto progress = market.progress(id);
  if (contract->result) {
    progress.step = contract->result->steps;
    progress.epsilon_micro = contract->result->epsilon_micro;
  }
  return json_response(200, Json::Object{{"contract", id},
                                         {"phase", contracts::phase_name(contract->phase)},
                                         {"step", progress.step},
                                         {"steps", contract->submit.spec.steps},
                                         {"epsilon_micro", progress.epsilon_micro},
                                         {"detail", progress.detail}});
}

Result<Response> header(Market& market, const std::string& name) {
  auto id = TRY(id_of<ContractId>(name));
  auto answer = TRY(market.keeper().ask(
      trainer::frame(Kind::kRelease, Json::Object{{"contract", id}}), Rank::kParticipant));
  if (answer.kind != Kind::kBytes) {
    TRY(trainer::expect(answer, Kind::kBytes));
    return Error(Code::kBroken, "expected a header from the keeper");
  }
  return of_bytes(std::move(answer.body), "application/octet-stream");
}

// C2SP tlog-tiles: what is here today is here for ever, what is not may come. Where there
// are witnesses, what is published is what a quorum of them has cosigned.
Result<Response> checkpoint_file(Market& market, const Request& request) {
  auto witnessed = checkpoint_of(market, Acknowledgement::kWitnessed);
  auto note = witnessed ? std::move(*witnessed) : market.ledger().checkpoint();
  auto response = of_bytes(to_bytes(note), "text/plain; charset=utf-8");
  response.headers["Cache-Control"] = "no-cache";
  // Who has it already asks again and again: RFC 9110, 13.1.2.
  auto tag = "\"" + to_hex(ByteView(ledger::sha256(response.body)).first(16)) + "\"";
  response.headers["ETag"] = tag;
  auto known = request.headers.find("if-none-match");
  bool has_it = known != request.headers.end() &&
                (known->second == "*" || known->second.find(tag) != std::string::npos);
  if (has_it) response.status = 304;
  return response;
}

Result<Response> tile_file(Market& market, const std::string& path) {
  auto tile = TRY(ledger::parse_tile_path(path));
  auto bytes = TRY(market.ledger().tile(tile));
  auto response = of_bytes(std::move(bytes), "application/octet-stream");
  response.headers["Cache-Control"] = "public, max-age=31536000, immutable";
  return response;
}

Response only_to_be_read() {
  auto response = problem(405, "method_not_allowed", "Method not allowed", "expected GET or HEAD");
  response.headers["Allow"] = "GET, HEAD";
  return response;
}

Result<Response> dispatch(Market& market, const Request& request) {
  auto parts = parts_of(request.path);
  bool get = request.method == "GET";
  bool post = request.method == "POST";
  if (get && request.path == "/healthz") return json_response(200, Json::Object{{"ok", true}});
  bool head = request.path == "/checkpoint";
  if (head || (!parts.empty() && parts.front() == "tile")) {
    if (!get) return only_to_be_read();
    return head ? checkpoint_file(market, request) : tile_file(market, request.path.substr(1));
  }
  if (parts.size() < 2 || parts[0] != "v1")
    return Error(Code::kNotFound, "expected a path under /v1");
  const std::string& noun = parts[1];
  if (parts.size() == 2) {
    if (get && noun == "market") return market_page(market);
    if (get && noun == "entries") return entries(market, request);
    if (post && noun == "entries") return append_entry(market, request);
    if (get && noun == "checkpoint") return checkpoint(market, request);
    if (get && noun == "witnesses") return witnesses(market);
    if (get && noun == "proof") return proof(market, request);
    if (get && noun == "consistency") return consistency(market, request);
    if (get && noun == "keeper") return keeper(market, request);
    if (post && noun == "uploads") return begin_upload(market, request);
    if (post && noun == "quotes") return quote(market, request);
  }
  if (parts.size() == 3) {
    if (request.method == "PUT" && noun == "uploads")
      return upload_piece(market, request, parts[2]);
    if (get && noun == "blobs") return blob(market, request, parts[2]);
    if (get && noun == "jobs") return job(market, parts[2]);
  }
  if (parts.size() == 4) {
    if (post && noun == "uploads" && parts[3] == "commit") return commit_upload(market, parts[2]);
    if (get && noun == "jobs" && parts[3] == "header") return header(market, parts[2]);
  }
  return Error(Code::kNotFound, "expected a path and method of this API");
}

}  // namespace

Response route(Market& market, const Request& request) {
  auto response = dispatch(market, request);
  if (!response) {
    auto refused = problem(response.error());
    refused.headers["Cache-Control"] = "no-store";  // what is not here may come
    if (refused.status == 503) refused.headers["Retry-After"] = "2";
    return refused;
  }
  return std::move(response).take();
}

}  // namespace souk::market
