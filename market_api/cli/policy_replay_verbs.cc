// souk policy replay: recorded decisions, made again.
#include "market_api/cli/policy_replay_verbs.h"

#include "ledger/crypto/hash.h"
#include "market_api/cli/log_verbs.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

struct ReplayOptions {
  std::string data, market_id;
};

}  // namespace

Result<PolicyReplay> replay_data(Session& session, policy::Nursery& jail, const std::string& data,
                                 const std::string& market_id, const std::vector<Draft>& drafts) {
  auto basis = TRY(pinned_basis(session, market_id));
  std::string path = is_directory(data) ? data + "/ledger.db" : data;
  if (!path_exists(path)) return Error(Code::kMalformed, "no ledger " + path);
  return replay_ledger_file(
      path, basis,
      [&](std::string_view source, const Json& request, const Json& dataset, const Json& ctx) {
        return policy::evaluate_jailed(jail, source, request, dataset, ctx);
      },
      drafts);
}

namespace {

std::string name_of(const Digest& engine) {
  for (std::string_view name : policy::kEarlierSemantics) {
    if (ledger::sha256(as_bytes(name)) == engine) return std::string(name);
  }
  return "";
}

// What can be told of decisions that another engine made.
std::string of_others(const PolicyReplay& result) {
  std::string out;
  uint64_t all = 0;
  for (const auto& other : result.others) {
    const std::string name = name_of(other.engine);
    all += other.decisions;
    out += std::to_string(other.decisions) + " of " + std::to_string(result.decisions) +
           " decisions, entry " + std::to_string(other.first) +
           (other.decisions > 1 ? " the first of them, were" : ", were") + " decided by engine " +
           (name.empty() ? to_hex(ByteView(other.engine)) : name) + ", this is engine " +
           std::string(policy::kEngineSemantics) + ": " + std::to_string(other.same_outcome) +
           " of them come to the same here; ";
  }
  out += "the souk that has that engine makes them again bit by bit";
  if (all < result.decisions) {
    out +=
        "; all " + std::to_string(result.decisions - all) + " of this engine came out as recorded";
  }
  return out;
}

Result<Answer> replay(Session& session, const ReplayOptions& options) {
  if (options.data.empty())
    return Error(Code::kMalformed,
                 "expected a market's folder, or its ledger.db, as the argument "
                 "or by --data");
  auto jail = TRY(policy::start_lua_nursery());
  auto result = TRY(replay_data(session, *jail, options.data, options.market_id));
  Json::Array others;
  for (const auto& other : result.others) {
    others.push_back(Json::Object{{"engine", other.engine},
                                  {"name", name_of(other.engine)},
                                  {"first", other.first},
                                  {"decisions", other.decisions},
                                  {"same_outcome", other.same_outcome}});
  }
  const bool differs = !result.whole || result.first_differing;
  Answer answer;
  answer.json = {
      {"ok", result.ok},
      {"status", !result.whole ? "not_whole"
                 : differs     ? "differs"
                 : result.ok   ? "same"
                               : "other_engine"},
      {"entries", result.entries},
      {"decisions", result.decisions},
      {"same", result.same},
      {"policies_asked", result.questions.size()},
      {"interrupted", result.interrupted},
      {"first_differing", result.first_differing ? Json(*result.first_differing) : Json(nullptr)},
      {"reason", result.reason},
      {"other_engines", std::move(others)},
      {"engine_hash", policy::engine_hash()}};
  answer.status = result.ok ? ExitStatus::kYes : differs ? ExitStatus::kNo : ExitStatus::kCannotNow;
  if (result.ok) {
    answer.text = "ok: " + std::to_string(result.decisions) + " decisions of " +
                  std::to_string(result.entries) + " entries came out as recorded";
  } else if (!differs) {
    answer.text = of_others(result);
    answer.json["reason"] = answer.text;
  } else {
    answer.text =
        "BAD: " +
        (result.first_differing ? "entry " + std::to_string(*result.first_differing) + ": " : "") +
        printable(result.reason);
  }
  return answer;
}

}  // namespace

void add_policy_replay_verb(CLI::App& group, Session& session) {
  auto replaying = std::make_shared<ReplayOptions>();
  CLI::App* verb = add_verb(group, session, "replay",
                            "Make the decisions of a ledger again; name the first that differs",
                            replaying, replay);
  verb->add_option("LEDGER,--data", replaying->data,
                   "a market's folder, or its ledger.db: as the argument or by --data; one of the "
                   "two is required");
  verb->add_option("--market-id", replaying->market_id,
                   "which market it must be (default: the pinned one)");
}

}  // namespace souk::market
