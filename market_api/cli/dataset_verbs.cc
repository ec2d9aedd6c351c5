// souk dataset publish|list|show|revoke|erase.
#include <cmath>
#include <cstdio>

#include "market_api/cli/policy_files.h"
#include "market_api/cli/session.h"
#include "market_api/cli/warnings.h"
#include "market_api/client/dataset_file.h"
#include "market_api/client/publish.h"
#include "market_api/client/spending.h"
#include "policy/decide/decide.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

struct PublishOptions {
  std::string file, labels, csv, policy, parameters, label, budget_epsilon, budget_delta;
  std::optional<std::string> name;
  std::vector<std::string> drop, classes;
  contracts::Minor price = 0;
  int64_t user_cap = 1;
};
struct ListOptions {};
struct OneOptions {
  std::string id;
};

std::string stem(const std::string& path) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  return name.substr(0, name.find('.', 1));
}

// What others will type and read in a table.
bool is_name(const std::string& name) {
  bool blank = name.find_first_not_of(" \t") == std::string::npos;
  return !blank && name.front() != ' ' && name.back() != ' ' && printable(name) == name &&
         name.find('\n') == std::string::npos;
}

// Nobody could ever train on fewer rows or classes, and the offer stands for good.
Status check_trainable(const trainer::Dataset& dataset, const std::string& path) {
  if (dataset.rows() < 2) {
    return Error(Code::kMalformed, path + ": expected at least 2 rows to train on, found " +
                                       std::to_string(dataset.rows()));
  }
  if (dataset.schema.classes.size() >= 2) return Done{};
  return Error(Code::kMalformed, path +
                                     ": expected at least 2 classes among the labels, found 1; "
                                     "--classes names those that other providers' rows have");
}

Result<Answer> publish_dataset(Session& session, const PublishOptions& options) {
  // The jail forks, so it comes before anything that starts threads.
  auto jail = TRY(policy::start_lua_nursery());
  auto identity = TRY(session.identity());
  Offer offer;
  offer.name = options.name ? *options.name : stem(options.file);
  if (!is_name(offer.name)) {
    return Error(Code::kMalformed,
                 "--name: expected a public name that is not blank and has no control characters");
  }
  offer.provider_name = identity.name();
  offer.price = options.price;
  offer.budget_epsilon_micro = TRY(parse_scaled(options.budget_epsilon, 6, "--budget-epsilon"));
  offer.budget_delta_pico = TRY(parse_scaled(options.budget_delta, 12, "--budget-delta"));
  if (offer.budget_epsilon_micro == 0 || offer.budget_delta_pico == 0 ||
      offer.budget_delta_pico >= 1'000'000'000'000) {
    return Error(Code::kMalformed,
                 "expected a positive --budget-epsilon and a --budget-delta between 0 and 1");
  }
  const auto policy = TRY(load_policy(options.policy, options.parameters));
  if (auto refused = refused_publication(*jail, policy)) return std::move(*refused);
  offer.policy = policy.source;
  offer.policy_parameters = policy.parameters;
  DatasetFile file;
  file.path = options.file;
  if (!options.labels.empty()) file.labels = options.labels;
  file.label = options.label;
  file.drop = options.drop;
  file.classes = options.classes;
  if (!options.csv.empty()) {
    auto bytes = TRY(load_argument(options.csv, size_t{16} << 20));
    auto json = TRY(about_file(parse_json(as_text(bytes)), options.csv));
    file.csv = TRY(trainer::csv_layout_from_json(json, options.csv));
    offer.categories = file.csv->categories();
  }
  std::vector<std::string> warnings;
  auto read = load_dataset(file, &warnings);
  warn_of(warnings);
  if (!read && !file.csv && read.error().expected().ends_with("expected a finite number")) {
    return Error(Code::kMalformed, read.error().expected() +
                                       "; a column of words is left out with --drop, or --csv "
                                       "names a layout that lists them");
  }
  auto dataset = TRY(std::move(read));
  TRY(check_trainable(dataset, options.file));

  offer.policy_engine = to_hex(ByteView(policy::engine_hash()));
  offer.user_cap = options.user_cap;

  auto connection = TRY(session.connect(identity));
  ProgressBar bar("uploading");
  connection.line.wait_out(MarketLine::kPatience, [&](const std::string& why) { bar.note(why); });
  auto published = TRY(publish(dataset, offer, identity, connection.line, connection.view,
                               [&](uint64_t done, uint64_t total) { bar.show(done, total); }));
  auto warn = [&](const char* what, const std::optional<DatasetId>& other) {
    if (!other) return Json(nullptr);
    warn_of({std::string(what) + " as dataset " + short_hex(to_hex(*other)) +
             ", which is on offer still; each has a budget of its own (souk dataset revoke ends "
             "one)"});
    return Json(*other);
  };
  Answer answer;
  answer.json = {{"dataset", published.dataset},
                 {"same_name_as", warn("the same name", published.same_name)},
                 {"same_rows_as", warn("the same rows", published.same_rows)},
                 {"entry", published.entry},
                 {"digest", published.ciphertext},
                 {"rows", published.rows}};
  answer.text = "dataset  " + to_hex(published.dataset) + "\nname     " + offer.name + ", " +
                std::to_string(published.rows) + " rows\ndigest   " +
                to_hex(ByteView(published.ciphertext)) + "\nentry    " +
                std::to_string(published.entry);
  answer.recorded = "dataset " + to_hex(published.dataset) + " is recorded in entry " +
                    std::to_string(published.entry);
  return answer;
}

