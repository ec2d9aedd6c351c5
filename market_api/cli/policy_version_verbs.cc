// souk policy publish|activate|deprecate|revoke|versions: versions of a dataset's policy
// on the ledger. contracts/SPEC.md, policy.publish and policy.change.
#include "contracts/lifecycle/void_words.h"
#include "market_api/cli/policy_files.h"
#include "market_api/cli/session.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using contracts::PolicyChange;

struct PublishOptions {
  std::string dataset;
  PolicyFiles policy;
};
struct MoveOptions {
  std::string dataset, version, mode;
};
struct VersionsOptions {
  std::string dataset;
};

// Recorded with its effect, or kConflict with the code of why it had none.
Result<uint64_t> record_with_effect(const Identity& identity, Connection& connection,
                                    const contracts::Record& record) {
  auto envelope = contracts::sign_record(record, identity.key(), connection.view.market());
  TRY(connection.view.foresee(envelope));
  auto recorded = TRY(connection.view.record(connection.line, envelope));
  const auto& voids = connection.view.state().voids();
  if (auto why = voids.find(recorded.seq); why != voids.end()) {
    return Error(Code::kConflict,
                 "recorded without effect: " + contracts::words_of_void(why->second));
  }
  return recorded.seq;
}

Json version_json(const Digest& version, const contracts::PolicyVersion& policy) {
  return Json::Object{{"version", version},
                      {"policy_hash", contracts::policy_hash(policy.source)},
                      {"standing", contracts::standing_name(policy.standing)},
                      {"parameters", policy.parameters},
                      {"engine", policy.engine},
                      {"entry", policy.seq}};
}

Result<Answer> publish(Session& session, const PublishOptions& options) {
  auto jail = TRY(policy::start_lua_nursery());
  const auto policy = TRY(load_policy(options.policy));
  if (auto refused = refused_publication(*jail, policy)) return std::move(*refused);
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  contracts::PolicyPublish record;
  record.dataset = TRY(find_dataset(connection.view.state(), options.dataset));
  record.source = policy.source;
  record.parameters = policy.parameters;
  record.engine = to_hex(ByteView(policy::engine_hash()));
  Digest version = policy.version();
  auto entry = TRY(record_with_effect(identity, connection, record));
  Answer answer;
  answer.json = {{"dataset", record.dataset},
                 {"version", version},
                 {"entry", entry},
                 {"standing", "published"}};
  answer.text = "published version " + to_hex(ByteView(version)) + " in entry " +
                std::to_string(entry) + "; activate it to let it answer";
  answer.recorded = answer.text;
  return answer;
}

template <PolicyChange::Move kMove>
Result<Answer> move(Session& session, const MoveOptions& options) {
  PolicyChange change;
  change.move = kMove;
  if (kMove == PolicyChange::Move::kRevokeNoNew) {
    if (options.mode == "stop") {
      change.move = PolicyChange::Move::kRevokeStop;
    } else if (options.mode == "destroy") {
      change.move = PolicyChange::Move::kRevokeDestroy;
    } else if (options.mode != "no-new") {
      return Error(Code::kMalformed, "--mode: expected no-new, stop or destroy");
    }
  }
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  change.dataset = TRY(find_dataset(connection.view.state(), options.dataset));
  const auto& versions = connection.view.state().dataset(change.dataset)->policies;
  const Digest* found = nullptr;
  for (const auto& [version, policy] : versions) {
    if (options.version.size() < 6 ||
        to_hex(ByteView(version)).compare(0, options.version.size(), options.version) != 0)
      continue;
    if (found)
      return Error(Code::kMalformed, "version: more than one starts with " + options.version);
    found = &version;
  }
  if (!found)
    return Error(Code::kNotFound,
                 "no version " + options.version + " of this dataset's policy on the ledger");
  change.version = *found;
  auto entry = TRY(record_with_effect(identity, connection, change));
  const auto& policy = connection.view.state().dataset(change.dataset)->policies.at(change.version);
  Answer answer;
  answer.json = *version_json(change.version, policy).object();
  answer.json["dataset"] = change.dataset;
  answer.json["move"] = contracts::move_name(change.move);
  answer.json["entry"] = entry;
  answer.text = std::string(contracts::move_name(change.move)) + ": version " +
                to_hex(ByteView(change.version)) + " is " +
                contracts::standing_name(policy.standing) + ", entry " + std::to_string(entry);
  answer.recorded = answer.text;
  return answer;
}

Result<Answer> versions(Session& session, const VersionsOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto id = TRY(find_dataset(connection.view.state(), options.dataset));
  Answer answer;
  Json::Array all;
  std::vector<std::vector<std::string>> rows{{"VERSION", "STANDING", "POLICY", "ENTRY"}};
  for (const auto& [version, policy] : connection.view.state().dataset(id)->policies) {
    all.push_back(version_json(version, policy));
    rows.push_back({short_hex(to_hex(ByteView(version))), contracts::standing_name(policy.standing),
                    short_hex(to_hex(ByteView(contracts::policy_hash(policy.source)))),
                    std::to_string(policy.seq)});
  }
  answer.json = {{"dataset", id}, {"versions", std::move(all)}};
  answer.text = table_text(rows);
  return answer;
}

void add_move(CLI::App& group, Session& session, const char* name, const char* help,
              Result<Answer> (*verb)(Session&, const MoveOptions&), bool has_mode = false) {
  auto options = std::make_shared<MoveOptions>();
  options->mode = "no-new";
  CLI::App* app = add_verb(group, session, name, help, options, verb);
  app->add_option("DATASET", options->dataset,
                  "dataset id, 6 or more of its first digits, or its name")
      ->required();
  app->add_option("VERSION", options->version,
                  "the version's first 6 digits or more (souk policy versions lists them)")
      ->required();
  if (has_mode)
    app->add_option(
        "--mode", options->mode,
        "no-new (what runs may end; the default), stop, or destroy (nothing is released "
        "any more)");
}

}  // namespace

void add_policy_version_verbs(CLI::App& app, Session& session) {
  CLI::App* group = app.get_subcommand("policy");
  auto publishing = std::make_shared<PublishOptions>();
  CLI::App* verb = add_verb(*group, session, "publish", "A further version of a dataset's policy",
                            publishing, publish);
  verb->add_option("DATASET", publishing->dataset,
                   "dataset id, 6 or more of its first digits, or its name")
      ->required();
  publishing->policy.add_to(*verb);
  add_move(*group, session, "activate", "Let a version answer new contracts",
           move<PolicyChange::Move::kActivate>);
  add_move(*group, session, "deprecate",
           "Let the active version answer only those who were quoted it",
           move<PolicyChange::Move::kDeprecate>);
  add_move(*group, session, "revoke", "Let a version answer nobody any more",
           move<PolicyChange::Move::kRevokeNoNew>, true);
  auto listing = std::make_shared<VersionsOptions>();
  verb = add_verb(*group, session, "versions", "All versions of a dataset's policy", listing,
                  versions);
  verb->add_option("DATASET", listing->dataset,
                   "dataset id, 6 or more of its first digits, or its name")
      ->required();
}

}  // namespace souk::market
