#include "market_api/cli/session.h"

#include <algorithm>
#include <cstdlib>

#include "ledger/crypto/public_key.h"

namespace souk::market {
namespace {

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::optional<std::string>(value) : std::nullopt;
}

// Whoever names an identity that is not there made a mistake in the call.
Error as_usage(Error error) {
  if (error.code() != Code::kNotFound) return error;
  return Error(Code::kMalformed, error.expected());
}

}  // namespace

Result<Home> Session::home() const {
  return find_home(
      {home_flag, environment("SOUK_HOME"), environment("XDG_DATA_HOME"), environment("HOME")});
}

Result<Identity> Session::identity() const {
  auto place = TRY(home());
  auto identity = place.open(as);
  if (!identity) return as_usage(std::move(identity).take_error());
  return identity;
}

Result<std::optional<Identity>> Session::identity_if_any() const {
  auto place = home();
  if (!as && (!place || !place->default_name())) return std::optional<Identity>();
  auto chosen = TRY(identity());
  return std::optional<Identity>(std::move(chosen));
}

Result<std::optional<Identity>> Session::identity_for(const MarketId& market) const {
  auto found = TRY(identity_if_any());
  if (found && found->pin().market == market) return found;
  found.reset();
  auto place = home();
  if (!place) return found;
  for (const auto& name : place->names()) {
    auto other = TRY(place->open(name));
    if (other.pin().market != market) continue;
    bool with_witnesses = !other.pin().witness_policy.empty();
    if (!found || with_witnesses) found.emplace(std::move(other));
    if (with_witnesses) break;
  }
  return found;
}

Result<std::optional<ledger::WitnessQuorum>> pinned_quorum(const MarketPin& pin) {
  if (pin.witness_policy.empty()) return std::optional<ledger::WitnessQuorum>();
  auto quorum = TRY(ledger::WitnessQuorum::parse(pin.witness_policy));
  return std::optional(std::move(quorum));
}

namespace {

Result<Connection> reach(const std::string& url, const MarketId& market, const Identity* known) {
  auto line = TRY(MarketLine::open(url));
  std::optional<ledger::WitnessQuorum> quorum;
  if (known) quorum = TRY(pinned_quorum(known->pin()));
  if (quorum) line.ask_witnessed();
  auto view = TRY(MarketView::open(market, known ? known->directory() + "/ledger" : "", quorum));
  TRY(view.sync(line));
  return Connection{std::move(line), std::move(view)};
}

}  // namespace

// The identities of one home are of one person: what one has seen of a market holds for all.
Status Session::agrees_with_home(Connection& connection) const {
  auto place = home();
  if (!place) return Done{};
  for (const auto& name : place->names()) {
    auto other = place->open(name);
    if (!other || other->pin().market != connection.view.market()) continue;
    auto note = load_file(other->directory() + "/ledger/checkpoint", 1 << 20);
    if (!note) continue;
    auto agrees = connection.view.agrees_with(connection.line, to_text(*note));
    if (!agrees) return std::move(agrees).take_error().within("as " + name + " saw it");
  }
  return Done{};
}

std::vector<AuditBasis::Seen> Session::seen_at_home(const Identity& identity) const {
  std::vector<AuditBasis::Seen> seen;
  auto kept = [&](const Identity& whose, const std::string& by) {
    auto note = load_file(whose.directory() + "/ledger/checkpoint", 1 << 20);
    if (note) seen.push_back({to_text(*note), by});
  };
  kept(identity, "");
  auto place = home();
  if (!place) return seen;
  for (const auto& name : place->names()) {
    auto other = place->open(name);
    bool same = other && other->pin().market == identity.pin().market;
    if (same && name != identity.name()) kept(*other, name);
  }
  return seen;
}

Result<Connection> Session::connect(const Identity& identity) const {
  auto reached = TRY(reach(identity.pin().url, identity.pin().market, &identity));
  TRY(agrees_with_home(reached));
  return reached;
}

Result<Connection> Session::connect(const MarketOptions& options) const {
  if (options.url.empty() && options.market_id.empty()) {
    auto chosen = TRY(identity());
    return connect(chosen);
  }
  if (options.url.empty() || options.market_id.empty()) {
    return Error(Code::kMalformed, "expected --market URL and --market-id HEX together");
  }
  auto market = TRY(parse_hex_argument<MarketId>(options.market_id, "--market-id"));
  auto known = TRY(identity_for(market));
  auto reached = TRY(reach(options.url, market, known ? &*known : nullptr));
  TRY(agrees_with_home(reached));
  return reached;
}

Result<PublicKey> Session::account(const std::string& text) const {
  auto key = named_from_hex<PublicKey>(text);
  if (key && ledger::is_weak_key(*key))
    return Error(Code::kMalformed, "account: expected a public key that somebody can sign for");
  if (key) return key;
  auto place = TRY(home());
  auto identity = place.open(text);
  if (identity) return identity->account();
  return Error(
      Code::kMalformed,
      "account: expected 64 lower-case hexadecimal digits, or the name of an identity here");
}

Result<Bytes> load_argument(const std::string& path, size_t max_bytes) {
  auto bytes = load_file(path, max_bytes);
  if (!bytes) return as_usage(std::move(bytes).take_error());
  return bytes;
}

Result<DatasetId> find_dataset(const contracts::MarketState& state, const std::string& text) {
  bool hex = text.size() >= 6 && text.size() <= 64 &&
             text.find_first_not_of("0123456789abcdef") == std::string::npos;
  std::vector<const contracts::Dataset*> found;
  for (const auto& [id, dataset] : state.datasets()) {
    bool by_id = hex && to_hex(id).starts_with(text);
    if (by_id || dataset.manifest.name == text) found.push_back(&dataset);
  }
  if (found.size() == 1) return found.front()->id;
  if (found.empty()) {
    return Error(Code::kNotFound, "no dataset " + text +
                                      " on the ledger: expected an id, 6 or more of its first "
                                      "digits, or a name");
  }
  constexpr size_t kShown = 10;
  std::string list;
  for (size_t i = 0; i < std::min(found.size(), kShown); ++i) {
    list += (i == 0 ? "" : ", ") + short_hex(to_hex(found[i]->id)) + " (" +
            found[i]->manifest.name + " of " + found[i]->manifest.provider_name +
            (found[i]->erased    ? ", erased)"
             : found[i]->revoked ? ", revoked)"
                                 : ")");
  }
  if (found.size() > kShown) list += " and " + std::to_string(found.size() - kShown) + " more";
  return Error(Code::kMalformed, "dataset " + text + ": expected one, this may be " + list);
}

}  // namespace souk::market
