// souk-witness: an independent witness of transparency logs (C2SP tlog-witness). Keeps the
// newest checkpoint of each log it knows and cosigns only what extends it.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <functional>

#include "market_api/arguments/arguments.h"
#include "market_api/outcome/outcome.h"
#include "market_api/transport/server.h"
#include "market_api/verbs/files.h"
#include "market_api/witness/routes.h"

namespace souk::market {
namespace {

struct Options {
  std::string data, keys, name, vkey, origin, prefix;
  std::string host = "127.0.0.1";
  uint32_t port = 0;
  bool json = false;

  std::string store() const { return data + "/witness.db"; }
  std::string key() const { return (keys.empty() ? data : keys) + "/witness.key"; }
  std::string count() const { return (keys.empty() ? data : keys) + "/witness.count"; }
};

// What could not be written is not done: whoever asked has not read it.
Result<int> answer(const Options& options, const Json::Object& members) {
  std::string text = options.json ? canonical(Json(members)) : "";
  for (auto at = members.begin(); !options.json && at != members.end(); ++at) {
    const std::string* words = at->second.string();
    text += (text.empty() ? "" : "\n") + at->first + " " + (words ? *words : canonical(at->second));
  }
  return static_cast<int>(say("souk-witness", text, ExitStatus::kYes));
}

// The file of the key: the name, a newline, 64 hex digits of the seed, a newline.
struct Identity {
  ledger::CosignerKey name;
  ledger::SigningKey key;
};

Result<Identity> load_identity(const Options& options) {
  auto bytes = TRY(about_input(read_file(options.key(), 4096), options.key()));
  auto text = as_text(bytes);
  size_t end = text.find('\n');
  if (end == std::string_view::npos || text.size() != end + 66 || text.back() != '\n') {
    return Error(Code::kMalformed, options.key() + ": expected a name and 64 hex digits");
  }
  auto seed = TRY(about_input(from_hex(text.substr(end + 1, 64)), options.key()));
  auto key = TRY(ledger::SigningKey::from_seed(seed));
  auto name = TRY(about_input(
      ledger::CosignerKey::of(std::string(text.substr(0, end)), key.public_key()), options.key()));
  return Identity{std::move(name), std::move(key)};
}

Result<ledger::WitnessStore> open_store(const Options& options) {
  return about_input(ledger::WitnessStore::open(options.store()), options.store());
}

// What init makes, gone again unless all of it was made.
class Made {
 public:
  ~Made() {
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      if (::unlink(path->c_str()) != 0) ::rmdir(path->c_str());
    }
  }
  // kMalformed when it is something else than a folder, or cannot be made.
  Status folder(const std::string& path) {
    if (mkdir(path.c_str(), 0700) == 0) {
      made_.push_back(path);
      return Done{};
    }
    if (errno == ENOSPC || errno == EDQUOT)
      return Error(Code::kTryAgain, "disk full: expected room for the folder " + path);
    struct stat info {};
    if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
        access(path.c_str(), W_OK | X_OK) == 0) {
      return Done{};
    }
    return Error(Code::kMalformed, "expected a folder that is there or can be made: " + path);
  }
  void file(const std::string& path) {
    made_.push_back(path);
    made_.push_back(path + ".new");
  }
  void keep() { made_.clear(); }

 private:
  std::vector<std::string> made_;
};

// The store appears last: a crash before that begins again with the same key.
Result<int> init(const Options& options) {
  auto trial = ledger::SigningKey::generate();
  TRY(about_input(ledger::CosignerKey::of(options.name, trial.public_key()), "--name"));
  if (file_exists(options.store())) {
    return Error(Code::kRefused, "expected a directory without a witness: " + options.data);
  }
  Made made;
  TRY(made.folder(options.data));
  if (!options.keys.empty()) TRY(made.folder(options.keys));
  if (!file_exists(options.key())) {
    auto seed = trial.seed(SecretAccess{});
    std::string text = options.name + "\n" + to_hex(seed.bytes(SecretAccess{})) + "\n";
    made.file(options.key());
    TRY(write_file(options.key(), as_bytes(text)));
  }
  auto identity = TRY(load_identity(options));
  if (identity.name.name() != options.name) {
    return Error(Code::kMalformed,
                 options.key() + ": expected the key of the witness that --name names");
  }
  if (!file_exists(options.count())) {
    made.file(options.count());
    TRY(ledger::CountGuard::create(options.count()));
  }
  TRY(ledger::WitnessStore::create(options.store(), identity.name.vkey()));
  made.keep();
  return answer(options, {{"vkey", identity.name.vkey()}});
}

