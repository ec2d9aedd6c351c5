// souk job submit|status|watch.
#include <chrono>
#include <cstdio>
#include <thread>

#include "contracts/lifecycle/void_words.h"
#include "market_api/cli/session.h"
#include "market_api/client/submit.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

using contracts::Phase;

constexpr size_t kMaxContractSource = 256 << 10;
constexpr int64_t kDecisionPatienceMs = 60'000;
constexpr auto kPollEvery = std::chrono::milliseconds(250);
constexpr auto kOutagePatience = std::chrono::seconds(60);

enum class SubmitMode : uint8_t { kDecide, kDryRun, kWait };

struct SubmitOptions {
  std::string file;
  bool dry_run = false, wait = false;
  contracts::Minor price = -1;
  std::vector<std::string> pins;
};
struct OneOptions {
  std::string job;
};

bool is_final(Phase phase) {
  return phase == Phase::kRefused || phase == Phase::kSettled || phase == Phase::kRefunded ||
         phase == Phase::kExpired;
}

// The policy version that answers for each dataset; empty: whatever is active when it is decided.
Json versions_json(const contracts::ContractSubmit& submit, const std::vector<Digest>& versions) {
  Json::Array out;
  for (size_t i = 0; i < versions.size(); ++i)
    out.push_back(Json::Object{{"dataset", submit.datasets[i]}, {"version", versions[i]}});
  return out;
}

// Where the initial weights are said to come from; null for a run from the seed.
Json initial_json(const contracts::ContractSubmit& submit) {
  if (!submit.spec.initial) return nullptr;
  return Json::Object{
      {"weights", *submit.spec.initial},
      {"jobs", Json::Array(submit.initial_jobs.begin(), submit.initial_jobs.end())}};
}

std::string initial_text(const contracts::ContractSubmit& submit) {
  if (!submit.spec.initial) return "";
  std::string text = "\nstarts   from ";
  if (submit.initial_jobs.empty()) text += "weights declared to come from no model of this market";
  for (size_t i = 0; i < submit.initial_jobs.size(); ++i)
    text += (i ? ", " : "the model of job ") + to_hex(submit.initial_jobs[i]);
  return text;
}

// What the verified ledger says about a contract.
Answer describe(const contracts::Contract& contract, const MarketView& view) {
  const std::string& currency = view.follower().genesis().currency;
  Answer answer;
  const auto& decision = contract.decision;
  Json reasons = decision ? decision->reasons : Json(Json::Array{});
  std::string status = decision ? decision->status : "";
  contracts::Minor price = decision ? decision->price : 0;
  answer.json = {
      {"job", contract.id},
      {"phase", contracts::phase_name(contract.phase)},
      {"status", status},
      {"reasons", reasons},
      {"price", price},
      {"entry", contract.submit_seq},
      {"steps", contract.submit.spec.steps},
      {"policies",
       versions_json(contract.submit,
                     contract.policies.empty() ? contract.submit.policies : contract.policies)},
      {"initial", initial_json(contract.submit)},
      {"deadline_ms", contract.deadline},
      {"ended_because", contract.ended_because},
      {"ended_by_dataset", contract.ended_by_dataset ? Json(*contract.ended_by_dataset) : Json()}};
  answer.text =
      "job      " + to_hex(contract.id) + "\nphase    " + contracts::phase_name(contract.phase);
  answer.text += initial_text(contract.submit);
  if (!status.empty()) answer.text += "\ndecision " + printable(status);
  if (decision && decision->allow) {
    answer.text += "\nprice    " + std::to_string(price) + " " + currency + " (minor units)";
  }
  if (contract.result) {
    answer.json["model"] = contract.result->model;
    answer.json["epsilon_micro"] = contract.result->epsilon_micro;
    answer.json["delta_pico"] = contract.result->delta_pico;
    answer.json["step"] = contract.result->steps;
    answer.text += "\ntrained  " + std::to_string(contract.result->steps) + " steps";
    if (contract.submit.spec.privacy) {
      answer.text += ", epsilon " + millionths_text(contract.result->epsilon_micro) + " at delta " +
                     delta_text(contract.result->delta_pico);
    }
    answer.text += "\nmodel    " + to_hex(ByteView(contract.result->model));
  }
  if (!contract.ended_because.empty())
    answer.text += "\nbecause  " + printable(contracts::words_of_void(contract.ended_because));
  if (const auto* by =
          contract.ended_by_dataset ? view.state().dataset(*contract.ended_by_dataset) : nullptr) {
    answer.text += ", dataset " + printable(by->manifest.name) + " of " +
                   printable(by->manifest.provider_name);
  }
  if (std::string why = reasons_text(reasons); !why.empty()) answer.text += "\nreasons\n" + why;
  return answer;
}

