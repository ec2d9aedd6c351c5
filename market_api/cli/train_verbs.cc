// souk train-local.
#include <array>
#include <cstdio>

#include "market_api/cli/session.h"
#include "market_api/cli/warnings.h"
#include "market_api/client/train_local.h"
#include "policy/jail/worker.h"

namespace souk::market {
namespace {

struct TrainOptions {
  LocalRequest request;
  std::string out, norm = "batch";
  int64_t seed = -1;
};

// For people; --json has every digit.
std::string digits(double value, int significant = 5) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.*g", significant, value);
  return text.data();
}

const char* name_of(LocalResult::MeasuredOn measured) {
  switch (measured) {
    case LocalResult::MeasuredOn::kTest:
      return "test";
    case LocalResult::MeasuredOn::kFolds:
      return "folds";
    case LocalResult::MeasuredOn::kTraining:
      return "training";
  }
  return "";
}

Result<Answer> train(Session&, const TrainOptions& options) {
  // The jail forks, so it comes before anything that starts threads.
  auto jail = TRY(policy::start_lua_nursery());
  LocalRequest request = options.request;
  request.norm = options.norm == "group" ? DarknetNorm::kGroup : DarknetNorm::kBatch;
  if (options.seed >= 0) request.seed = static_cast<uint64_t>(options.seed);
  LocalResult result;
  {
    ProgressBar bar("training");
    result = TRY(
        train_local(request, *jail, [&](uint64_t done, uint64_t total) { bar.show(done, total); }));
  }
  warn_of(result.warnings);
  Json::Object unlisted;
  for (const auto& [column, rows] : result.unlisted) unlisted[column] = rows;
  Answer answer;
  answer.json = {{"accuracy", Json::real(result.accuracy)},
                 {"loss", Json::real(result.loss)},
                 {"measured_on", name_of(result.measured_on)},
                 {"measured_rows", result.measured_rows},
                 {"rows", result.rows},
                 {"steps", result.steps},
                 {"seconds", Json::real(result.seconds)},
                 {"examples_per_s", Json::real(result.examples_per_s)},
                 {"parameters", result.parameters},
                 {"unlisted", std::move(unlisted)}};
  answer.text = "accuracy  " + digits(result.accuracy) + " on " +
                std::to_string(result.measured_rows) + " rows (" + name_of(result.measured_on) +
                ")\nloss      " + digits(result.loss) + "\ntrained   " +
                std::to_string(result.steps) + " steps in " + digits(result.seconds, 3) + " s, " +
                std::to_string(static_cast<int64_t>(result.examples_per_s)) +
                " examples a second, " + std::to_string(result.parameters) + " parameters";
  if (result.epsilon) {
    answer.json["epsilon"] = Json::real(*result.epsilon);
    answer.json["delta"] = Json::real(result.delta);
    answer.text +=
        "\nprivacy   epsilon " + digits(*result.epsilon) + " at delta " + digits(result.delta);
  }
  // A stray text among numbers makes a category of its column: to be seen, not to be found out.
  Json::Array categories;
  if (const auto& csv = result.stored.notes.csv) {
    for (const auto& column : csv->columns) {
      if (column.role != trainer::CsvColumn::Role::kCategory) continue;
      answer.text += (categories.empty() ? "\ncategories " : ", ") + printable(column.name) + " (" +
                     std::to_string(column.values.size()) + ")";
      categories.push_back(Json(column.name));
    }
  }
  answer.json["categorical_columns"] = std::move(categories);
  if (!result.fold_accuracies.empty()) {
    Json::Array folds;
    for (double accuracy : result.fold_accuracies) folds.push_back(Json::real(accuracy));
    answer.json["fold_accuracies"] = std::move(folds);
  }
  if (!options.out.empty()) {
    auto saved = TRY(save_model(options.out, result.stored, local_model_card(result)));
    bool onnx = saved.without_onnx.empty();
    answer.json["model"] = options.out + "/model.safetensors";
    answer.json["onnx"] = onnx ? Json(options.out + "/model.onnx") : Json(nullptr);
    answer.text += "\nmodel     " + options.out + "/model.safetensors, " +
                   (onnx ? "model.onnx, " : "") + "MODEL_CARD.md";
    if (!onnx) answer.text += "\nno ONNX   " + printable(saved.without_onnx);
  }
  return answer;
}

}  // namespace

void add_train_verbs(CLI::App& app, Session& session) {
  auto options = std::make_shared<TrainOptions>();
  LocalRequest& request = options->request;
  CLI::App* verb =
      add_verb(app, session, "train-local",
               "Train on your own rows, on this machine, with the market's engine", options, train);
  add_footer(
      verb,
      "Insecure convenience: no enclave, no policy, no ledger and no receipt; whoever runs it sees "
      "the rows.\n"
      "SPEC is a contract.lua (its datasets become the rows given here), an elaborated "
      "specification\n"
      "in JSON, or a Darknet .cfg. Rows: CSV, IDX (images, then labels), NPY, safetensors, "
      "CIFAR-10 .bin,\n"
      "folders of PGM or PPM; gzip is unpacked. Without --test and --folds, accuracy is on the "
      "training rows.\n"
      "A CSV without a layout: a column of which three quarters or more are numbers is one of "
      "numbers, and\n"
      "anything else in it is refused; other columns are categories (categorical_columns).");
  verb->add_option("SPEC", request.spec, "contract.lua, specification .json, or Darknet .cfg")
      ->required();
  verb->add_option("--data", request.data, "files of rows, or folders; labels after their features")
      ->required();
  verb->add_option("--test", request.test, "rows to measure accuracy on");
  verb->add_option("--label", request.label, "the label's column (CSV: name, NPY: number)");
  verb->add_option("--drop", request.drop, "CSV columns to leave out")
      ->delimiter(',')
      ->allow_extra_args(false);
  verb->add_option("--csv", request.csv,
                   "file with a CSV layout: columns, categories, missing values");
  verb->add_option("--init", request.initial, "safetensors with weights to start from");
  verb->add_option("--folds", request.folds, "cross-validate in this many parts");
  verb->add_option("--threads", request.threads, "threads (default: one for each processor)")
      ->check(whole_number(1, 1024));
  verb->add_option("--seed", options->seed,
                   "of the initial weights and the folds, instead of the contract's")
      ->check(whole_number(0, kMaxJsonInteger));
  verb->add_option("--norm", options->norm,
                   "what batch_normalize of a .cfg becomes (default: batch)")
      ->check(CLI::IsMember({"batch", "group"}));
  verb->add_option("--out", options->out,
                   "folder for model.safetensors, model.onnx, spec.json, MODEL_CARD.md");
}

}  // namespace souk::market
