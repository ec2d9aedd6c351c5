// souk treasury keygen|deposit, souk account balance.
#include "contracts/lifecycle/void_words.h"
#include "market_api/cli/session.h"

namespace souk::market {
namespace {

struct KeygenOptions {
  std::string out;
};
struct DepositOptions {
  std::string account, key;
  contracts::Minor minor = 0;
  MarketOptions market;
};
struct BalanceOptions {
  std::string account;
};

Result<std::string> treasury_file(const Session& session, const std::string& given) {
  if (!given.empty()) return given;
  auto home = TRY(session.home());
  return home.directory() + "/treasury.key";
}

Result<Answer> keygen(Session& session, const KeygenOptions& options) {
  std::string path = TRY(treasury_file(session, options.out));
  if (!path_exists(path)) {
    if (options.out.empty()) {
      auto home = TRY(session.home());
      TRY(make_directory(home.directory()));
    }
    TRY(save_signing_key(path, ledger::SigningKey::generate()));
  }
  auto key = TRY(load_signing_key(path));
  Answer answer;
  answer.json = {{"treasury", key.public_key()}, {"file", path}};
  answer.text = to_hex(key.public_key());
  return answer;
}

Result<Answer> deposit(Session& session, const DepositOptions& options) {
  std::string path = TRY(treasury_file(session, options.key));
  TRY(load_argument(path, 4096));  // a missing file is a usage error
  auto key = TRY(load_signing_key(path));
  auto account = TRY(session.account(options.account));
  auto connection = TRY(session.connect(options.market));
  if (connection.view.follower().genesis().treasury != key.public_key()) {
    return Error(Code::kRefused, path + ": expected the treasury key that genesis names, " +
                                     to_hex(connection.view.follower().genesis().treasury));
  }
  auto envelope = contracts::sign_record(contracts::Deposit{account, options.minor}, key,
                                         connection.view.market());
  TRY(connection.view.foresee(envelope));
  auto recorded = TRY(connection.view.record(connection.line, envelope));
  if (auto why = connection.view.state().voids().find(recorded.seq);
      why != connection.view.state().voids().end()) {
    return Error(Code::kConflict, "the deposit was recorded without effect: " +
                                      contracts::words_of_void(why->second));
  }
  const std::string& currency = connection.view.follower().genesis().currency;
  Answer answer;
  answer.json = {{"entry", recorded.seq}, {"account", account}, {"minor", options.minor}};
  answer.text = "deposited " + std::to_string(options.minor) + " " + currency +
                " (minor units) to " + to_hex(account) + " in entry " +
                std::to_string(recorded.seq);
  answer.recorded = answer.text;
  return answer;
}

Result<Answer> balance(Session& session, const BalanceOptions& options) {
  auto identity = TRY(session.identity());
  PublicKey account =
      options.account.empty() ? identity.account() : TRY(session.account(options.account));
  auto connection = TRY(session.connect(identity));
  contracts::Minor minor = connection.view.state().balance(account);
  const std::string& currency = connection.view.follower().genesis().currency;
  Answer answer;
  answer.json = {{"account", account}, {"minor", minor}, {"currency", currency}};
  answer.text = std::to_string(minor) + " " + currency + " (minor units)";
  return answer;
}

}  // namespace

void add_money_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "treasury", "Money into the market, by whoever holds its key");
  auto making = std::make_shared<KeygenOptions>();
  CLI::App* verb =
      add_verb(*group, session, "keygen", "Make the treasury key, once, and print its public half",
               making, keygen);
  verb->add_option("--out", making->out, "key file (default: HOME/treasury.key)");
  auto paying = std::make_shared<DepositOptions>();
  verb = add_verb(*group, session, "deposit", "Put money on an account", paying, deposit);
  verb->add_option("ACCOUNT", paying->account, "account, or name of an identity here")->required();
  verb->add_option("AMOUNT", paying->minor, "minor units")
      ->required()
      ->check(whole_number(1, kMaxJsonInteger));
  verb->add_option("--key", paying->key, "treasury key file (default: HOME/treasury.key)");
  verb->add_option("--market", paying->market.url, "URL (default: the identity's market)");
  verb->add_option("--market-id", paying->market.market_id, "market id");

  group = add_group(app, "account", "Accounts");
  auto asking = std::make_shared<BalanceOptions>();
  verb = add_verb(*group, session, "balance", "Money on an account, by the verified ledger", asking,
                  balance);
  verb->add_option("ACCOUNT", asking->account, "account or name (default: the identity's)");
}

}  // namespace souk::market