std::string short_real(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// What stands against the budget: what admission counts, in epsilon at the budget's delta.
struct Certified {
  double spent, with_reserved;
};

Certified certified_of(const contracts::Dataset& dataset) {
  const auto& budget = dataset.budget;
  double delta = static_cast<double>(dataset.manifest.budget_delta_pico) * 1e-12;
  auto all = policy::add(budget.committed, budget.reserved);
  return {policy::certified_epsilon(budget.committed, delta),
          policy::certified_epsilon(all, delta)};
}

// Millionths, rounded up; null where no order is left to certify by.
Json micro(double epsilon) {
  if (!std::isfinite(epsilon) || epsilon > 9e9) return nullptr;
  return static_cast<int64_t>(std::ceil(epsilon * 1e6));
}

Json summary(const contracts::Dataset& dataset) {
  const auto& manifest = dataset.manifest;
  return Json::Object{
      {"dataset", dataset.id},
      {"name", manifest.name},
      {"provider", dataset.provider},
      {"provider_name", manifest.provider_name},
      {"rows", manifest.rows},
      {"price", manifest.price},
      {"budget_epsilon_micro", manifest.budget_epsilon_micro},
      {"budget_delta_pico", manifest.budget_delta_pico},
      {"spent_epsilon_micro", dataset.budget.epsilon_micro_committed},
      {"reserved_epsilon_micro", dataset.budget.epsilon_micro_reserved},
      {"certified_epsilon_micro", micro(certified_of(dataset).spent)},
      {"certified_with_reserved_epsilon_micro", micro(certified_of(dataset).with_reserved)},
      {"runs", dataset.budget.runs},
      {"revoked", dataset.revoked},
      {"erased", dataset.erased},
      {"entry", dataset.seq}};
}

Result<Answer> list_datasets(Session& session, const ListOptions&) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  const auto& state = connection.view.state();
  Answer answer;
  Json::Array all;
  std::vector<std::vector<std::string>> rows{
      {"DATASET", "PROVIDER", "NAME", "ROWS", "PRICE", "EPSILON", "RUNS", ""}};
  for (const auto& [id, dataset] : state.datasets()) {
    const auto& manifest = dataset.manifest;
    all.push_back(summary(dataset));
    rows.push_back({short_hex(to_hex(id)), manifest.provider_name, manifest.name,
                    std::to_string(manifest.rows),
                    std::to_string(manifest.price) + " " + state.genesis()->currency,
                    short_real(certified_of(dataset).with_reserved) + " of " +
                        millionths_text(manifest.budget_epsilon_micro),
                    std::to_string(dataset.budget.runs),
                    dataset.erased    ? "erased"
                    : dataset.revoked ? "revoked"
                                      : ""});
  }
  answer.json = {{"datasets", std::move(all)}};
  answer.text = rows.size() == 1 ? "no datasets" : table_text(rows);
  return answer;
}

