// soukd: the market's host. Starts or opens the market in a directory, serves its
// API on the loopback interface, and runs its enclaves.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "market_api/http/routes.h"
#include "market_api/transport/client.h"
#include "market_api/transport/server.h"
#include "market_api/verbs/files.h"

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
  std::string command = "'" + beside_me("souk") + "' treasury keygen --json";
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return Error(Code::kTryAgain, "expected to run souk treasury keygen");
  std::string out;
  char buffer[4096];
  while (size_t n = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, n);
  if (pclose(pipe) != 0) {
    return Error(
        Code::kRefused,
        "a new market needs a treasury: run `souk treasury keygen` and pass --treasury HEX");
  }
  auto json = TRY(parse_json(out));
  const Json* key = json.find("treasury");
  if (!key || !key->string())
    return Error(Code::kBroken, "expected a key from souk treasury keygen");
  return named_from_hex<PublicKey>(*key->string());
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

int exit_status(const Error& error) {
  std::fprintf(stderr, "soukd: %s\n", error.expected().c_str());
  switch (error.code()) {
    case Code::kMalformed:
    case Code::kRefused:
      return 2;
    case Code::kTryAgain:
    case Code::kConflict:
      return 3;
    case Code::kUnauthentic:
      return 1;
    default:
      return 4;
  }
}

int run(int argc, char** argv) {
  CLI::App app{
      "The host of a souk market. It keeps ciphertext and the ledger; it holds no keys of data."};
  std::string directory;
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  std::string treasury_hex;
  std::string currency = "EUR";
  std::string witness_policy;
  bool found_only = false;
  bool json = false;
  app.add_option("--data", directory,
                 "directory of the market; created with a new genesis if empty")
      ->required();
  app.add_option("--host", host, "loopback address to listen on")->capture_default_str();
  app.add_option("--port", port, "port; 0 picks a free one")->capture_default_str();
  app.add_option(
      "--treasury", treasury_hex,
      "new market: public key that may mint (hex); default: `souk treasury keygen` of this user");
  app.add_option("--currency", currency, "new market: currency code")->capture_default_str();
  app.add_option("--witness-policy", witness_policy,
                 "new market: C2SP tlog-policy file whose quorum of witnesses stands behind the "
                 "ledger; later: their new addresses");
  app.add_flag("--found", found_only,
               "make the market, print its keys, and end: witnesses must know the ledger key "
               "before the market opens");
  app.add_flag("--json", json, "print one JSON object instead of lines");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return exit_status(Error(Code::kMalformed, std::string(error.what()) + " (see soukd --help)"));
  }
  // Before anything is made: a call that cannot succeed leaves nothing behind.
  auto listens = check_listen_address(host);
  if (!listens) return exit_status(listens.error());
  bool capitals =
      std::all_of(currency.begin(), currency.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (!capitals || currency.size() < 3 || currency.size() > 8) {
    return exit_status(Error(Code::kMalformed, "--currency: expected 3 to 8 capital letters"));
  }
  std::optional<PublicKey> treasury;
  if (!treasury_hex.empty()) {
    auto key = named_from_hex<PublicKey>(treasury_hex);
    if (!key)
      return exit_status(Error(Code::kMalformed, "--treasury: expected 64 lower-case hex digits"));
    treasury = *key;
  }

  signal(SIGPIPE, SIG_IGN);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);

  mkdir(directory.c_str(), 0700);
  char real[4096];
  struct stat info {};
  if (!realpath(directory.c_str(), real) || stat(real, &info) != 0 || !S_ISDIR(info.st_mode) ||
      access(real, W_OK | X_OK) != 0) {
    return exit_status(Error(Code::kMalformed,
                             "--data: expected a directory that is there or can be made, and that "
                             "this user may write: " +
                                 directory));
  }
  MarketConfig config;
  config.directory = real;
  config.enclave_program = beside_me("souk-enclave");
  config.currency = currency;
  config.treasury = treasury;
  if (!treasury && !Market::exists(config.directory)) {
    auto key = treasury_of_operator();
    if (!key) return exit_status(key.error());
    config.treasury = *key;
  }

  if (!witness_policy.empty()) {
    auto text = read_file(witness_policy, contracts::kMaxWitnessPolicyBytes);
    if (!text) {
      return exit_status(
          Error(Code::kMalformed, "--witness-policy: expected a readable file of at most 16 KiB"));
    }
    config.witness_policy = to_text(*text);
  }
  if (found_only) {
    SystemClock clock;
    auto key = Market::found(config, clock);
    if (!key) return exit_status(key.error());
    std::string text =
        json ? canonical(Json::Object{{"ledger_key", key->vkey()}}) : "ledger-key " + key->vkey();
    std::printf("%s\n", text.c_str());
    return 0;
  }

  // Every thread made from here on leaves the signals to sigwait below.
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  SystemClock clock;
  config.on_ledger_failed = [] { kill(getpid(), SIGTERM); };
  auto market = Market::open(std::move(config), clock, connect_witness);
  if (!market) return exit_status(market.error());
  Market& open_market = **market;
  auto server = HttpServer::start(
      host, port, [&](const Request& request) { return route(open_market, request); });
  if (!server) return exit_status(server.error());
  std::string url = "http://" + host + ":" + std::to_string((*server)->port());
  std::string key = open_market.ledger().log_key().vkey();
  if (json) {
    std::printf("%s\n", canonical(Json::Object{{"url", url},
                                               {"market", open_market.id()},
                                               {"ledger_key", key},
                                               {"treasury", open_market.treasury()}})
                            .c_str());
  } else {
    std::printf("url %s\nmarket %s\nledger-key %s\ntreasury %s\n", url.c_str(),
                to_hex(open_market.id()).c_str(), key.c_str(),
                to_hex(open_market.treasury()).c_str());
  }
  std::fflush(stdout);
  std::fputs(
      "soukd: enclaves are simulated (insecure-sim): root of this machine can see everything\n",
      stderr);

  int signal_number = 0;
  sigwait(&ends, &signal_number);
  (*server)->stop();
  auto failed = open_market.ledger_failure();
  if (!failed) return exit_status(failed.error());
  return 0;
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  return souk::market::run(argc, argv);
}
