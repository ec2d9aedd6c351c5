#include "tests/support/live_market.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "ledger/audit/audit.h"
#include "ledger/crypto/hash.h"
#include "ledger/proof/recorded.h"

namespace souk::flows {
namespace {

using Milliseconds = std::chrono::milliseconds;

constexpr int kPatience = 6000;  // times 10 ms

void pause() {
  std::this_thread::sleep_for(Milliseconds(10));
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Process {
  pid_t parent = 0;
  char state = '?';
  std::vector<std::string> arguments;
};

std::optional<Process> process(pid_t pid) {
  std::string base = "/proc/" + std::to_string(pid);
  std::string stat = read_text(base + "/stat");
  auto close = stat.rfind(')');
  if (close == std::string::npos) return std::nullopt;
  Process out;
  std::istringstream rest(stat.substr(close + 1));
  rest >> out.state >> out.parent;
  std::istringstream arguments(read_text(base + "/cmdline"));
  for (std::string word; std::getline(arguments, word, '\0');) out.arguments.push_back(word);
  return out;
}

bool alive(pid_t pid) {
  auto found = process(pid);
  return found && found->state != 'Z' && found->state != 'X';
}

std::vector<pid_t> children(pid_t parent) {
  std::vector<pid_t> out;
  DIR* proc = opendir("/proc");
  CHECK(proc);
  while (dirent* entry = readdir(proc)) {
    pid_t pid = atoi(entry->d_name);
    if (pid <= 0) continue;
    auto found = process(pid);
    if (found && found->parent == parent && found->state != 'Z') out.push_back(pid);
  }
  closedir(proc);
  return out;
}

}  // namespace

std::string program(const std::string& name) {
  const char* folder = std::getenv("SOUK_BIN");
  std::string path = std::string(folder ? folder : ".") + "/" + name;
  return access(path.c_str(), X_OK) == 0 ? path : "";
}

LiveMarket::LiveMarket() {
  signal(SIGPIPE, SIG_IGN);
  CHECK(mkdir(logs().c_str(), 0700) == 0);
}

LiveMarket::~LiveMarket() {
  kill_host();
}

void LiveMarket::launch() {
  CHECK(host_ == 0);
  std::string soukd = program("soukd");
  std::string key = to_hex(treasury.account());
  std::string directory = data();
  std::string out = logs() + "/soukd.out";
  std::string log = logs() + "/soukd.err";
  unlink(out.c_str());
  const char* argv[] = {soukd.c_str(), "--data", directory.c_str(), "--treasury", key.c_str(),
                        "--json",      nullptr};
  host_ = fork();
  CHECK(host_ >= 0);
  if (host_ == 0) {
    int out_fd = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int log_fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (out_fd < 0 || log_fd < 0 || dup2(out_fd, 1) < 0 || dup2(log_fd, 2) < 0) _exit(126);
    execv(argv[0], const_cast<char**>(argv));
    _exit(127);
  }
}

Status LiveMarket::wait_until_it_serves() {
  std::string out = logs() + "/soukd.out";
  for (int i = 0; i < kPatience; ++i) {
    std::string line = read_text(out);
    if (!line.empty() && line.back() == '\n') {
      auto json = TRY(parse_json(line));
      if (json.find("error")) {  // it ends now
        waitpid(host_, nullptr, 0);
        host_ = 0;
        return Error(Code::kBroken, "soukd ended: " + read_text(logs() + "/soukd.err"));
      }
      auto fields = TRY(Fields::of(json, "soukd"));
      url_ = TRY(fields.text("url"));
      auto market = TRY(fields.named<MarketId>("market"));
      if (pinned_ && *pinned_ != market)
        return Error(Code::kUnauthentic, "expected the same market again");
      pinned_ = market;
      client_ = TRY(market::HttpClient::open(url_));
      return Done{};
    }
    int status = 0;
    if (waitpid(host_, &status, WNOHANG) == host_) {
      host_ = 0;
      return Error(Code::kBroken, "soukd ended: " + read_text(logs() + "/soukd.err"));
    }
    pause();
  }
  return Error(Code::kTryAgain, "soukd is silent");
}

Status LiveMarket::start() {
  launch();
  return wait_until_it_serves();
}

std::vector<pid_t> LiveMarket::enclaves(const std::string& role) const {
  std::vector<pid_t> out;
  if (host_ <= 0) return out;
  for (pid_t pid : children(host_)) {
    auto found = process(pid);
    if (found && found->arguments.size() == 2 && found->arguments[1] == role) out.push_back(pid);
  }
  return out;
}

bool LiveMarket::kill_enclave(const std::string& role) {
  auto found = enclaves(role);
  for (pid_t pid : found) {
    kill(pid, SIGKILL);
    while (alive(pid)) pause();
  }
  return !found.empty();
}

bool LiveMarket::kill_helpers(const std::string& role) {
  bool any = false;
  for (pid_t enclave : enclaves(role)) {
    for (pid_t helper : children(enclave)) {
      any = true;
      kill(helper, SIGKILL);
      while (alive(helper)) pause();
    }
  }
  return any;
}

void LiveMarket::kill_host() {
  if (host_ <= 0) return;
  auto children = enclaves("keeper");
  auto trainers = enclaves("trainer");
  children.insert(children.end(), trainers.begin(), trainers.end());
  kill(host_, SIGKILL);
  waitpid(host_, nullptr, 0);
  host_ = 0;
  client_.reset();
  // They die with it, by themselves.
  for (pid_t child : children) {
    for (int i = 0; i < kPatience && alive(child); ++i) pause();
  }
}

void LiveMarket::forget_host() {
  host_ = 0;
  client_.reset();
}

Status LiveMarket::stop_host() {
  CHECK(host_ > 0);
  kill(host_, SIGTERM);
  int status = 0;
  waitpid(host_, &status, 0);
  host_ = 0;
  client_.reset();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error(Code::kBroken, "expected exit status 0");
  return Done{};
}

// ---- HTTP -----------------------------------------------------------------------

Result<market::Response> LiveMarket::http(const std::string& method, const std::string& path,
                                          ByteView body) {
  if (!client_) return Error(Code::kTryAgain, "soukd does not run");
  bodies_.push_back(to_bytes(method + " " + path));
  bodies_.emplace_back(body.begin(), body.end());
  const char* type = body.empty()      ? ""
                     : method == "PUT" ? "application/octet-stream"
                                       : "application/json";
  auto response = TRY(client_->send(method, path, body, type));
  bodies_.push_back(response.body);
  return response;
}

Result<Json> LiveMarket::json(const std::string& method, const std::string& path,
                              const Json& body) {
  std::string text = body.is_null() ? "" : canonical(body);
  auto response = TRY(http(method, path, as_bytes(text)));
  if (response.status >= 300) return market::error_from(response);
  return parse_json(as_text(response.body));
}

Result<Json> LiveMarket::get(const std::string& path) {
  return json("GET", path, Json());
}

Status LiveMarket::sync() {
  while (true) {
    uint64_t from = follower_ ? follower_->confirmed_size() : 0;
    auto page = TRY(get("/v1/entries?from=" + std::to_string(from)));
    auto fields = TRY(Fields::of(page, "entries"));
    auto note = TRY(fields.text("checkpoint", 1 << 16));
    auto size = TRY(fields.integer("size"));
    const auto* leaves = TRY(fields.array("leaves", 1000));
    if (leaves->empty()) return Done{};
    for (const auto& item : *leaves) {
      auto leaf = TRY(from_base64(*item.string()));
      if (!follower_) {
        follower_.emplace(
            TRY(contracts::Follower::pin(leaf, pinned_, &trainer::appraise_for_market)));
      }
      TRY(follower_->add(leaf));
    }
    if (follower_->size() != static_cast<uint64_t>(size))
      return Error(Code::kBroken, "expected one page");
    TRY(follower_->confirm(note));
  }
}

// ---- steps ------------------------------------------------------------------------

Status LiveMarket::upload(ByteView file, size_t until) {
  Json ask = Json::Object{{"digest", ledger::sha256(file)}, {"size", file.size()}};
  auto begun = TRY(json("POST", "/v1/uploads", ask));
  auto fields = TRY(Fields::of(begun, "upload"));
  auto id = TRY(fields.text("upload"));
  auto offset = static_cast<size_t>(TRY(fields.integer("offset")));
  while (offset < until) {
    size_t piece = std::min<size_t>(until - offset, 1000);
    auto response = TRY(http("PUT", "/v1/uploads/" + id + "?offset=" + std::to_string(offset),
                             file.subspan(offset, piece)));
    if (response.status != 200) return market::error_from(response);
    offset += piece;
  }
  if (until < file.size()) return Done{};
  auto response = TRY(http("POST", "/v1/uploads/" + id + "/commit"));
  if (response.status != 201) return market::error_from(response);
  return Done{};
}

Status LiveMarket::record(const ledger::Envelope& envelope) {
  auto answer = TRY(json("POST", "/v1/entries", ledger::to_json(envelope)));
  auto fields = TRY(Fields::of(answer, "receipt"));
  auto seq = static_cast<uint64_t>(TRY(fields.integer("seq")));
  auto hash = TRY(fields.text("leaf_hash"));
  auto [it, fresh] = acknowledged_.emplace(seq, hash);
  if (!fresh && it->second != hash)
    return Error(Code::kUnauthentic, "expected the place it had before");
  return Done{};
}

Result<contracts::Phase> LiveMarket::phase_after(const ContractId& contract,
                                                 const std::vector<contracts::Phase>& waiting) {
  for (int i = 0; i < kPatience; ++i) {
    auto synced = sync();
    if (synced) {
      const auto* found = state().contract(contract);
      bool waits =
          !found || std::find(waiting.begin(), waiting.end(), found->phase) != waiting.end();
      if (!waits) return found->phase;
    } else if (synced.error().code() != Code::kTryAgain) {
      return std::move(synced).take_error();
    }
    pause();
  }
  const auto* found = state().contract(contract);
  return Error(Code::kTryAgain, std::string("expected the contract to move on, it is ") +
                                    (found ? contracts::phase_name(found->phase) : "unknown") +
                                    "\n" + read_text(logs() + "/soukd.err"));
}

Result<Bytes> LiveMarket::model_file(const ContractId& contract) {
  TRY(sync());
  const auto* found = state().contract(contract);
  if (!found || !found->result) return Error(Code::kNotFound, "expected a result");
  auto header = TRY(http("GET", "/v1/jobs/" + to_hex(contract) + "/header"));
  if (header.status != 200) return market::error_from(header);
  auto payload = TRY(http("GET", "/v1/blobs/" + to_hex(ByteView(found->result->payload))));
  if (payload.status != 200) return market::error_from(payload);
  Bytes file = header.body;
  append(file, payload.body);
  return file;
}

std::string LiveMarket::missing() {
  for (const auto& [seq, hash] : acknowledged_) {
    auto proof = get("/v1/proof?seq=" + std::to_string(seq));
    if (!proof) return "entry " + std::to_string(seq) + ": " + proof.error().expected();
    auto leaf = from_base64(*proof->find("leaf")->string());
    if (!leaf || to_hex(ByteView(ledger::leaf_hash(*leaf))) != hash)
      return "entry " + std::to_string(seq) + " changed";
    auto recorded = ledger::confirm_one(*leaf, *proof->find("tlog_proof")->string(),
                                        follower_->ledger_key(), follower_->genesis().origin);
    if (!recorded) return "entry " + std::to_string(seq) + ": " + recorded.error().expected();
  }
  return "";
}

std::string LiveMarket::audit() const {
  CHECK(host_ == 0);
  contracts::MarketState replayed(&trainer::appraise_for_market);
  auto report = ledger::audit_file(data() + "/ledger.db", follower_->ledger_key(),
                                   [&](const ledger::RecordedEntry& entry) -> Status {
                                     replayed = contracts::apply(std::move(replayed), entry);
                                     return Done{};
                                   });
  if (!report.ok) return report.reason;
  contracts::Minor held = replayed.escrow_total();
  for (const auto& [account, money] : replayed.accounts()) held += money.balance;
  if (held != replayed.minted()) {
    return "balances and escrow are " + std::to_string(held) + ", minted were " +
           std::to_string(replayed.minted());
  }
  // What a person would run.
  if (program("souk").empty()) return "expected souk in $SOUK_BIN";
  std::string command = "SOUK_HOME=" + folder_.file("nobody") + " " + program("souk") +
                        " ledger audit --data " + data() + " --market-id " + to_hex(market()) +
                        " --json > " + logs() + "/audit.out 2>&1";
  if (std::system(command.c_str()) != 0)
    return "souk ledger audit: " + read_text(logs() + "/audit.out");
  return "";
}

}  // namespace souk::flows