Result<int> add_log(const Options& options) {
  auto key = TRY(about_input(ledger::NoteKey::parse(options.vkey), "VKEY"));
  auto store = TRY(open_store(options));
  const std::string& origin = options.origin.empty() ? key.name() : options.origin;
  TRY(store.add_log(origin, options.vkey));
  return answer(options, {{"origin", origin}, {"vkey", options.vkey}});
}

Result<int> logs(const Options& options) {
  auto store = TRY(open_store(options));
  auto known = TRY(store.logs());
  Json::Array out;
  for (const auto& log : known) {
    auto latest = TRY(store.latest(log.origin));
    auto evidence = TRY(store.evidence(log.origin));
    Json::Object one{{"origin", log.origin}, {"vkey", log.vkey}, {"misbehaviour", evidence.size()}};
    one["size"] = Json::wide(latest ? latest->size : 0);
    out.push_back(std::move(one));
  }
  if (options.json) return answer(options, {{"logs", std::move(out)}});
  std::string text;
  for (const auto& log : out) {
    text += (text.empty() ? "" : "\n") + *log.find("origin")->string() + " size " +
            canonical(*log.find("size")) + ", " + canonical(*log.find("misbehaviour")) +
            " contradictions kept";
  }
  if (text.empty()) text = "no logs: souk-witness add-log adds one";
  return static_cast<int>(say("souk-witness", text, ExitStatus::kYes));
}

Result<int> serve(const Options& options) {
  bool good = options.prefix.empty() || (options.prefix[0] == '/' && options.prefix.back() != '/');
  if (!good) return Error(Code::kMalformed, "--prefix: expected one like /witness");
  TRY(about_input(check_listen_address(options.host), "--host"));
  auto identity = TRY(load_identity(options));
  std::string vkey = identity.name.vkey();
  auto store = TRY(open_store(options));
  auto guard = TRY(about_input(ledger::CountGuard::open(options.count()), options.count()));

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
  auto listening = HttpServer::start(
      options.host, static_cast<uint16_t>(options.port),
      [&](const Request& request) { return route_witness(*witness, options.prefix, request); },
      limits);
  if (!listening) return Error(Code::kTryAgain, listening.error().expected());  // a port in use
  auto server = std::move(listening).take();
  int told = TRY(answer(options, {{"url", "http://" + options.host + ":" +
                                              std::to_string(server->port()) + options.prefix},
                                  {"vkey", vkey}}));
  if (told != 0) {  // the port would be known to nobody
    server->stop();
    return told;
  }
  int number = 0;
  sigwait(&ends, &number);
  server->stop();
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app{"A witness of transparency logs: cosigns checkpoints that extend what it has seen.",
               "souk-witness"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", "souk-witness " SOUK_VERSION);
  app.footer(
      "Exit: 0 yes, 1 no (a witness is there already, an old copy), 2 malformed call or "
      "file, 3 cannot now (port in use, full disk), 4 internal.");
  Options options;
  options.json = asks_for_json(argc, argv);
  app.add_flag("--json", options.json, "print one JSON object");
  std::function<Result<int>()> verb;
  auto add = [&](const char* name, const char* what, Result<int> (*act)(const Options&)) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("--data", options.data, "directory of the witness")->required();
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
  serving->add_option("--port", options.port, "port; 0 picks a free one")
      ->capture_default_str()
      ->check(whole_number(0, 65535));
  serving->add_option("--prefix", options.prefix, "path before /add-checkpoint, like /witness");
  speak_plainly(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return tell(app, asked, SOUK_VERSION, options.json);
  } catch (const CLI::ParseError& error) {
    return end_with("souk-witness", misread(app, error), options.json);
  }
  auto done = verb();
  return done ? *done : end_with("souk-witness", done.error(), options.json);
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  souk::market::hold_standard_descriptors();
  return souk::market::run(argc, argv);
}
