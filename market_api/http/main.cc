// soukd: the market's host. Starts or opens the market in a directory, serves its
// API on the loopback interface, and runs its enclaves.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>

#include "ledger/crypto/public_key.h"
#include "ledger/proof/quorum.h"
#include "market_api/arguments/arguments.h"
#include "market_api/http/routes.h"
#include "market_api/outcome/outcome.h"
#include "market_api/transport/client.h"
#include "market_api/transport/server.h"
#include "market_api/verbs/files.h"
#include "market_api/verbs/witnesses.h"

namespace souk::market {
namespace {

std::string beside_me(const char* name) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  std::string self(path, n > 0 ? static_cast<size_t>(n) : 0);
  return self.substr(0, self.rfind('/') + 1) + name;
}

// The treasury key is made and held by the `souk` program of whoever runs it; this
// process sees the public half only.
Result<PublicKey> treasury_of_operator() {
  std::string command = "'" + beside_me("souk") + "' treasury keygen --json 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return Error(Code::kTryAgain, "expected to run souk treasury keygen");
  std::string out;
  char buffer[4096];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  int status = pclose(pipe);
  auto json = parse_json(out);
  const Json* key = json ? json->find("treasury") : nullptr;
  if (status == 0 && key && key->string()) return named_from_hex<PublicKey>(*key->string());
  const Json* error = json ? json->find("error") : nullptr;
  const Json* message = error ? error->find("message") : nullptr;
  bool later = WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(ExitStatus::kCannotNow);
  return Error(later ? Code::kTryAgain : Code::kMalformed,
               "a new market needs a treasury: run `souk treasury keygen` and pass --treasury HEX" +
                   (message && message->string() ? " (" + *message->string() + ")" : ""));
}

// Bytes to a witness and back; a connection that broke is made anew.
Result<ledger::WitnessFeeder::Exchange> connect_witness(const std::string& url) {
  auto client = std::make_shared<HttpClient>(TRY(HttpClient::open(url)));
  return ledger::WitnessFeeder::Exchange(
      [client](const std::string& method, const std::string& path,
               const std::string& body) -> Result<ledger::WitnessAnswer> {
        constexpr int kSeconds = 5;
        auto answer = TRY(client->send(method, path, as_bytes(body), "text/plain; charset=utf-8",
                                       kSeconds, ledger::kMaxNoteBytes));
        return ledger::WitnessAnswer{.status = answer.status,
                                     .content_type = answer.content_type,
                                     .body = to_text(answer.body)};
      });
}

// A start that is refused is for whoever called to mend; a port or a folder in use becomes free.
Error of_start(Error error) {
  switch (error.code()) {
    case Code::kRefused:
    case Code::kNotFound:
      return Error(Code::kMalformed, error.expected());
    case Code::kConflict:
      return Error(Code::kTryAgain, error.expected());
    default:
      return error;
  }
}

Status read_witness_policy(const std::string& text) {
  TRY(ledger::WitnessQuorum::parse(text));
  return Done{};
}

struct Options {
  std::string directory;
  std::string host = "127.0.0.1";
  std::optional<std::string> treasury_hex, witness_policy, currency;  // given, if only as ""
  std::optional<uint32_t> port;  // else the one of the last start
  std::optional<uint64_t> reserve_mib;
  uint32_t longest_run_minutes = 60;
  bool found_only = false, json = false;
};

// What the call says, looked at before anything is made: a call that cannot succeed leaves
// nothing behind.
Result<MarketConfig> config_of(const Options& options) {
  TRY(about_input(check_listen_address(options.host), "--host"));
  auto is_capital = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (options.currency &&
      (options.currency->size() < 3 || options.currency->size() > 8 ||
       !std::all_of(options.currency->begin(), options.currency->end(), is_capital))) {
    return Error(Code::kMalformed, "--currency: expected 3 to 8 capital letters");
  }
  MarketConfig config;
  config.currency = options.currency;
  if (options.reserve_mib) config.uploads.reserve = *options.reserve_mib << 20;
  config.longest_run = std::chrono::minutes(options.longest_run_minutes);
  config.enclave_program = beside_me("souk-enclave");
  config.ask_treasury = treasury_of_operator;
  if (options.treasury_hex) {
    auto key = named_from_hex<PublicKey>(*options.treasury_hex);
    if (!key) return Error(Code::kMalformed, "--treasury: expected 64 lower-case hex digits");
    if (!ledger::is_public_key(*key)) {
      return Error(Code::kMalformed,
                   "--treasury: expected an Ed25519 public key that somebody can sign for");
    }
    config.treasury = *key;
  }
  if (options.witness_policy) {
    if (options.witness_policy->empty()) {
      return Error(Code::kMalformed, "--witness-policy: expected a C2SP tlog-policy file");
    }
    auto text =
        TRY(about_input(read_file(*options.witness_policy, contracts::kMaxWitnessPolicyBytes),
                        *options.witness_policy));
    config.witness_policy = to_text(text);
  }
  std::error_code failure;
  auto path = std::filesystem::weakly_canonical(
      std::filesystem::absolute(options.directory, failure), failure);
  if (!path.has_filename()) path = path.parent_path();  // named with a slash at its end
  bool there = std::filesystem::exists(path, failure);
  auto folder = there ? path : path.parent_path();
  if (options.directory.empty() || !std::filesystem::is_directory(folder, failure) ||
      access(folder.c_str(), W_OK | X_OK) != 0) {
    return Error(Code::kMalformed,
                 "--data: expected a directory that is there or can be made, and that this user "
                 "may write: " +
                     options.directory);
  }
  config.directory = path.string();
  if (options.witness_policy) {
    // A new market lives by it; an open one learns addresses from it.
    bool is_new = !file_exists(config.directory + "/ledger.db");
    TRY(about_input(is_new ? check_witness_policy(config.witness_policy)
                           : read_witness_policy(config.witness_policy),
                    *options.witness_policy));
  }
  return config;
}

Result<int> found(const MarketConfig& config, const Options& options) {
  SystemClock clock;
  auto key = TRY(Market::found(config, clock));
  std::string text = options.json ? canonical(Json::Object{{"ledger_key", key.vkey()}})
                                  : "ledger-key " + key.vkey();
  return static_cast<int>(say("soukd", text, ExitStatus::kYes));
}

// kYes, or what ends this start: the port and the keys would be known to nobody.
ExitStatus introduce(const Options& options, uint16_t port, Market& market) {
  std::string url = "http://" + options.host + ":" + std::to_string(port);
  std::string key = market.ledger().log_key().vkey();
  Json::Object json{
      {"url", url}, {"market", market.id()}, {"ledger_key", key}, {"treasury", market.treasury()}};
  std::string text = "url " + url + "\nmarket " + to_hex(market.id()) + "\nledger-key " + key +
                     "\ntreasury " + to_hex(market.treasury());
  auto said = say("soukd", options.json ? canonical(Json(json)) : text, ExitStatus::kYes);
  if (said != ExitStatus::kYes) return said;
  std::fputs(
      "soukd: enclaves are simulated (insecure-sim): root of this machine can see everything\n",
      stderr);
  return said;
}

// Where the market in this folder was served last: Format: market_api/SPEC.md, soukd. Everybody
// who has pinned it looks there. 0: nowhere yet.
std::string port_file(const std::string& directory) {
  return directory + "/port";
}

Result<uint16_t> last_port(const std::string& directory) {
  const std::string path = port_file(directory);
  auto bytes = read_file(path, 16);
  if (!bytes && bytes.error().code() == Code::kNotFound) return uint16_t{0};
  if (!bytes) return about_input(std::move(bytes).take_error(), path);
  std::string text = to_text(*bytes);
  bool digits =
      text.size() > 1 && text.size() <= 6 && text.back() == '\n' &&
      std::all_of(text.begin(), text.end() - 1, [](char c) { return c >= '0' && c <= '9'; });
  int port = digits ? std::stoi(text) : 0;
  if (port >= 1 && port <= 65535) return static_cast<uint16_t>(port);
  return Error(Code::kMalformed, path + ": expected a port from 1 to 65535 and a line's end");
}

// Nobody is turned away for a port that could not be noted: the next start may pick another.
void note_port(const std::string& directory, uint16_t port) {
  auto last = last_port(directory);
  if (last && *last == port) return;
  auto noted = write_file(port_file(directory), as_bytes(std::to_string(port) + "\n"));
  if (noted) return;
  std::fprintf(stderr, "soukd: the port is not noted for the next start: %s\n",
               noted.error().expected().c_str());
}

Result<std::unique_ptr<HttpServer>> start_server(const MarketConfig& config, const Options& options,
                                                 Handler handler) {
  if (options.port)
    return HttpServer::start(options.host, static_cast<uint16_t>(*options.port),
                             std::move(handler));
  const uint16_t port = TRY(last_port(config.directory));
  auto server = HttpServer::start(options.host, port, std::move(handler));
  if (server || port == 0 || server.error().code() != Code::kConflict) return server;
  TRY(FolderLock::take(config.directory));  // it may be this very market that is served there
  return Error(Code::kConflict, server.error().expected() +
                                    ", where this market was served last; --port chooses another");
}

// Until it is asked to end; the status to end with.
Result<int> serve(MarketConfig config, const Options& options) {
  // Every thread made from here on leaves the signals to sigwait below.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  SystemClock clock;
  config.on_ledger_failed = [] { kill(getpid(), SIGTERM); };
  // The port first, so that none is missing once there is a market; nobody is served before.
  std::unique_ptr<Market> market;
  std::atomic<Market*> opened = nullptr;
  const std::string directory = config.directory;
  auto server = TRY(start_server(config, options, [&](const Request& request) {
    Market* there = opened;
    if (there) return route(*there, request);
    return problem(Error(Code::kTryAgain, "the market is not open yet"));
  }));
  market = TRY(Market::open(std::move(config), clock, connect_witness));
  note_port(directory, server->port());  // the folder is ours
  opened = market.get();
  // From here on nothing is printed: a reader that goes away later ends no market.
  auto introduced = introduce(options, server->port(), *market);
  if (introduced != ExitStatus::kYes) {
    server->stop();
    return static_cast<int>(introduced);
  }

  int signal_number = 0;
  sigwait(&ends, &signal_number);
  server->stop();
  auto failed = market->ledger_failure();
  if (!failed) return end_with("soukd", of_start(std::move(failed).take_error()), false);
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app{
      "The host of a souk market. It keeps ciphertext and the ledger; it holds no keys of data.",
      "soukd"};
  Options options;
  options.json = asks_for_json(argc, argv);
  app.add_option("--data", options.directory,
                 "folder of the market; a new market is made where it is empty or not there")
      ->required();
  app.add_option("--host", options.host, "loopback address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app.add_option("--port", options.port,
                 "port, noted in the folder for later starts; 0 picks a free one. Default: that of "
                 "the last start, at the first a free one")
      ->check(whole_number(0, 65535));
  app.add_option("--treasury", options.treasury_hex,
                 "public key that may mint, in hex. New market: its own, for good (default: what "
                 "`souk treasury keygen` of this user prints). Later: only the same")
      ->type_name("HEX");
  app.add_option("--currency", options.currency,
                 "code of 3 to 8 capital letters. New market: its own, for good (default: EUR). "
                 "Later: only the same")
      ->type_name("CODE");
  app.add_option("--witness-policy", options.witness_policy,
                 "C2SP tlog-policy file. New market: the quorum of witnesses that stands behind "
                 "its ledger, for good. Later: only the same quorum of the same keys, at new "
                 "addresses")
      ->type_name("FILE");
  app.add_option("--reserve", options.reserve_mib,
                 "MiB of the disk that uploads leave to the ledger and to models; default: a "
                 "quarter of the disk, at most 256")
      ->check(whole_number(1, int64_t{1} << 24));
  app.add_option("--longest-run", options.longest_run_minutes,
                 "minutes that a run may have the trainer while a contract of another consumer "
                 "waits that has paid more: then it ends, its money returns, and the epsilon "
                 "reserved for it is spent")
      ->type_name("MINUTES")
      ->capture_default_str()
      ->check(whole_number(1, 10080));
  app.add_flag("--found", options.found_only,
               "make the market, print its ledger key, and end: witnesses must know that key "
               "before the market opens");
  app.add_flag("--json", options.json, "print one JSON object instead of lines");
  app.set_version_flag("--version", "soukd " SOUK_VERSION);
  app.footer(
      "Exit: 0 ended when asked to, 1 a witness has caught this ledger, 2 malformed call or "
      "file, 3 cannot now (port or folder in use, full disk, no quorum, output not written), 4 "
      "internal.");
  speak_plainly(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return tell(app, asked, SOUK_VERSION, options.json);
  } catch (const CLI::ParseError& error) {
    return end_with("soukd", misread(app, error), options.json);
  }
  signal(SIGPIPE, SIG_IGN);
  auto config = config_of(options);
  if (!config) return end_with("soukd", of_start(std::move(config).take_error()), options.json);
  auto ended = options.found_only ? found(*config, options) : serve(std::move(*config), options);
  if (!ended) return end_with("soukd", of_start(std::move(ended).take_error()), options.json);
  return *ended;
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  souk::market::hold_standard_descriptors();
  return souk::market::run(argc, argv);
}
