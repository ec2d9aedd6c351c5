#include "market_api/cli/privacy_verbs.h"

#include <cmath>

#include "policy/privacy/accountant.h"
#include "policy/privacy/bounds.h"
#include "policy/privacy/budget.h"
#include "policy/privacy/filter.h"
#include "policy/privacy/meaning.h"
#include "policy/privacy/renyi.h"
#include "policy/privacy/shown.h"

namespace souk::market {
namespace {

using policy::as_it_is, policy::digits, policy::digits_down, policy::digits_up, policy::Mechanism;

// Numbers are read here rather than by CLI11, so that each is refused with a sentence.
struct RunOptions {
  std::string sample_rate, noise_multiplier, steps, events, user_cap, adjacency = "add-remove";
};
struct EpsilonOptions : RunOptions {
  std::string delta;
};
struct DeltaOptions : RunOptions {
  std::string epsilon;
};
struct NoiseOptions : RunOptions {
  std::string epsilon, delta;
};
struct RenyiOptions : RunOptions {
  std::string order;
};
struct FilterOptions {
  std::string epsilon, delta, stream, rule = "renyi-mixture8";
};
struct PlanOptions {
  std::string epsilon, delta, rows, batch, epochs, user_cap, budget_epsilon, budget_delta;
};
struct ExplainOptions {
  std::string epsilon, delta = "0";
};

Error usage(std::string what) {
  return Error(Code::kMalformed, std::move(what));
}

// null where there is no finite number.
Json number(double value) {
  return std::isfinite(value) ? Json::real(value) : Json(nullptr);
}

Result<policy::Adjacency> adjacency_of(const RunOptions& options) {
  if (options.adjacency == "add-remove") return policy::Adjacency::kAddRemove;
  if (options.adjacency == "replace-one") return policy::Adjacency::kReplaceOne;
  return usage("--adjacency: expected add-remove or replace-one");
}

Result<double> positive(const std::string& text, const std::string& what) {
  double value = TRY(policy::parse_number(text, what));
  if (!(value > 0)) return usage(what + ": expected a positive number");
  return value;
}

Result<double> delta_of(const std::string& text) {
  double delta = TRY(policy::parse_number(text, "--delta"));
  if (!(delta > 0 && delta < 1))
    return usage("--delta: expected a number between 0 and 1, both excluded");
  return delta;
}

// Plain decimal digits: 1e3 and 0x10 are typing errors where things are counted.
Result<uint64_t> count_of(const std::string& text, const std::string& what) {
  bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos &&
                (text.size() == 1 || text.front() != '0');
  if (!digits)
    return usage(what + ": expected a whole number that is not negative, in decimal digits");
  return policy::parse_count(text, what);
}

// Rows of one person; 1 where it is left out.
Result<uint32_t> user_cap_of(const std::string& text) {
  if (text.empty()) return uint32_t{1};
  auto records = TRY(count_of(text, "--user-cap"));
  if (records < 1 || records > 4096)
    return usage("--user-cap: expected 1 to 4096 rows of a person");
  return static_cast<uint32_t>(records);
}

// The one run of --sample-rate, --noise-multiplier and --steps, or the list of --events.
// `asks_noise`: the noise multiplier is what is looked for.
Result<policy::MechanismList> mechanisms_of(const RunOptions& options, bool asks_noise) {
  bool single = !options.sample_rate.empty() || !options.noise_multiplier.empty() ||
                !options.steps.empty() || !options.user_cap.empty();
  policy::MechanismList list;
  if (!options.events.empty()) {
    if (single)
      return usage(
          "expected either --events or --sample-rate, --noise-multiplier, --steps and --user-cap");
    list = TRY(policy::parse_mechanisms(options.events));
  } else {
    if (options.sample_rate.empty() || options.steps.empty() ||
        options.noise_multiplier.empty() != asks_noise) {
      return usage(asks_noise
                       ? "expected --sample-rate and --steps, or --events with one sigma=?"
                       : "expected --sample-rate, --noise-multiplier and --steps, or --events");
    }
    Mechanism run;
    run.q = TRY(policy::parse_number(options.sample_rate, "--sample-rate"));
    if (!(run.q >= 0 && run.q <= 1)) return usage("--sample-rate: expected a number from 0 to 1");
    run.steps = TRY(count_of(options.steps, "--steps"));
    if (!asks_noise) run.scale = TRY(positive(options.noise_multiplier, "--noise-multiplier"));
    run.records = TRY(user_cap_of(options.user_cap));
    if (run.records > 1) run.kind = Mechanism::Kind::kSampledUser;
    TRY(policy::check(run));
    list.all.push_back(run);
    if (asks_noise) list.unknown = 0;
  }
  if (list.unknown.has_value() != asks_noise) {
    return usage(asks_noise ? "--events: expected one sigma=?" : "--events: expected no '?' here");
  }
  return list;
}

Result<Answer> epsilon(CommandLine&, const EpsilonOptions& options) {
  auto adjacency = TRY(adjacency_of(options));
  double delta = TRY(delta_of(options.delta));
  auto list = TRY(mechanisms_of(options, false));
  auto bounds = TRY(policy::epsilon_bounds(list.all, adjacency, delta));
  double renyi = TRY(policy::epsilon_by_renyi(list.all, adjacency, delta));
  auto worst = bounds.worst();
  // Both are proven; whichever is less holds, where they differ by more than roundings.
  const bool by_renyi = renyi < worst.upper * (1 - 1e-6) - 1e-9;
  if (by_renyi) worst.upper = renyi;
  Answer answer;
  answer.json = {{"epsilon", number(worst.upper)},
                 {"epsilon_lower", number(worst.lower)},
                 {"epsilon_remove", number(bounds.remove.upper)},
                 {"epsilon_add", number(bounds.add.upper)},
                 {"accountant", by_renyi ? "rdp" : "pld"},
                 {"rdp_epsilon", number(renyi)},
                 {"delta", number(delta)},
                 {"adjacency", options.adjacency}};
  answer.text = "epsilon " + digits_up(worst.upper, 6) + " at delta " + as_it_is(delta) +
                " (proven; at least " + digits_down(worst.lower, 6) +
                "; Renyi accounting alone would say " + digits_up(renyi, 6) + ")";
  return answer;
}

Result<Answer> delta(CommandLine&, const DeltaOptions& options) {
  auto adjacency = TRY(adjacency_of(options));
  double epsilon = TRY(policy::parse_number(options.epsilon, "--epsilon"));
  if (epsilon < 0) return usage("--epsilon: expected a number that is not negative");
  auto list = TRY(mechanisms_of(options, false));
  auto bounds = TRY(policy::delta_bounds(list.all, adjacency, epsilon));
  auto worst = bounds.worst();
  Answer answer;
  answer.json = {{"delta", number(worst.upper)},
                 {"delta_lower", number(worst.lower)},
                 {"delta_remove", number(bounds.remove.upper)},
                 {"delta_add", number(bounds.add.upper)},
                 {"accountant", "pld"},
                 {"epsilon", number(epsilon)},
                 {"adjacency", options.adjacency}};
  answer.text = "delta " + digits_up(worst.upper, 6) + " at epsilon " + as_it_is(epsilon) +
                " (proven; at least " + digits_down(worst.lower, 6) + ")";
  return answer;
}

Result<Answer> noise(CommandLine&, const NoiseOptions& options) {
  auto adjacency = TRY(adjacency_of(options));
  double epsilon = TRY(positive(options.epsilon, "--epsilon"));
  double delta = TRY(delta_of(options.delta));
  auto list = TRY(mechanisms_of(options, true));
  auto least = policy::least_noise(list.all, *list.unknown, adjacency, epsilon, delta);
  if (!least && least.error().code() != Code::kRefused) return std::move(least).take_error();
  Answer answer;
  answer.json = {
      {"epsilon", number(epsilon)}, {"delta", number(delta)}, {"adjacency", options.adjacency}};
  if (!least) {
    answer.json["noise_multiplier"] = nullptr;
    answer.text = least.error().expected();
    if (list.all.size() > 1) answer.text += ": the rest may spend more than that already";
    answer.status = ExitStatus::kNo;
    return answer;
  }
  answer.json["noise_multiplier"] = number(*least);
  answer.text = "noise multiplier " + digits_up(*least, 8);
  return answer;
}

Result<Answer> renyi(CommandLine&, const RenyiOptions& options) {
  auto adjacency = TRY(adjacency_of(options));
  double order = TRY(policy::parse_number(options.order, "--order"));
  if (!(order > 1 && order <= 4096))
    return usage("--order: expected a number above 1, at most 4096");
  auto list = TRY(mechanisms_of(options, false));
  double total = 0;
  for (const auto& m : list.all)
    total += static_cast<double>(m.steps) * policy::renyi_of_step(m, adjacency, order);
  Answer answer;
  answer.json = {
      {"rdp", number(total)}, {"order", number(order)}, {"adjacency", options.adjacency}};
  answer.text = "Renyi divergence " + digits(total, 12) + " at order " + as_it_is(order);
  return answer;
}

Result<Answer> filter(CommandLine&, const FilterOptions& options) {
  double epsilon = TRY(positive(options.epsilon, "--epsilon"));
  double delta = TRY(delta_of(options.delta));
  auto stream = TRY(policy::parse_stream(options.stream));
  auto rule = TRY(policy::parse_rule(options.rule));
  auto count = TRY(policy::admitted(stream, rule, epsilon, delta));
  Answer answer;
  bool sound = rule.kind != policy::FilterRule::Kind::kPldStatic;
  answer.json = {{"admitted", count ? Json(*count) : Json(nullptr)},
                 {"rule", options.rule},
                 {"sound_if_adaptive", sound}};
  answer.text =
      (count ? std::to_string(*count) : std::string("without end, all")) + " contracts are let in";
  if (!sound) answer.text += " (only if all of them were chosen before the first ran)";
  return answer;
}

Result<Answer> plan(CommandLine&, const PlanOptions& options) {
  double epsilon = TRY(positive(options.epsilon, "--epsilon"));
  double delta = TRY(delta_of(options.delta));
  uint64_t rows = TRY(count_of(options.rows, "--rows"));
  uint64_t batch = TRY(count_of(options.batch, "--batch"));
  double epochs = TRY(positive(options.epochs, "--epochs"));
  if (rows < 1) return usage("--rows: expected at least 1");
  if (batch < 1 || batch > rows)
    return usage("--batch: expected a number from 1 to the number of rows");
  double rate = static_cast<double>(batch) / static_cast<double>(rows),
         steps = std::ceil(epochs / rate - 1e-9);
  if (!(steps >= 1 && steps <= 4294967296.0))
    return usage("--epochs: expected 1 to 2^32 steps in all");
  // As the market counts: with the slack of the real noise generator.
  const uint32_t records = TRY(user_cap_of(options.user_cap));
  auto sigma = policy::calibrate_noise(epsilon, delta, rate, static_cast<uint64_t>(steps), records);
  if (!sigma) return std::move(sigma).take_error();
  policy::Event event{rate, *sigma, static_cast<uint64_t>(steps), records};
  double spent = TRY(policy::epsilon_upper(event, delta));
  Answer answer;
  answer.json = {{"noise_multiplier", number(*sigma)},
                 {"sample_rate", number(rate)},
                 {"steps", static_cast<uint64_t>(steps)},
                 {"epsilon", number(spent)},
                 {"delta", number(delta)},
                 // Of one coordinate of the mean gradient, in units of the clipping norm.
                 {"noise_of_mean", number(*sigma / static_cast<double>(batch))},
                 {"expected_examples", number(steps * static_cast<double>(batch))}};
  answer.text = "noise multiplier " + digits_up(*sigma, 6) + ", " + digits(steps, 12) +
                " steps at sampling rate " + digits(rate) + "\nepsilon " + digits_up(spent, 6) +
                " at delta " + as_it_is(delta) + "; " +
                digits(steps * static_cast<double>(batch), 12) +
                " examples are visited, and each coordinate of a mean gradient gets noise of " +
                digits(*sigma / static_cast<double>(batch)) + " clipping norms";
  if (options.budget_epsilon.empty() != options.budget_delta.empty()) {
    return usage("expected both --budget-epsilon and --budget-delta, or neither");
  }
  if (!options.budget_epsilon.empty()) {
    int64_t budget_epsilon = TRY(parse_scaled(options.budget_epsilon, 6, "--budget-epsilon"));
    int64_t budget_delta = TRY(parse_scaled(options.budget_delta, 12, "--budget-delta"));
    if (budget_epsilon <= 0 || budget_delta <= 0 || budget_delta >= 1'000'000'000'000) {
      return usage("expected a positive --budget-epsilon and --budget-delta between 0 and 1");
    }
    auto caps = policy::caps_for(budget_epsilon, budget_delta);
    auto charges = policy::charges_for(event);
    int64_t jobs = 0;
    double share = HUGE_VAL;
    for (size_t i = 0; i < caps.size(); ++i) {
      if (caps[i] < 0) continue;
      jobs = std::max(jobs, charges[i] > 0 ? caps[i] / charges[i] : kMaxJsonInteger);
      share = std::min(share, static_cast<double>(charges[i]) /
                                  static_cast<double>(std::max<int64_t>(1, caps[i])));
    }
    answer.json["jobs"] = jobs;
    answer.json["budget_share"] = number(share);
    answer.text += "\nthe budget admits " + std::to_string(jobs) + " such jobs, " +
                   (std::isfinite(share) ? "each " + digits(100 * share, 3) + " % of it"
                                         : "and none of any kind: it is too small");
  }
  return answer;
}

std::string percent(double share) {
  const double value = 100 * share;
  return digits_up(value, value > 99 && value < 100 ? 5 : 3) + " %";
}

Result<Answer> explain(CommandLine&, const ExplainOptions& options) {
  double epsilon = TRY(policy::parse_number(options.epsilon, "--epsilon"));
  if (epsilon < 0) return usage("--epsilon: expected a number that is not negative");
  double delta = TRY(policy::parse_number(options.delta, "--delta"));
  if (!(delta >= 0 && delta < 1))
    return usage("--delta: expected a number from 0 up to, but not, 1");
  Answer answer;
  double advantage = policy::most_advantage(epsilon, delta);
  Json::Array tests, beliefs;
  std::string text =
      "epsilon " + as_it_is(epsilon) + ", delta " + as_it_is(delta) +
      ": whatever an attacker knows and computes, from everything that was released,\n";
  text +=
      "- guessing whether one record was used, with a fair coin as the start, it is right at "
      "most " +
      percent(0.5 + advantage) + " of the time (" + percent(0.5) + " is blind guessing)\n";
  for (double alarms : {0.001, 0.01, 0.05}) {
    double recognised = policy::most_recognised(epsilon, delta, alarms);
    tests.push_back(Json::Object{{"false_alarms", Json::real(alarms)},
                                 {"recognised_at_most", Json::real(recognised)}});
    text += "- wrongly accusing " + percent(alarms) +
            " of those whose record was not used, it recognises at most " + percent(recognised) +
            " of those whose record was\n";
  }
  // With delta, odds that grow e^epsilon-fold are passed now and then: twice as much is rare.
  const double excess = delta > 0 ? std::log(2.0) : 0,
               rarely = delta > 0 ? policy::rarely_passed(delta, excess) : 0;
  for (double prior : {0.01, 0.1, 0.5, 0.9}) {
    const double certainty = policy::certainty_after(epsilon + excess, prior);
    beliefs.push_back(Json::Object{
        {"prior", Json::real(prior)},
        {"posterior_at_most", delta > 0 ? Json(nullptr) : Json::real(certainty)},
        {"posterior_rarely_above", rarely < 1 ? Json::real(certainty) : Json(nullptr)}});
    if (rarely >= 1) continue;
    text += "- where it held " + percent(prior) + " likely before that a record was used" +
            (delta > 0 ? ", it is more than " + percent(certainty) +
                             " sure after with probability " + digits_up(rarely) + " at most\n"
                       : ", it is at most " + percent(certainty) + " sure after\n");
  }
  if (delta == 0) {
    text += "They hold without exception.";
  } else if (rarely < 1) {
    text +=
        "Its odds grow more than 2 e^epsilon-fold with probability 2 delta at most; how often more "
        "than e^epsilon-fold,\nepsilon and delta do not say. The first four hold as they stand.";
  } else {
    text += "They hold as they stand; at this delta nothing limits how sure it can become.";
  }
  text +=
      "\nA record that was not used counts as nothing in its place: how many rows there are is "
      "public, and not protected.";
  if (epsilon > 10) text += "\nAt this epsilon the guarantee says next to nothing.";
  answer.json = {{"epsilon", number(epsilon)},
                 {"delta", number(delta)},
                 {"success_at_most", Json::real(0.5 + advantage)},
                 {"advantage", Json::real(2 * advantage)},
                 {"tests", tests},
                 {"beliefs", beliefs},
                 {"rarely", Json::real(rarely)},
                 {"text", text}};
  answer.text = text;
  return answer;
}

template <class Options>
void add_run_options(CLI::App* verb, std::shared_ptr<Options> options, bool asks_noise) {
  verb->add_option("--sample-rate", options->sample_rate,
                   "chance of each record to be in a step, 0 to 1");
  if (!asks_noise) {
    verb->add_option("--noise-multiplier", options->noise_multiplier,
                     "noise deviation over clipping norm");
  }
  verb->add_option("--steps", options->steps, "number of steps");
  verb->add_option(
      "--events", options->events,
      "several mechanisms: psg:q=,sigma=,T= gauss:sigma=,T= lap:b=,T= pure:eps=,T= "
      "rr:eps=,T= (randomised response) "
      "psgu:q=,sigma=,T=,k= tpsg:N=,q=,B=,sigma=,T= joined by ';' (spaces do not matter)");
  verb->add_option("--user-cap", options->user_cap,
                   "rows of one person at most (default 1: the unit is a row)");
  verb->add_option("--adjacency", options->adjacency,
                   "add-remove (default; one record is there or counts as nothing in its place) or "
                   "replace-one");
}

}  // namespace

CLI::App* add_privacy_verbs(CLI::App& app, CommandLine& line) {
  CLI::App* group =
      add_group(app, "privacy", "What training costs in privacy, computed on this machine");

  auto asked = std::make_shared<EpsilonOptions>();
  CLI::App* verb =
      add_verb(*group, line, "epsilon", "Proven epsilon of a run, with a lower bound beside it",
               asked, epsilon);
  add_run_options(verb, asked, false);
  verb->add_option("--delta", asked->delta, "delta, between 0 and 1")->required();

  auto delta_options = std::make_shared<DeltaOptions>();
  verb = add_verb(*group, line, "delta", "Proven delta of a run", delta_options, delta);
  add_run_options(verb, delta_options, false);
  verb->add_option("--epsilon", delta_options->epsilon, "epsilon")->required();

  auto noise_options = std::make_shared<NoiseOptions>();
  verb = add_verb(*group, line, "noise", "The least noise multiplier that keeps (epsilon, delta)",
                  noise_options, noise);
  add_run_options(verb, noise_options, true);
  verb->add_option("--epsilon", noise_options->epsilon, "epsilon")->required();
  verb->add_option("--delta", noise_options->delta, "delta")->required();

  auto renyi_options = std::make_shared<RenyiOptions>();
  verb =
      add_verb(*group, line, "rdp", "Renyi divergence of a run at one order", renyi_options, renyi);
  add_run_options(verb, renyi_options, false);
  verb->add_option("--order", renyi_options->order, "order, above 1")->required();

  auto filter_options = std::make_shared<FilterOptions>();
  verb = add_verb(*group, line, "filter", "How many contracts of a stream a budget lets in",
                  filter_options, filter);
  verb->add_option("--epsilon", filter_options->epsilon, "epsilon of the dataset's budget")
      ->required();
  verb->add_option("--delta", filter_options->delta, "delta of the dataset's budget")->required();
  verb->add_option("--stream", filter_options->stream,
                   "q,sigma,T;q,sigma,T;... taken in turn, again and again")
      ->required();
  verb->add_option("--rule", filter_options->rule,
                   "renyi:ORDER, renyi-mixture8 (default; the market's) or pld-static");

  auto plan_options = std::make_shared<PlanOptions>();
  verb = add_verb(*group, line, "plan", "The noise a training run needs, and what it costs",
                  plan_options, plan);
  verb->add_option("--epsilon", plan_options->epsilon, "epsilon of the run")->required();
  verb->add_option("--delta", plan_options->delta, "delta of the run")->required();
  verb->add_option("--rows", plan_options->rows, "rows of the dataset, a public number")
      ->required();
  verb->add_option("--batch", plan_options->batch, "expected batch")->required();
  verb->add_option("--epochs", plan_options->epochs, "passes over the data")->required();
  verb->add_option("--user-cap", plan_options->user_cap,
                   "rows of one person at most (default 1: the unit is a row)");
  verb->add_option("--budget-epsilon", plan_options->budget_epsilon,
                   "epsilon of the dataset's budget");
  verb->add_option("--budget-delta", plan_options->budget_delta, "delta of the dataset's budget");

  auto explain_options = std::make_shared<ExplainOptions>();
  verb = add_verb(*group, line, "explain", "What (epsilon, delta) means, in plain words",
                  explain_options, explain);
  verb->add_option("--epsilon", explain_options->epsilon, "epsilon")->required();
  verb->add_option("--delta", explain_options->delta, "delta (default 0)");
  return group;
}

}  // namespace souk::market