// Follows one contract to its end, through outages of the market shorter than a minute.
Status watch_to_end(const ContractId& id, Connection& connection) {
  ProgressBar bar("training");
  auto outage_since = std::chrono::steady_clock::now();
  std::optional<Phase> said;
  while (true) {
    const contracts::Contract& contract = *connection.view.state().contract(id);
    if (said != contract.phase) {
      said = contract.phase;
      std::fprintf(stderr, "%s\n", contracts::phase_name(contract.phase));
    }
    if (is_final(contract.phase)) return Done{};
    if (contract.phase == Phase::kRunning) {
      auto progress = connection.line.job(id);
      if (progress && progress->steps > 0) {
        bar.show(static_cast<uint64_t>(progress->step), static_cast<uint64_t>(progress->steps),
                 "epsilon " + millionths_text(progress->epsilon_micro));
      }
    }
    std::this_thread::sleep_for(kPollEvery);
    auto synced = connection.view.sync(connection.line);
    auto now = std::chrono::steady_clock::now();
    if (synced) {
      outage_since = now;
    } else if (synced.error().code() != Code::kTryAgain || now - outage_since > kOutagePatience) {
      return synced;
    }
  }
}

Answer final_answer(const ContractId& id, const Connection& connection) {
  const contracts::Contract& contract = *connection.view.state().contract(id);
  Answer answer = describe(contract, connection.view);
  if (contract.phase != Phase::kSettled) answer.status = ExitStatus::kNo;
  return answer;
}

// Versions that an earlier quote was about, instead of those that are active now.
Status pin(contracts::ContractSubmit& submit, const contracts::MarketState& state,
           const std::vector<std::string>& pins) {
  if (pins.empty()) return Done{};
  std::vector<std::optional<Digest>> chosen(submit.datasets.size());
  for (size_t i = 0; i < submit.policies.size(); ++i) chosen[i] = submit.policies[i];
  for (const std::string& digits : pins) {
    size_t found = 0;
    for (size_t i = 0; i < submit.datasets.size(); ++i) {
      for (const auto& [version, policy] : state.dataset(submit.datasets[i])->policies) {
        if (digits.size() < 6 || !to_hex(ByteView(version)).starts_with(digits)) continue;
        chosen[i] = version;
        ++found;
      }
    }
    if (found != 1)
      return Error(Code::kMalformed,
                   "--pin " + digits +
                       ": expected 6 or more first digits of one policy version of one of the "
                       "contract's datasets");
  }
  submit.policies.clear();
  for (const auto& version : chosen) {
    if (!version)
      return Error(Code::kMalformed,
                   "--pin: expected one for each dataset whose policy has no active version");
    submit.policies.push_back(*version);
  }
  return Done{};
}

Answer quote_answer(const Quote& quote, const contracts::ContractSubmit& submit,
                    const std::string& currency) {
  Answer answer;
  answer.json = {{"job", nullptr},
                 {"policies", versions_json(submit, submit.policies)},
                 {"initial", initial_json(submit)},
                 {"status", quote.status},
                 {"reasons", quote.reasons},
                 {"price", quote.price},
                 {"dry_run", true}};
  answer.text =
      "would be " + printable(quote.status) + " now; nothing was recorded" + initial_text(submit);
  if (quote.price > 0) {
    answer.text += "\nprice    " + std::to_string(quote.price) + " " + currency + " (minor units)";
  }
  if (std::string why = reasons_text(quote.reasons); !why.empty())
    answer.text += "\nreasons\n" + why;
  if (!quote.allow) answer.status = ExitStatus::kNo;
  return answer;
}

