#include "market_api/client/identity.h"

#include <stdio.h>

#include <algorithm>
#include <filesystem>

#include "ledger/codec/json.h"
#include "market_api/client/local_files.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

constexpr size_t kMaxSmallFile = 256 << 10;
constexpr std::string_view kKeyFormat = "souk-identity/1";

Status check_name(const std::string& name) {
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (name.empty() || name.size() > 64 || name.front() == '.' || name.front() == '-' ||
      !std::all_of(name.begin(), name.end(), good)) {
    return Error(
        Code::kMalformed,
        "name: expected 1 to 64 letters, digits, '.', '_' or '-', not starting with '.' or '-'");
  }
  return Done{};
}

Result<Json> load_json(const std::string& path) {
  auto bytes = TRY(load_file(path, kMaxSmallFile));
  auto json = parse_json(as_text(bytes));
  if (!json) return std::move(json).take_error().within(path);
  return json;
}

Bytes line(std::string text) {
  return to_bytes(text + "\n");
}

Json pin_to_json(const MarketPin& pin) {
  Json::Object json{{"ledger_key", pin.ledger_key}, {"market", pin.market}, {"url", pin.url}};
  if (!pin.witness_policy.empty()) json["witness_policy"] = pin.witness_policy;
  return Json(std::move(json));
}

Result<MarketPin> pin_from_json(const Json& json, const std::string& what) {
  auto fields = TRY(Fields::of(json, what));
  MarketPin pin;
  pin.ledger_key = TRY(fields.text("ledger_key"));
  pin.market = TRY(fields.named<MarketId>("market"));
  pin.url = TRY(fields.text("url"));
  if (json.find("witness_policy")) {
    pin.witness_policy = TRY(fields.text("witness_policy", kMaxSmallFile));
  }
  TRY(fields.done());
  return pin;
}

}  // namespace

namespace {

// Files and folders that a call makes: gone again, where nothing else was put into them, unless it
// came to something.
class MadeNames {
 public:
  MadeNames(const std::string& directory, const std::vector<const char*>& names) {
    for (const char* name : names) {
      if (!path_exists(directory + name)) names_.push_back(directory + name);
    }
  }
  ~MadeNames() {
    for (auto name = names_.rbegin(); name != names_.rend(); ++name) std::remove(name->c_str());
  }
  MadeNames(const MadeNames&) = delete;
  MadeNames& operator=(const MadeNames&) = delete;
  void keep() { names_.clear(); }

 private:
  std::vector<std::string> names_;
};

}  // namespace

std::string Home::directory_of(const std::string& name) const {
  return directory_ + "/identities/" + name;
}

std::vector<std::string> Home::names() const {
  std::vector<std::string> names;
  for (auto& name : list_directory(directory_ + "/identities")) {
    if (path_exists(directory_of(name) + "/key.json") && check_name(name)) {
      names.push_back(std::move(name));
    }
  }
  return names;
}

Result<std::string> Home::default_name() const {
  auto bytes = load_file(directory_ + "/default", kMaxSmallFile);
  if (!bytes) {
    std::string there;
    for (const auto& name : names()) there += (there.empty() ? "" : ", ") + name;
    return Error(
        Code::kNotFound,
        there.empty()
            ? "no identity in " + directory_ +
                  ": make one with 'souk init --market URL --market-id HEX --name NAME'"
            : "no default identity in " + directory_ + ": expected --as NAME, one of " + there);
  }
  std::string name = to_text(*bytes);
  while (!name.empty() && (name.back() == '\n' || name.back() == ' ')) name.pop_back();
  auto good = check_name(name);
  if (!good) return std::move(good).take_error().within(directory_ + "/default");
  return name;
}

