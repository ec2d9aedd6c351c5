// souk credential issue|add|list.
#include "ledger/crypto/hash.h"
#include "market_api/cli/session.h"
#include "market_api/cli/warnings.h"
#include "market_api/client/submit.h"

namespace souk::market {
namespace {

constexpr TimeMs kDayMs = 24 * 3600 * 1000;

struct IssueOptions {
  std::string to, type, key, out, market_id;
  int64_t expires_days = 0;
};
struct AddOptions {
  std::string file;
};
struct ListOptions {};

Json::Object summary(const PublicKey& issuer, const contracts::Credential& credential) {
  return {{"issuer", issuer},
          {"subject", credential.subject},
          {"type", credential.type},
          {"expires_ms", credential.expires_ms}};
}

Result<Answer> issue(Session& session, const IssueOptions& options) {
  contracts::Credential credential;
  credential.subject = TRY(session.account(options.to));
  TRY(check_credential_type(options.type));
  credential.type = options.type;
  credential.expires_ms = session.now() + options.expires_days * kDayMs;
  if (!options.key.empty() && session.as) {
    return Error(Code::kMalformed, "expected --key FILE or --as NAME, not both");
  }
  auto identity = TRY(session.identity_if_any());
  MarketId market;
  if (!options.market_id.empty()) {
    market = TRY(parse_hex_argument<MarketId>(options.market_id, "--market-id"));
  } else if (identity) {
    market = identity->pin().market;
  } else {
    return Error(Code::kMalformed, "expected --market-id HEX, or an identity that pins a market");
  }
  std::string envelope;
  PublicKey issuer;
  if (options.key.empty()) {
    if (!identity) return Error(Code::kMalformed, "expected --key FILE or an identity to issue as");
    issuer = identity->account();
    envelope =
        canonical(ledger::to_json(contracts::sign_credential(credential, identity->key(), market)));
  } else {
    TRY(load_argument(options.key, 4096));  // a missing file is a usage error
    auto key = TRY(load_signing_key(options.key));
    issuer = key.public_key();
    envelope = canonical(ledger::to_json(contracts::sign_credential(credential, key, market)));
  }
  // The strict reader decides whether this is a credential.
  auto verified = contracts::verify_credential(envelope, market);
  if (!verified) return Error(Code::kMalformed, verified.error().expected());
  TRY(save_file(options.out, as_bytes(envelope), FileMode::kShared));
  Answer answer{summary(issuer, credential), ""};
  answer.json["file"] = options.out;
  answer.text = "credential " + credential.type + " for " + to_hex(credential.subject) +
                "\nissuer     " + to_hex(issuer) + "\nexpires    " +
                utc_text(credential.expires_ms) + "\nfile       " + options.out;
  return answer;
}

Result<Answer> add(Session& session, const AddOptions& options) {
  auto identity = TRY(session.identity());
  auto bytes = TRY(load_argument(options.file, 16 << 10));
  auto kept = keep_credential(identity, as_text(bytes));
  if (!kept) return about_file(std::move(kept).take_error(), options.file);
  std::string text = to_text(bytes);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  auto verified = TRY(contracts::verify_credential(text, identity.pin().market));
  if (verified.credential.expires_ms <= session.now()) {
    warn_of({"this credential expired on " + utc_text(verified.credential.expires_ms) +
             ": policies see none in it"});
  }
  return Answer{summary(verified.issuer, verified.credential),
                "kept " + verified.credential.type + " by " + to_hex(verified.issuer) +
                    "; every contract from now on presents it"};
}

Result<Answer> list(Session& session, const ListOptions&) {
  auto identity = TRY(session.identity());
  auto kept = TRY(kept_credentials(identity));
  Json::Array all;
  std::vector<std::vector<std::string>> rows{{"TYPE", "ISSUER", "EXPIRES"}};
  for (const auto& item : kept) {
    all.push_back(summary(item.issuer, item.credential));
    rows.push_back({item.credential.type, to_hex(item.issuer),
                    utc_text(item.credential.expires_ms) +
                        (item.credential.expires_ms <= session.now() ? " (expired)" : "")});
  }
  Answer answer;
  answer.json = {{"credentials", std::move(all)}};
  answer.text = rows.size() == 1 ? "no credentials" : table_text(rows);
  return answer;
}

}  // namespace

void add_credential_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "credential", "What issuers say about consumers");
  auto issuing = std::make_shared<IssueOptions>();
  CLI::App* verb =
      add_verb(*group, session, "issue", "Sign a credential about an account", issuing, issue);
  verb->add_option("--to", issuing->to, "account it is about")->required();
  verb->add_option("--type", issuing->type, "what it says, like irb-approved")
      ->type_name("TYPE")
      ->required();
  verb->add_option("--key", issuing->key, "issuer's key file (default: the identity's key)");
  verb->add_option("--market-id", issuing->market_id, "market it is for (default: the identity's)");
  verb->add_option("--expires-days", issuing->expires_days, "days until it expires")
      ->required()
      ->check(whole_number(1, 36500));
  verb->add_option("--out", issuing->out, "file to write")->required();
  auto adding = std::make_shared<AddOptions>();
  verb = add_verb(*group, session, "add", "Keep a credential and present it with every contract",
                  adding, add);
  verb->add_option("FILE", adding->file, "credential file")->required();
  add_verb(*group, session, "list", "Credentials kept by this identity",
           std::make_shared<ListOptions>(), list);
}

}  // namespace souk::market
