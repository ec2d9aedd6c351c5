// souk-witness: an independent witness of transparency logs (C2SP tlog-witness). Keeps the
// newest checkpoint of each log it knows and cosigns only what extends it.
#include <signal.h>
#include <sys/stat.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>

#include "market_api/transport/server.h"
#include "market_api/verbs/files.h"
#include "market_api/witness/routes.h"

namespace souk::market {
namespace {

struct Options {
  std::string data, keys, name, vkey, origin, prefix;
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  bool json = false;

  std::string store() const { return data + "/witness.db"; }
  std::string key() const { return (keys.empty() ? data : keys) + "/witness.key"; }
  std::string count() const { return (keys.empty() ? data : keys) + "/witness.count"; }
};

int exit_status(const Error& error) {
  std::fprintf(stderr, "souk-witness: %s\n", error.expected().c_str());
  switch (error.code()) {
    case Code::kMalformed:
      return 2;
    case Code::kRefused:
    case Code::kUnauthentic:
    case Code::kNotFound:
      return 1;
    case Code::kTryAgain:
    case Code::kConflict:
      return 3;
    default:
      return 4;
  }
}

void say(const Options& options, const Json::Object& answer) {
  if (options.json) {
    std::printf("%s\n", canonical(Json(answer)).c_str());
  } else {
    for (const auto& [name, value] : answer) {
      const std::string* text = value.string();
      std::printf("%s %s\n", name.c_str(), text ? text->c_str() : canonical(value).c_str());
    }
  }
  std::fflush(stdout);
}

// The file of the key: the name, a newline, 64 hex digits of the seed, a newline.
struct Identity {
  ledger::CosignerKey name;
  ledger::SigningKey key;
};

Result<Identity> load_identity(const Options& options) {
  auto bytes = TRY(read_file(options.key(), 4096));
  auto text = as_text(bytes);
  size_t end = text.find('\n');
  if (end == std::string_view::npos || text.size() != end + 66 || text.back() != '\n') {
    return Error(Code::kMalformed, "key file: expected a name and 64 hex digits");
  }
  auto seed = TRY(from_hex(text.substr(end + 1, 64)));
  auto key = TRY(ledger::SigningKey::from_seed(seed));
  auto name = TRY(ledger::CosignerKey::of(std::string(text.substr(0, end)), key.public_key()));
  return Identity{std::move(name), std::move(key)};
}

// The store appears last: a crash before that begins again with the same key.
Status init(const Options& options) {
  mkdir(options.data.c_str(), 0700);
  if (!options.keys.empty()) mkdir(options.keys.c_str(), 0700);
  if (file_exists(options.store())) {
    return Error(Code::kConflict, "expected a directory without a witness");
  }
  if (!file_exists(options.key())) {
    auto key = ledger::SigningKey::generate();
    TRY(ledger::CosignerKey::of(options.name, key.public_key()));
    auto seed = key.seed(SecretAccess{});
    std::string text = options.name + "\n" + to_hex(seed.bytes(SecretAccess{})) + "\n";
    TRY(write_file(options.key(), as_bytes(text)));
  }
  auto identity = TRY(load_identity(options));
  if (!file_exists(options.count())) TRY(ledger::CountGuard::create(options.count()));
  TRY(ledger::WitnessStore::create(options.store(), identity.name.vkey()));
  say(options, {{"vkey", identity.name.vkey()}});
  return Done{};
}

Status add_log(const Options& options) {
  auto key = TRY(ledger::NoteKey::parse(options.vkey));
  auto store = TRY(ledger::WitnessStore::open(options.store()));
  const std::string& origin = options.origin.empty() ? key.name() : options.origin;
  TRY(store.add_log(origin, options.vkey));
  say(options, {{"origin", origin}, {"vkey", options.vkey}});
  return Done{};
}

Status logs(const Options& options) {
  auto store = TRY(ledger::WitnessStore::open(options.store()));
  auto known = TRY(store.logs());
  Json::Array out;
  for (const auto& log : known) {
    auto latest = TRY(store.latest(log.origin));
    auto evidence = TRY(store.evidence(log.origin));
    Json::Object one{{"origin", log.origin}, {"vkey", log.vkey}, {"misbehaviour", evidence.size()}};
    one["size"] = std::to_string(latest ? latest->size : 0);
    out.push_back(std::move(one));
  }
  if (options.json) {
    say(options, {{"logs", std::move(out)}});
    return Done{};
  }
  for (const auto& log : out) {
    std::printf("%s size %s, %s contradictions kept\n", log.find("origin")->string()->c_str(),
                log.find("size")->string()->c_str(), canonical(*log.find("misbehaviour")).c_str());
  }
  return Done{};
}

Status serve(const Options& options) {
  bool good = options.prefix.empty() || (options.prefix[0] == '/' && options.prefix.back() != '/');
  if (!good) return Error(Code::kMalformed, "--prefix: expected one like /witness");
  auto identity = TRY(load_identity(options));
  std::string vkey = identity.name.vkey();
  auto store = TRY(ledger::WitnessStore::open(options.store()));
  auto guard = TRY(ledger::CountGuard::open(options.count()));

  signal(SIGPIPE, SIG_IGN);
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);  // every thread leaves them to sigwait below
  SystemClock clock;
  auto witness = TRY(ledger::Witness::start(std::move(store), std::move(identity.name),
                                            std::move(identity.key), std::move(guard), clock));
  HttpLimits limits;
  limits.max_body = kMaxWitnessBody;
  auto server = TRY(HttpServer::start(
      options.host, options.port,
      [&](const Request& request) { return route_witness(*witness, options.prefix, request); },
      limits));
  say(options,
      {{"url", "http://" + options.host + ":" + std::to_string(server->port()) + options.prefix},
       {"vkey", vkey}});
  int number = 0;
  sigwait(&ends, &number);
  server->stop();
  return Done{};
}

int run(int argc, char** argv) {
  CLI::App app{"A witness of transparency logs: cosigns checkpoints that extend what it has seen."};
  app.require_subcommand(1);
  Options options;
  std::function<Status()> verb;
  auto add = [&](const char* name, const char* what, Status (*act)(const Options&)) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("--data", options.data, "directory of the witness")->required();
    command->add_flag("--json", options.json, "print one JSON object");
    command->callback([&verb, &options, act] { verb = [&options, act] { return act(options); }; });
    return command;
  };
  auto keys = [&](CLI::App* command) {
    command->add_option("--keys", options.keys,
                        "directory of key and count, away from --data and its backups "
                        "(default: --data)");
  };
  auto* starting = add("init", "Make a key and an empty memory", init);
  keys(starting);
  starting->add_option("--name", options.name, "name of the witness, like witness.example/w1")
      ->required();
  auto* adding = add("add-log", "Watch a log; a running witness learns of it at once", add_log);
  adding->add_option("VKEY", options.vkey, "the log's verification key")->required();
  adding->add_option("--origin", options.origin, "its origin, if that is not the key's name");
  add("logs", "The logs watched, and the newest size of each", logs);
  auto* serving = add("serve", "Serve the witness protocol on the loopback interface", serve);
  keys(serving);
  serving->add_option("--host", options.host, "loopback address")->capture_default_str();
  serving->add_option("--port", options.port, "port; 0 picks a free one")->capture_default_str();
  serving->add_option("--prefix", options.prefix, "path before /add-checkpoint, like /witness");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  auto done = verb();
  return done ? 0 : exit_status(done.error());
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  return souk::market::run(argc, argv);
}
