#include "market_api/cli/privacy_audit_verb.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <thread>

#include "market_api/client/train_local.h"
#include "policy/jail/worker.h"
#include "trainer/audit/privacy_audit.h"

namespace souk::market {
namespace {

using trainer::OneRunFigures;

struct AuditOptions {
  LocalRequest request;
  uint32_t shadows = 8;
};

// null where there is no finite number.
Json number(double value) {
  return std::isfinite(value) ? Json::real(value) : Json(nullptr);
}

std::string digits(double value) {
  if (!std::isfinite(value)) return "without limit";
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

Json::Object figures_json(const OneRunFigures& figures) {
  return {{"examples", figures.examples},
          {"epsilon_lower", number(figures.epsilon_lower)},
          {"epsilon_gdp", number(figures.epsilon_gdp)},
          {"auc", number(figures.auc)},
          {"tpr_at_fpr_1_percent", number(figures.recognised_at_1_percent)},
          {"guesses", figures.guesses},
          {"right", figures.right}};
}

Json::Object self_test_json(const trainer::SelfTest& test) {
  Json::Array checks;
  for (const auto& check : test.checks) {
    checks.push_back(Json::Object{{"name", check.name},
                                  {"ok", check.ok},
                                  {"measured", number(check.measured)},
                                  {"least", number(check.least)},
                                  {"most", number(check.most)}});
  }
  return {{"ok", test.ok},
          {"epsilon_lower", number(test.epsilon_lower)},
          {"checks", std::move(checks)}};
}

Result<Answer> audit(Session&, const AuditOptions& options) {
  if (options.shadows == 1 || options.shadows > 256)
    return Error(Code::kMalformed, "--shadows: expected 0, or 2 to 256");
  // The jail forks, so it comes before anything that starts threads.
  auto jail = TRY(policy::start_lua_nursery());
  auto job = TRY(open_local(options.request, *jail));
  auto workers = TRY(trainer::Workers::start(
      options.request.threads > 0 ? options.request.threads
                                  : std::max(1U, std::thread::hardware_concurrency())));
  const auto& rows = job.rows.data;
  trainer::Examples examples{features_of(rows), rows.labels};
  trainer::PrivacyAudit found;
  {
    ProgressBar bar("auditing");
    found =
        TRY(trainer::audit_privacy(job.spec, examples, job.initial ? &*job.initial : nullptr,
                                   options.shadows, trainer::NoiseRoot::random(), *workers,
                                   [&](uint64_t done, uint64_t total) { bar.show(done, total); }));
  }
  // The claim as it was written: found.delta is a product, the last digit of which may be off.
  const auto& claim = job.spec.privacy;
  const double delta = claim ? static_cast<double>(claim->delta_pico) / 1e12 : found.delta;
  Answer answer;
  answer.json = {
      {"ok", found.ok},
      {"epsilon_claimed", number(found.claimed)},
      {"delta", number(delta)},
      {"epsilon_accountant", number(found.accountant)},
      {"epsilon_lower", number(found.epsilon_lower)},
      {"epsilon_gdp", number(found.one_run.epsilon_gdp)},
      {"suspicious", found.suspicious},
      {"confidence", Json::real(1 - trainer::kAuditError)},
      {"self_test", self_test_json(found.self_test)},
      {"one_run", figures_json(found.one_run)},
      {"membership", found.membership ? Json(figures_json(*found.membership)) : Json(nullptr)},
      {"shadows", options.shadows}};
  std::string& text = answer.text;
  text = "claimed      epsilon " + digits(found.claimed) + " at delta " + digits(found.delta) +
         " (the accountant says " + digits(found.accountant) + ")\nself-test    ";
  if (found.self_test.ok) {
    text += "all " + std::to_string(found.self_test.checks.size()) + " checks hold";
  } else {
    text += "FAILED:";
    for (const auto& check : found.self_test.checks) {
      if (!check.ok)
        text += "\n             " + check.name + " is " + digits(check.measured) + ", expected " +
                digits(check.least) + " to " + digits(check.most);
    }
  }
  text += "; epsilon at least " + digits(found.self_test.epsilon_lower) +
          " by what was measured\none run      " + std::to_string(found.one_run.examples) +
          " canaries: epsilon at least " + digits(found.one_run.epsilon_lower) +
          " (proven), looks like " + digits(found.one_run.epsilon_gdp);
  if (found.suspicious) text += "; WARNING: that is above the claim";
  if (found.membership) {
    text += "\nmembership   " + std::to_string(options.shadows) + " shadow models: AUC " +
            digits(found.membership->auc) + ", " +
            digits(100 * found.membership->recognised_at_1_percent) +
            " % of the members recognised at 1 % false alarms, epsilon at least " +
            digits(found.membership->epsilon_lower);
  }
  text += found.ok ? "\nnothing contradicts the claim" : "\nTHE CLAIM DOES NOT HOLD";
  if (!found.ok) answer.status = ExitStatus::kNo;
  return answer;
}

}  // namespace

void add_privacy_audit_verb(CLI::App& group, Session& session) {
  auto options = std::make_shared<AuditOptions>();
  LocalRequest& request = options->request;
  CLI::App* verb =
      add_verb(group, session, "audit",
               "Try to refute a specification's epsilon with this build's trainer", options, audit);
  add_footer(
      verb,
      "Runs the self-test of the engine, one training run with canaries, and membership inference\n"
      "(likelihood ratios, few shadow models) on rows of your own. Exit 1: the claim is refuted.");
  verb->add_option("SPEC", request.spec, "contract.lua, or elaborated specification .json")
      ->required();
  verb->add_option("--data", request.data, "files of rows, or folders; labels after their features")
      ->required();
  verb->add_option("--label", request.label, "the label's column (CSV: name, NPY: number)");
  verb->add_option("--drop", request.drop, "CSV columns to leave out")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--csv", request.csv, "file with a CSV layout");
  verb->add_option("--init", request.initial, "safetensors with weights to start from");
  verb->add_option("--shadows", options->shadows,
                   "shadow models of the membership inference (default 8; 0: without)");
  verb->add_option("--threads", request.threads, "threads (default: one for each processor)")
      ->check(whole_number(1, 1024));
}

}  // namespace souk::market