// What one consumer, or one purpose, has of the dataset.
Json account_json(const char* kind, Json name, const contracts::Spending& account) {
  return Json::Object{{kind, std::move(name)},
                      {"spent_epsilon_micro", account.epsilon_micro_committed},
                      {"reserved_epsilon_micro", account.epsilon_micro_reserved},
                      {"runs", account.runs}};
}

Result<Answer> show_dataset(Session& session, const OneOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  const auto& state = connection.view.state();
  auto id = TRY(find_dataset(state, options.id));
  const contracts::Dataset& dataset = *state.dataset(id);
  const auto& manifest = dataset.manifest;
  Answer answer;
  answer.json = *summary(dataset).object();
  answer.json["manifest"] = contracts::to_json(manifest);
  auto spending = TRY(spending_of(state, dataset));
  auto real = [](double value) { return std::isfinite(value) ? Json::real(value) : Json(nullptr); };
  answer.json["spent_epsilon_exact"] = real(spending.committed.exact);
  answer.json["spent_epsilon_certified"] = real(spending.committed.certified);
  answer.json["reserved_epsilon_exact"] = real(spending.with_reserved.exact);
  answer.json["reserved_epsilon_certified"] = real(spending.with_reserved.certified);
  answer.json["user_cap"] = manifest.user_cap;
  Json::Array consumers, purposes;
  for (const auto& [who, account] : dataset.consumers) {
    consumers.push_back(account_json("consumer", Json(who), account));
  }
  for (const auto& [what, account] : dataset.purposes) {
    purposes.push_back(account_json("purpose", Json(what), account));
  }
  answer.json["consumers"] = std::move(consumers);
  answer.json["purposes"] = std::move(purposes);
  std::string shape;
  for (uint32_t dimension : manifest.feature_shape) {
    shape += (shape.empty() ? "" : " x ") + std::to_string(dimension);
  }
  answer.text = table_text(
      {{"dataset", to_hex(id)},
       {"name", manifest.name},
       {"provider", manifest.provider_name + " " + to_hex(dataset.provider)},
       {"rows", std::to_string(manifest.rows) + ", each of " + shape + " numbers"},
       {"label",
        manifest.label + ", one of " + std::to_string(manifest.class_names.size()) + " classes"},
       {"price",
        std::to_string(manifest.price) + " " + state.genesis()->currency + " (minor units)"},
       {"budget", "epsilon " + millionths_text(manifest.budget_epsilon_micro) + " at delta " +
                      delta_text(manifest.budget_delta_pico)},
       {"spent", "certified epsilon " + short_real(spending.committed.certified) + " (" +
                     short_real(spending.with_reserved.certified) + " with what is reserved), " +
                     std::to_string(dataset.budget.runs) + " runs"},
       {"odometer",
        "epsilon " + short_real(spending.committed.exact) +
            " if every contract had been chosen in advance; plain sum of the contracts " +
            millionths_text(dataset.budget.epsilon_micro_committed) + ", reserved " +
            millionths_text(dataset.budget.epsilon_micro_reserved) + ", not counted"},
       {"state", dataset.erased    ? "erased"
                 : dataset.revoked ? "revoked"
                                   : "on offer"},
       {"entry", std::to_string(dataset.seq)}});
  for (const auto& [column, values] : manifest.categories) {
    std::string listed;
    for (const auto& value : values) listed += (listed.empty() ? "" : ", ") + value;
    answer.text += "\ncategory " + printable(column + ": " + listed);
  }
  answer.text += "\npolicy\n" + printable(manifest.policy);
  while (answer.text.back() == '\n') answer.text.pop_back();
  return answer;
}

Result<Answer> revoke_dataset(Session& session, const OneOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto id = TRY(find_dataset(connection.view.state(), options.id));
  auto envelope = contracts::sign_record(contracts::DatasetRevoke{id}, identity.key(),
                                         connection.view.market());
  TRY(connection.view.foresee(envelope));
  auto recorded = TRY(connection.view.record(connection.line, envelope));
  if (!connection.view.state().dataset(id)->revoked) {
    return Error(Code::kConflict, "the revocation was recorded without effect");
  }
  Answer answer;
  answer.json = {{"dataset", id}, {"entry", recorded.seq}, {"revoked", true}};
  answer.text = "revoked " + to_hex(id) + " in entry " + std::to_string(recorded.seq);
  answer.recorded = answer.text;
  return answer;
}

