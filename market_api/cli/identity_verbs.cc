// souk init, souk whoami, souk version.
#include "contracts/lifecycle/follower.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/quorum.h"
#include "market_api/cli/session.h"
#include "trainer/attest/appraisal.h"

namespace souk::market {
namespace {

struct InitOptions {
  std::string url, market_id, name, policy;
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

// A policy to pin must ask for somebody, and may name only this ledger as its log. It holds
// now, or there would be an identity that can do nothing.
Result<std::string> policy_that_holds(const std::string& text, const std::string& path,
                                      MarketLine& line, const contracts::Follower& follower) {
  auto policy = TRY(about_file(ledger::TlogPolicy::parse(text), path));
  auto quorum = TRY(about_file(ledger::WitnessQuorum::parse(text), path));
  if (!quorum.needed()) {
    return Error(Code::kMalformed, "--policy: expected a quorum of witnesses, not none");
  }
  auto key = follower.ledger_key().vkey();
  bool named = policy.logs().empty();
  for (const auto& log : policy.logs()) {
    auto log_key = ledger::NoteKey::of(log.key);
    named = named || (log_key && log_key->vkey() == key);
  }
  if (!named) {
    return Error(Code::kMalformed, "--policy: expected the market's ledger among its logs: " + key);
  }
  line.ask_witnessed();
  auto served = TRY(line.checkpoint());
  TRY(ledger::open_checkpoint(served, follower.ledger_key()));
  auto note = TRY(ledger::parse_note(served));
  TRY(quorum.witnessed_at(note));
  return text;
}

Result<std::string> policy_to_pin(const std::string& path, MarketLine& line,
                                  const contracts::Follower& follower) {
  auto bytes = TRY(load_argument(path, contracts::kMaxWitnessPolicyBytes));
  return policy_that_holds(to_text(bytes), path, line, follower);
}

Result<Answer> init(Session& session, const InitOptions& options) {
  auto market = TRY(parse_hex_argument<MarketId>(options.market_id, "--market-id"));
  auto home = TRY(session.home());
  auto line = TRY(MarketLine::open(options.url));
  auto served = TRY(line.market());
  // The pin: whatever this URL serves later, it must grow out of this genesis.
  auto follower = contracts::Follower::pin(served.genesis, market, &trainer::appraise_for_market);
  if (!follower) return Error(Code::kUnauthentic, follower.error().expected());
  MarketPin pin{options.url, market, follower->ledger_key().vkey()};
  if (!options.policy.empty()) {
    pin.witness_policy = TRY(policy_to_pin(options.policy, line, *follower));
  }
  auto there = home.open(options.name);
  bool moved = there && there->pin().market == market && there->pin().url != options.url;
  if (moved && options.policy.empty() && !there->pin().witness_policy.empty()) {
    pin.witness_policy = TRY(policy_that_holds(
        there->pin().witness_policy, "the witness policy of " + options.name, line, *follower));
  }
  auto identity = TRY(moved ? home.move(options.name, pin) : home.create(options.name, pin));
  Answer answer{introduction(identity), introduction_text(identity)};
  answer.json["url"] = options.url;
  answer.json["moved_from"] = moved ? Json(there->pin().url) : Json();
  if (moved)
    answer.text += "\nmoved      from " + there->pin().url + " to " + options.url +
                   ", the same market; keys and what was seen of it stay";
  return answer;
}

Result<Answer> whoami(Session& session, const NoOptions&) {
  auto identity = TRY(session.identity());
  Answer answer{introduction(identity), introduction_text(identity)};
  answer.json["url"] = identity.pin().url;
  answer.json["witness_policy"] = identity.pin().witness_policy;
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
  CLI::App* verb =
      add_verb(app, session, "init", "Make keys of your own and pin a market", options, init);
  verb->add_option("--market", options->url, "URL of the market, as soukd prints it")->required();
  verb->add_option("--market-id", options->market_id,
                   "its id, as soukd prints it: SHA-256 of its genesis, from somebody you trust")
      ->required();
  verb->add_option("--name", options->name, "name of the identity on this machine")->required();
  verb->add_option(
      "--policy", options->policy,
      "C2SP tlog-policy: believe no ledger that its quorum of witnesses has not cosigned");
  auto none = std::make_shared<NoOptions>();
  add_verb(app, session, "whoami", "Show the identity in use", none, whoami);
  add_verb(app, session, "version", "Show the version", none, version);
}

}  // namespace souk::market
