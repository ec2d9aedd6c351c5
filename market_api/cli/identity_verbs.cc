// souk init, souk whoami, souk version.
#include "contracts/lifecycle/follower.h"
#include "market_api/cli/session.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

struct InitOptions {
  std::string url, market_id, name;
};
struct NoOptions {};

Json::Object introduction(const Identity& identity) {
  return {{"name", identity.name()},
          {"account", identity.account()},
          {"recipient", identity.recipient()},
          {"market", identity.pin().market}};
}

std::string introduction_text(const Identity& identity) {
  return "name       " + identity.name() + "\naccount    " + to_hex(identity.account()) +
         "\nrecipient  " + identity.recipient() + "\nmarket     " + to_hex(identity.pin().market);
}

Result<Answer> init(Session& session, const InitOptions& options) {
  auto market = TRY(parse_hex_argument<MarketId>(options.market_id, "--market-id"));
  auto home = TRY(session.home());
  auto line = TRY(MarketLine::open(options.url));
  auto served = TRY(line.market());
  // The pin: whatever this URL serves later, it must grow out of this genesis.
  auto follower = contracts::Follower::pin(served.genesis, market, &trainer::appraise_for_market);
  if (!follower) return Error(Code::kUnauthentic, follower.error().expected());
  auto identity =
      TRY(home.create(options.name, MarketPin{options.url, market, follower->ledger_key().vkey()}));
  return Answer{introduction(identity), introduction_text(identity)};
}

Result<Answer> whoami(Session& session, const NoOptions&) {
  auto identity = TRY(session.identity());
  Answer answer{introduction(identity), introduction_text(identity)};
  answer.json["url"] = identity.pin().url;
  answer.json["directory"] = identity.directory();
  answer.text += "\nurl        " + identity.pin().url + "\nfolder     " + identity.directory();
  return answer;
}

Result<Answer> version(Session&, const NoOptions&) {
  return Answer{{{"version", SOUK_VERSION}}, std::string("souk ") + SOUK_VERSION};
}

}  // namespace

void add_identity_verbs(CLI::App& app, Session& session) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* verb = add_verb(app, session, "init", "Make keys and pin a market", options, init);
  verb->add_option("--market", options->url, "URL of the market")->required();
  verb->add_option("--market-id", options->market_id,
                   "its id: SHA-256 of its genesis, from somebody you trust")
      ->required();
  verb->add_option("--name", options->name, "name of the identity on this machine")->required();
  auto none = std::make_shared<NoOptions>();
  add_verb(app, session, "whoami", "Show the identity in use", none, whoami);
  add_verb(app, session, "version", "Show the version", none, version);
}

}  // namespace souk::market