Result<Answer> submit(Session& session, const SubmitOptions& options) {
  SubmitMode mode = options.dry_run ? SubmitMode::kDryRun
                    : options.wait  ? SubmitMode::kWait
                                    : SubmitMode::kDecide;
  // The jail forks, so it comes before anything that starts threads.
  auto jail = TRY(policy::start_lua_nursery());
  auto identity = TRY(session.identity());
  auto source = TRY(load_argument(options.file, kMaxContractSource));
  auto connection = TRY(session.connect(identity));
  std::optional<contracts::Minor> price;
  if (options.price >= 0) price = options.price;
  auto elaborated = elaborate_contract(as_text(source), options.file, *jail, identity,
                                       connection.view, price, session.now());
  if (!elaborated) {
    // Whatever the contract does wrong, it is the file that must change.
    Error error = std::move(elaborated).take_error();
    Code code = error.code() == Code::kBroken ? Code::kBroken : Code::kMalformed;
    return about_file(Error(code, error.expected()), options.file);
  }
  TRY(pin(elaborated->submit, connection.view.state(), options.pins));

  if (mode == SubmitMode::kDryRun) {
    auto quote =
        TRY(ask_quote(elaborated->submit, identity, connection.line, connection.view.market()));
    return quote_answer(quote, elaborated->submit, connection.view.follower().genesis().currency);
  }
  Submitted submitted;
  {
    ProgressBar bar("uploading initial weights");
    connection.line.wait_out(MarketLine::kPatience, [&](const std::string& why) { bar.note(why); });
    submitted = TRY(submit_contract(*elaborated, identity, connection.line, connection.view,
                                    [&](uint64_t done, uint64_t total) { bar.show(done, total); }));
  }
  // Whoever stops waiting must know what for.
  if (mode == SubmitMode::kWait)
    std::fprintf(stderr, "job %s\n", to_hex(submitted.contract).c_str());
  const std::string recorded = "job " + to_hex(submitted.contract) + " is recorded in entry " +
                               std::to_string(submitted.entry);
  auto followed =
      await_decision(submitted.contract, connection.line, connection.view, kDecisionPatienceMs);
  if (followed && mode == SubmitMode::kWait)
    followed = watch_to_end(submitted.contract, connection);
  if (!followed) return std::move(followed).take_error().within(recorded);
  if (mode == SubmitMode::kWait) {
    Answer answer = final_answer(submitted.contract, connection);
    answer.recorded = recorded;
    return answer;
  }
  const contracts::Contract& decided = *connection.view.state().contract(submitted.contract);
  Answer answer = describe(decided, connection.view);
  answer.recorded = recorded;
  if (!decided.decision || !decided.decision->allow) answer.status = ExitStatus::kNo;
  return answer;
}

Result<Answer> status(Session& session, const OneOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  const auto& state = connection.view.state();
  auto id = TRY(find_by_prefix(state.contracts(), options.job, "job"));
  const contracts::Contract& contract = *state.contract(id);
  Answer answer = describe(contract, connection.view);
  if (!is_final(contract.phase)) {
    // Steps are the host's word; they decide nothing.
    auto progress = connection.line.job(id);
    if (progress) {
      answer.json["step"] = progress->step;
      answer.json["epsilon_micro"] = progress->epsilon_micro;
      answer.text += "\nprogress " + std::to_string(progress->step) + " of " +
                     std::to_string(progress->steps) + " steps, as the host says";
      if (!progress->detail.empty()) answer.text += " (" + printable(progress->detail) + ")";
    }
  }
  return answer;
}

Result<Answer> watch(Session& session, const OneOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto id = TRY(find_by_prefix(connection.view.state().contracts(), options.job, "job"));
  TRY(watch_to_end(id, connection));
  return final_answer(id, connection);
}

}  // namespace

void add_job_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "job", "Training contracts");
  auto submitting = std::make_shared<SubmitOptions>();
  CLI::App* verb =
      add_verb(*group, session, "submit",
               "Elaborate a contract, sign it, and wait for its decision", submitting, submit);
  verb->add_option("CONTRACT", submitting->file, "contract program in Lua")->required();
  auto* dry =
      verb->add_flag("--dry-run", submitting->dry_run, "ask what would be decided; record nothing");
  verb->add_flag("--wait", submitting->wait, "follow the job to its end")->excludes(dry);
  verb->add_option("--price", submitting->price,
                   "offer this many minor units instead of the contract's")
      ->check(whole_number(0, kMaxJsonInteger));
  verb->add_option("--pin", submitting->pins,
                   "the first 6 digits or more of a policy version that --dry-run named, to be "
                   "decided under it")
      ->allow_extra_args(false);
  auto asking = std::make_shared<OneOptions>();
  verb = add_verb(*group, session, "status", "Where a job stands", asking, status);
  verb->add_option("JOB", asking->job, "job id, or 6 or more of its first digits")->required();
  auto watching = std::make_shared<OneOptions>();
  verb = add_verb(*group, session, "watch", "Follow a job to its end", watching, watch);
  verb->add_option("JOB", watching->job, "job id, or 6 or more of its first digits")->required();
}

}  // namespace souk::market