// The tombstone first: from then on no honest keeper opens it. The host says that the
// ciphertext is gone; nobody can prove that of a host.
Result<Answer> erase_dataset(Session& session, const OneOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto id = TRY(find_dataset(connection.view.state(), options.id));
  auto envelope =
      contracts::sign_record(contracts::DatasetErase{id}, identity.key(), connection.view.market());
  TRY(connection.view.foresee(envelope));
  auto recorded = TRY(connection.view.record(connection.line, envelope));
  const contracts::Dataset& dataset = *connection.view.state().dataset(id);
  if (!dataset.erased) {
    return Error(Code::kConflict, "the erasure was recorded without effect");
  }
  auto held =
      connection.line.blob(dataset.manifest.ciphertext,
                           static_cast<uint64_t>(dataset.manifest.size), [](uint64_t, uint64_t) {});
  bool gone = !held && held.error().code() == Code::kNotFound;
  Answer answer;
  answer.json = {
      {"dataset", id}, {"entry", recorded.seq}, {"erased", true}, {"ciphertext_deleted", gone}};
  answer.text =
      "erased " + to_hex(id) + "; its tombstone is entry " + std::to_string(recorded.seq) +
      (gone ? "\nthe host has deleted the ciphertext" : "\nthe host still serves the ciphertext");
  answer.recorded = "erased " + to_hex(id) + " in entry " + std::to_string(recorded.seq);
  return answer;
}

}  // namespace

void add_dataset_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "dataset", "Datasets on offer");
  auto publishing = std::make_shared<PublishOptions>();
  CLI::App* verb =
      add_verb(*group, session, "publish", "Encrypt a dataset, upload it and offer training on it",
               publishing, publish_dataset);
  verb->add_option("FILE", publishing->file,
                   "CSV, IDX, NPY, safetensors, or a folder of images in one folder per class")
      ->required();
  verb->add_option("--labels", publishing->labels, "file with the labels (IDX, NPY)");
  verb->add_option("--policy", publishing->policy, "Lua policy that judges every contract")
      ->required();
  verb->add_option("--parameters", publishing->parameters,
                   "JSON object that the policy reads as `parameters`");
  verb->add_option("--label", publishing->label, "the label's column (CSV: name, NPY: number)");
  verb->add_option("--csv", publishing->csv,
                   "file with a CSV layout: columns, categories, missing values");
  verb->add_option("--drop", publishing->drop, "CSV columns to leave out")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--classes", publishing->classes, "the classes in the order of their numbers")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option(
          "--budget-epsilon", publishing->budget_epsilon,
          "privacy budget over all contracts, like 3 or 0.5: no more epsilon is ever spent on "
          "these rows")
      ->required();
  verb->add_option("--budget-delta", publishing->budget_delta, "delta of that budget, like 1e-5")
      ->required();
  verb->add_option("--price", publishing->price, "list price of one contract, in minor units")
      ->required()
      ->check(whole_number(0, kMaxJsonInteger));
  verb->add_option("--user-cap", publishing->user_cap,
                   "rows that one person has at most, as you have made sure: the budget then "
                   "protects persons, not rows")
      ->check(whole_number(1, contracts::kMaxUserCap));
  verb->add_option("--name", publishing->name, "public name (default: the file's)");

  add_verb(*group, session, "list", "Every dataset on the ledger", std::make_shared<ListOptions>(),
           list_datasets);
  auto showing = std::make_shared<OneOptions>();
  verb = add_verb(*group, session, "show", "One dataset with its policy and budget", showing,
                  show_dataset);
  verb->add_option("ID", showing->id, "dataset id, 6 or more of its first digits, or its name")
      ->required();
  auto revoking = std::make_shared<OneOptions>();
  verb = add_verb(*group, session, "revoke", "No new contract may use this dataset", revoking,
                  revoke_dataset);
  verb->add_option("ID", revoking->id, "dataset id, 6 or more of its first digits, or its name")
      ->required();
  auto erasing = std::make_shared<OneOptions>();
  verb = add_verb(*group, session, "erase",
                  "Destroy the dataset's key and ciphertext and leave a signed tombstone", erasing,
                  erase_dataset);
  verb->add_option("ID", erasing->id, "dataset id, 6 or more of its first digits, or its name")
      ->required();
}

}  // namespace souk::market
