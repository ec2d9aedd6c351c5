#include "policy/templates/library.h"

namespace souk::policy {
namespace {

using P = ParameterType;
constexpr int64_t kDayMs = 86'400'000;
constexpr int64_t kYear2100 = 4'102'444'800'000;

Template purpose() {
  return {
      "purpose",
      "Only for these purposes: {allowed}.",
      {{"allowed", P::kTexts, "purposes that may be asked for", Json::Array{"medical-research"}}},
      R"lua(r.require(contains(p.allowed, request.purpose), "purpose", "request.purpose", request.purpose, p.allowed, "not a purpose this data is for"))lua",
      {{"purpose", "request.purpose", "in", "$allowed"}}};
}

Template region() {
  return {
      "region",
      "Only for consumers in these regions: {allowed}.",
      {{"allowed", P::kTexts, "regions the contract may name", Json::Array{"EU", "CH"}}},
      R"lua(r.require(contains(p.allowed, request.region), "region", "request.region", request.region, p.allowed, "not a region this data may be used in"))lua",
      {{"region", "request.region", "in", "$allowed"}}};
}

Template model_class() {
  return {
      "model_class",
      "Only these kinds of model: {allowed}.",
      {{"allowed",
        P::kChoices,
        "kinds of model",
        Json::Array{"logreg", "mlp"},
        0,
        0,
        {"logreg", "mlp", "cnn"}}},
      R"lua(r.require(contains(p.allowed, request.algorithm), "model_class", "request.algorithm", request.algorithm, p.allowed, "not a kind of model this data may train")
only("allowed_algorithms", p.allowed))lua",
      {{"model_class", "request.algorithm", "in", "$allowed"}},
      {},
      {},
      {{"allowed_algorithms", "$allowed"}}};
}

Template model_size() {
  return {
      "model_size",
      "Models of at most {max_parameters} parameters, because small models remember less.",
      {{"max_parameters", P::kInteger, "most weights of the model", 100'000, 1}},
      R"lua(r.require(request.model.parameters <= p.max_parameters, "model_size", "request.model.parameters", request.model.parameters, "at most " .. p.max_parameters)
at_most("max_parameters", p.max_parameters))lua",
      {{"model_size", "request.model.parameters", "<=", "$max_parameters"}},
      {},
      {},
      {{"max_parameters", "$max_parameters"}}};
}

Template max_steps() {
  return {
      "max_steps",
      "At most {max_steps} training steps.",
      {{"max_steps", P::kInteger, "most steps of one run", 10'000, 1, 1'000'000}},
      R"lua(r.require(request.steps <= p.max_steps, "max_steps", "request.steps", request.steps, "at most " .. p.max_steps)
at_most("max_steps", p.max_steps))lua",
      {{"max_steps", "request.steps", "<=", "$max_steps"}},
      {},
      {},
      {{"max_steps", "$max_steps"}}};
}

Template max_epochs() {
  return {
      "max_epochs",
      "At most {max_epochs} passes over the data.",
      {{"max_epochs", P::kInteger, "most passes of one run", 50, 1}},
      R"lua(r.require(request.epochs <= p.max_epochs, "max_epochs", "request.epochs", request.epochs, "at most " .. p.max_epochs))lua",
      {{"max_epochs", "request.epochs", "<=", "$max_epochs"}}};
}

Template dp_floor() {
  return {
      "dp_floor",
      "Only differentially private training: epsilon at most {max_epsilon_micro} millionths, delta "
      "at most "
      "{max_delta_pico} in 10^12, a noise multiplier of at least {min_noise_micro} millionths.",
      {{"max_epsilon_micro", P::kInteger, "most epsilon of one run, in millionths", 2'000'000, 1},
       {"max_delta_pico", P::kInteger, "most delta of one run, in 10^-12", 10'000'000, 1,
        999'999'999'999},
       {"min_noise_micro", P::kInteger, "least noise multiplier, in millionths", 0}},
      R"lua(r.require(request.dp.enabled, "privacy", "request.dp.enabled", request.dp.enabled, true, "training must be differentially private")
r.require(request.dp.epsilon_micro <= p.max_epsilon_micro, "max_epsilon", "request.dp.epsilon_micro", request.dp.epsilon_micro, "at most " .. p.max_epsilon_micro)
r.require(request.dp.delta_pico <= p.max_delta_pico, "max_delta", "request.dp.delta_pico", request.dp.delta_pico, "at most " .. p.max_delta_pico)
r.require(request.dp.noise_micro >= p.min_noise_micro, "min_noise", "request.dp.noise_micro", request.dp.noise_micro, "at least " .. p.min_noise_micro)
at_most("max_epsilon_micro", p.max_epsilon_micro)
at_most("max_delta_pico", p.max_delta_pico)
at_least("min_noise_micro", p.min_noise_micro))lua",
      {{"privacy", "request.dp.enabled", "==", "1"},
       {"max_epsilon", "request.dp.epsilon_micro", "<=", "$max_epsilon_micro"},
       {"max_delta", "request.dp.delta_pico", "<=", "$max_delta_pico"},
       {"min_noise", "request.dp.noise_micro", ">=", "$min_noise_micro"}},
      {},
      {},
      {{"max_epsilon_micro", "$max_epsilon_micro"},
       {"max_delta_pico", "$max_delta_pico"},
       {"min_noise_micro", "$min_noise_micro"}}};
}

// What has been spent, by `sum` of the context, and this run together stay within a parameter.
Template budget(const std::string& of, const std::string& sum, const char* sentence,
                const char* help, int64_t usual) {
  const std::string code = "budget_" + of;
  return {code,
          sentence,
          {{"max_epsilon_micro", P::kInteger, help, usual, 1}},
          "r.require(" + sum + " + request.dp.epsilon_micro <= p.max_epsilon_micro, \"" + code +
              "\", \"" + sum + "\", " + sum +
              R"lua(, "at most " .. p.max_epsilon_micro .. " with this run"))lua",
          {{code, sum + " + request.dp.epsilon_micro", "<=", "$max_epsilon_micro"}}};
}

Template budget_dataset() {
  return budget("dataset", "ctx.spent_epsilon_micro",
                "All runs together may spend an epsilon of at most {max_epsilon_micro} millionths "
                "on this dataset.",
                "most epsilon of all runs, in millionths", 3'000'000);
}

Template budget_consumer() {
  return budget("consumer", "ctx.consumer.spent_epsilon_micro",
                "Each consumer may spend an epsilon of at most {max_epsilon_micro} millionths on "
                "this dataset.",
                "most epsilon of one consumer, in millionths", 2'000'000);
}

Template budget_purpose() {
  return budget("purpose", "ctx.purpose.spent_epsilon_micro",
                "All runs for one purpose together may spend an epsilon of at most "
                "{max_epsilon_micro} millionths on this dataset.",
                "most epsilon for one purpose, in millionths", 2'000'000);
}

Template min_cohort() {
  return {
      "min_cohort",
      "Nobody is trained on in a crowd of fewer than {min_rows} rows or batches of fewer than "
      "{min_batch}.",
      {{"min_rows", P::kInteger, "least rows of the dataset", 100, 1},
       {"min_batch", P::kInteger, "least expected batch", 16, 1, 65'536}},
      R"lua(r.require(dataset.rows >= p.min_rows, "min_cohort", "dataset.rows", dataset.rows, "at least " .. p.min_rows)
r.require(request.batch >= p.min_batch, "min_batch", "request.batch", request.batch, "at least " .. p.min_batch))lua",
      {{"min_cohort", "dataset.rows", ">=", "$min_rows"},
       {"min_batch", "request.batch", ">=", "$min_batch"}}};
}

Template output_form() {
  return {
      "output_form",
      "What leaves the enclave is in one of these forms: {allowed}.",
      {{"allowed", P::kChoices, "forms of the result", Json::Array{"weights"}, 0, 0, {"weights"}}},
      R"lua(r.require(contains(p.allowed, request.output.form), "output_form", "request.output.form", request.output.form, p.allowed)
obligations.output_form = request.output.form)lua",
      {{"output_form", "request.output.form", "in", "$allowed"}},
      {},
      {},
      {{"output_form", "request.output.form"}}};
}

Template expiry() {
  return {
      "expiry",
      "Until {end_time}, and not after.",
      {{"end_time", P::kTime, "the first moment at which nothing is allowed any more", kYear2100}},
      R"lua(r.require(ctx.now < p.end_time, "expired", "ctx.now", ctx.now, "before " .. p.end_time))lua",
      {{"expired", "ctx.now", "<", "$end_time"}}};
}

Template embargo() {
  return {
      "embargo",
      "From {from} on, and not before.",
      {{"from", P::kTime, "the first moment at which something is allowed",
        int64_t{1'735'689'600'000}}},
      R"lua(r.require(ctx.now >= p.from, "embargo", "ctx.now", ctx.now, "not before " .. p.from))lua",
      {{"embargo", "ctx.now", ">=", "$from"}}};
}

Template quota() {
  return {
      "quota",
      "At most {max_runs} runs in all, and {max_runs_of_consumer} of one consumer.",
      {{"max_runs", P::kInteger, "most runs on this dataset", 100},
       {"max_runs_of_consumer", P::kInteger, "most of one consumer", 10}},
      R"lua(r.require(ctx.runs < p.max_runs, "quota", "ctx.runs", ctx.runs, "fewer than " .. p.max_runs .. " before this one")
r.require(ctx.consumer.runs < p.max_runs_of_consumer, "quota_consumer", "ctx.consumer.runs", ctx.consumer.runs, "fewer than " .. p.max_runs_of_consumer .. " before this one"))lua",
      {{"quota", "ctx.runs", "<", "$max_runs"},
       {"quota_consumer", "ctx.consumer.runs", "<", "$max_runs_of_consumer"}}};
}

Template rate() {
  return {
      "rate",
      "One consumer asks at most once in {min_interval_ms} milliseconds.",
      {{"min_interval_ms", P::kInteger, "least time between two runs of one consumer, in ms",
        kDayMs, 1}},
      R"lua(r.require(ctx.now >= ctx.consumer.last_run + p.min_interval_ms, "rate", "ctx.now", ctx.now, "not before " .. ctx.consumer.last_run + p.min_interval_ms))lua",
      {{"rate", "ctx.now", ">=", "ctx.consumer.last_run + $min_interval_ms"}}};
}

Template emergency_stop() {
  return {
      "emergency_stop",
      "While stopped is {stopped}: a stopped dataset answers nobody.",
      {{"stopped", P::kFlag, "true refuses everything", false},
       {"reason", P::kText, "what consumers are told", "the provider has stopped this dataset"}},
      R"lua(r.require(not p.stopped, "stopped", "", "", "", p.reason))lua",
      {{"stopped", "$stopped", "==", "0"}}};
}

}  // namespace

std::vector<Template> run_templates() {
  return {purpose(),    region(),        model_class(),    model_size(),      max_steps(),
          max_epochs(), dp_floor(),      budget_dataset(), budget_consumer(), budget_purpose(),
          min_cohort(), output_form(),   expiry(),         embargo(),         quota(),
          rate(),       emergency_stop()};
}

}  // namespace souk::policy