Result<Identity> Home::create(const std::string& name, const MarketPin& pin) {
  TRY(check_name(name));
  MadeNames made_names(directory_, {"", "/identities", "/lock", "/default"});
  TRY(make_directory(directory_ + "/identities"));
  auto lock = TRY(FileLock::lock(directory_ + "/lock"));
  std::string directory = directory_of(name);
  if (path_exists(directory)) {
    return Error(Code::kConflict, "the identity " + name + " exists already in " + directory_);
  }
  auto key = ledger::SigningKey::generate();
  auto age = trainer::AgeIdentity::generate();
  auto seed = key.seed(SecretAccess{});
  Json secrets = Json::Object{{"age", age.text(SecretAccess{})},
                              {"format", kKeyFormat},
                              {"seed", to_hex(ByteView(seed.bytes(SecretAccess{})))}};

  // The folder appears under its name only when it is complete.
  std::string building = directory_ + "/identities/.new-" + name;
  Bytes key_file = line(canonical(secrets)), pin_file = line(canonical(pin_to_json(pin)));
  auto made = make_directory(building + "/credentials");
  if (made) made = make_directory(building + "/ledger");
  if (made) {
    made = save_files(building, {{"key.json", key_file, FileMode::kPrivate},
                                 {"market.json", pin_file, FileMode::kPrivate}});
  }
  if (!made) {
    std::error_code ignored;
    std::filesystem::remove_all(building, ignored);
    return std::move(made).take_error();
  }
  if (::rename(building.c_str(), directory.c_str()) != 0) {
    return Error(Code::kBroken, "cannot make the folder " + directory);
  }
  if (!path_exists(directory_ + "/default")) {
    auto saved = save_file(directory_ + "/default", line(name), FileMode::kPrivate);
    if (!saved) {
      std::error_code ignored;
      std::filesystem::remove_all(directory, ignored);
      return std::move(saved).take_error();
    }
  }
  made_names.keep();
  return Identity(name, directory, pin, std::move(key), std::move(age));
}

Result<Identity> Home::move(const std::string& name, const MarketPin& pin) {
  auto lock = TRY(FileLock::lock(directory_ + "/lock"));
  auto identity = TRY(open(name));
  MarketPin moved = identity.pin();
  moved.url = pin.url;
  if (moved != pin) {
    return Error(Code::kConflict,
                 "the identity " + name + " in " + directory_ + " pins " +
                     (moved.market == pin.market && moved.ledger_key == pin.ledger_key
                          ? "this market under another witness policy"
                          : "another market"));
  }
  TRY(save_file(identity.directory() + "/market.json", line(canonical(pin_to_json(moved))),
                FileMode::kPrivate));
  return open(name);
}

Result<Identity> Home::open(const std::optional<std::string>& name) const {
  std::string chosen = name ? *name : TRY(default_name());
  TRY(check_name(chosen));
  std::string directory = directory_of(chosen);
  if (!path_exists(directory + "/key.json")) {
    return Error(Code::kNotFound,
                 "no identity " + chosen + " in " + directory_ +
                     ": make it with 'souk init --market URL --market-id HEX --name " + chosen +
                     "'");
  }
  std::string key_path = directory + "/key.json";
  auto key_json = TRY(load_json(key_path));
  auto fields = TRY(Fields::of(key_json, key_path));
  auto format = TRY(fields.text("format"));
  if (format != kKeyFormat) {
    return Error(Code::kMalformed, key_path + ": expected the format " + std::string(kKeyFormat));
  }
  auto seed = TRY(fields.hex("seed"));
  auto age_text = TRY(fields.text("age"));
  TRY(fields.done());
  auto key = TRY(about_file(ledger::SigningKey::from_seed(seed), key_path));
  auto age = TRY(about_file(trainer::AgeIdentity::from_text(age_text), key_path));

  std::string market_path = directory + "/market.json";
  auto market_json = TRY(load_json(market_path));
  auto pin = TRY(pin_from_json(market_json, market_path));
  return Identity(chosen, directory, std::move(pin), std::move(key), std::move(age));
}

Result<Home> find_home(const HomeHints& hints) {
  auto given = [](const std::optional<std::string>& text) { return text && !text->empty(); };
  if (given(hints.flag)) return Home(*hints.flag);
  if (given(hints.souk_home)) return Home(*hints.souk_home);
  if (given(hints.xdg_data_home)) return Home(*hints.xdg_data_home + "/souk");
  if (given(hints.user_home)) return Home(*hints.user_home + "/.souk");
  return Error(Code::kMalformed, "expected --home DIR, or SOUK_HOME or HOME to be set");
}

Result<ledger::SigningKey> load_signing_key(const std::string& path) {
  auto bytes = TRY(load_file(path, kMaxSmallFile));
  std::string text = to_text(bytes);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  auto seed = from_hex(text);
  if (!seed || seed->size() != 32) {
    return Error(Code::kMalformed, path + ": expected 64 hexadecimal digits");
  }
  return ledger::SigningKey::from_seed(*seed);
}

Status save_signing_key(const std::string& path, const ledger::SigningKey& key) {
  auto seed = key.seed(SecretAccess{});
  return save_file(path, line(to_hex(ByteView(seed.bytes(SecretAccess{})))), FileMode::kPrivate);
}

}  // namespace souk::market
