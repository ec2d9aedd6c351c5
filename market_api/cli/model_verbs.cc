// souk model fetch|evaluate|predict|import, souk receipt verify.
#include <algorithm>
#include <cstdio>

#include "contracts/training/columns.h"
#include "market_api/cli/session.h"
#include "market_api/cli/warnings.h"
#include "market_api/client/dataset_file.h"
#include "market_api/client/evaluate.h"
#include "market_api/client/local_rows.h"
#include "market_api/client/model_layout.h"
#include "market_api/client/onnx_model.h"
#include "market_api/client/receipt.h"
#include "market_api/client/receipt_beside.h"
#include "market_api/client/receive.h"

namespace souk::market {
namespace {

constexpr size_t kMaxModel = size_t{8} << 30;

struct FetchOptions {
  std::string job, out;
};
struct EvaluateOptions {
  std::string model, data, labels, csv, label;
  std::vector<std::string> drop;
};
struct PredictOptions {
  std::string model, csv, label;
  std::vector<std::string> data;
  unsigned threads = 0;
};
struct ImportOptions {
  std::string file, out, weights, norm = "batch";
};
struct VerifyOptions {
  std::string file, market_id;
};

Result<Answer> fetch(Session& session, const FetchOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto id = TRY(find_by_prefix(connection.view.state().contracts(), options.job, "job"));
  ProgressBar bar("receiving");
  auto received = TRY(receive_model(id, options.out, identity, connection.line, connection.view,
                                    [&](uint64_t done, uint64_t total) { bar.show(done, total); }));
  Answer answer;
  answer.json = {{"job", id}, {"directory", received.directory}, {"model", received.model}};
  if (!received.without_onnx.empty()) {
    std::fprintf(stderr, "souk: no model.onnx: %s\n", printable(received.without_onnx).c_str());
  }
  answer.text = "model    " + received.directory + "/model.safetensors\nSHA-256  " +
                to_hex(ByteView(received.model)) + "\nreceipt  " + received.directory +
                "/receipt.json";
  return answer;
}

// What a CSV is read with: the model's own layout, or that of the file `csv`.
Result<std::optional<trainer::CsvLayout>> layout_of_rows(const ModelNotes& notes,
                                                         const std::string& csv) {
  if (csv.empty()) return layout_of_model(notes);
  auto bytes = TRY(load_argument(csv, size_t{16} << 20));
  auto json = TRY(about_file(parse_json(as_text(bytes)), csv));
  auto given = TRY(trainer::csv_layout_from_json(json, csv));
  auto layout = TRY(layout_for_model(std::move(given), notes, csv));
  return std::optional(std::move(layout));
}

// Rows as the model was trained on them; labels only if they are there.
Result<Rows> rows_for(const ModelNotes& notes, const std::vector<std::string>& paths,
                      const std::string& label, const std::optional<trainer::CsvLayout>& layout) {
  RowFiles files;
  files.paths = paths;
  files.classes = notes.classes;
  files.label = label;
  files.csv = layout;
  files.labels = trainer::Labels::kIfThere;
  files.unlisted = trainer::Unlisted::kMissing;
  return load_rows(files);
}

// A receipt is no word for everything beside it, nor for a layout that is not the model's.
void say_what_is_proven(const ProvenModel& model, const std::optional<trainer::CsvLayout>& layout,
                        Answer& answer) {
  auto covered = model.covered, not_covered = model.not_covered;
  if (layout != layout_of_model(model.stored.notes) && std::erase(covered, "csv") > 0)
    not_covered.insert(not_covered.begin(), "csv");
  answer.json["receipt_covers"] = Json::Array(covered.begin(), covered.end());
  answer.json["receipt_leaves_out"] = Json::Array(not_covered.begin(), not_covered.end());
}

Result<Answer> evaluate(Session&, const EvaluateOptions& options) {
  auto model = TRY(load_proven_model(options.model));
  const StoredModel& stored = model.stored;
  const ModelNotes& notes = stored.notes;
  auto layout = TRY(layout_of_rows(notes, options.csv));
  DatasetFile file;
  file.path = options.data;
  if (!options.labels.empty()) file.labels = options.labels;
  // A layout that is given names its own label.
  file.label = options.label.empty() && options.csv.empty() ? notes.label : options.label;
  file.drop = options.drop;
  file.classes = notes.classes;
  file.features = notes.feature_names;
  file.csv = layout;
  std::vector<std::string> warnings;
  auto rows = TRY(load_dataset(file, &warnings));
  warn_of(warnings);
  if (rows.schema.feature_names != notes.feature_names && !notes.feature_names.empty()) {
    return Error(Code::kMalformed, options.data + ": expected the model's " +
                                       std::to_string(notes.feature_names.size()) +
                                       " feature columns, in its order");
  }
  auto predictions = TRY(predict_rows(stored, rows));
  uint64_t right = predictions.right(rows.labels);
  double accuracy =
      static_cast<double>(right) / static_cast<double>(std::max<uint64_t>(rows.rows(), 1));
  Answer answer;
  answer.json = {{"rows", rows.rows()},
                 {"right", right},
                 {"accuracy", Json::real(accuracy)},
                 {"receipt", model.receipt}};
  say_what_is_proven(model, layout, answer);
  answer.text = std::to_string(right) + " of " + std::to_string(rows.rows()) +
                " rows right, accuracy " + real_text(accuracy).substr(0, 6);
  return answer;
}

Result<Answer> predict(Session&, const PredictOptions& options) {
  auto model = TRY(load_proven_model(options.model));
  const StoredModel& stored = model.stored;
  const ModelNotes& notes = stored.notes;
  auto layout = TRY(layout_of_rows(notes, options.csv));
  auto rows = TRY(rows_for(notes, options.data, options.label, layout));
  const auto& names = rows.data.schema.feature_names;
  if (!notes.feature_names.empty() && !names.empty()) {
    if (auto other = contracts::different_column(notes.feature_names, names)) {
      return Error(Code::kMalformed, "--data: expected the model's columns, in their order; " +
                                         other->words("the model", "the rows"));
    }
  }
  auto predictions = TRY(predict_rows(stored, rows.data, options.threads));
  warn_of(rows.warnings);
  Json::Object unlisted;
  for (const auto& [column, values] : rows.unlisted) unlisted[column] = values.rows;
  Answer answer;
  Json::Array labels, numbers;
  for (size_t row = 0; row < predictions.rows; ++row) {
    labels.emplace_back(predictions.labels[row]);
    Json::Array own;
    for (size_t i = 0; i < predictions.width; ++i)
      own.push_back(Json::real(predictions.numbers[row * predictions.width + i]));
    numbers.emplace_back(std::move(own));
  }
  answer.json = {{"receipt", model.receipt},
                 {"rows", predictions.rows},
                 {"unlisted", std::move(unlisted)},
                 {"labels", std::move(labels)},
                 {predictions.are_probabilities ? "probabilities" : "outputs", std::move(numbers)},
                 {"classes", Json::Array(notes.classes.begin(), notes.classes.end())}};
  say_what_is_proven(model, layout, answer);
  auto name = [&](int64_t label) {
    auto i = static_cast<size_t>(label);
    return i < notes.classes.size() ? notes.classes[i] : std::to_string(label);
  };
  constexpr uint64_t kShown = 20;
  for (uint64_t row = 0; row < std::min(predictions.rows, kShown); ++row) {
    answer.text += (row > 0 ? "\n" : "") + std::to_string(row) + "  " +
                   printable(name(predictions.labels[row]));
  }
  if (predictions.rows > kShown)
    answer.text += "\n… " + std::to_string(predictions.rows - kShown) + " more (--json has all)";
  if (rows.has_labels) {
    uint64_t right = predictions.right(rows.data.labels);
    double accuracy =
        static_cast<double>(right) / static_cast<double>(std::max<uint64_t>(predictions.rows, 1));
    answer.json["right"] = right;
    answer.json["accuracy"] = Json::real(accuracy);
    answer.text += "\n" + std::to_string(right) + " of " + std::to_string(predictions.rows) +
                   " rows right, accuracy " + real_text(accuracy);
  }
  return answer;
}

Result<Answer> import(Session&, const ImportOptions& options) {
  auto part = TRY(load_model_part(
      options.file, options.norm == "group" ? DarknetNorm::kGroup : DarknetNorm::kBatch));
  auto shape = TRY(contracts::check_spec(trainable_spec(part)));
  Answer answer;
  answer.json = {{"classes", part.classes},
                 {"layers", static_cast<int64_t>(part.model.size())},
                 {"parameters", shape.parameters}};
  answer.text = std::to_string(part.model.size()) + " layers, " + std::to_string(shape.parameters) +
                " parameters, " + std::to_string(part.classes) + " classes";
  if (!options.weights.empty()) {
    auto bytes = TRY(load_argument(options.file, kMaxModel));
    auto imported = import_onnx(bytes);
    if (!imported)
      return Error(Code::kMalformed, "--weights: expected a model in ONNX, which has weights: " +
                                         imported.error().expected());
    StoredModel stored;
    stored.notes.spec = trainable_spec(imported->part);
    stored.notes.classes = imported->classes;
    stored.notes.csv = imported->csv;
    stored.model = std::move(imported->weights);
    auto file = TRY(model_to_safetensors(stored));
    TRY(save_file(options.weights, file, FileMode::kShared));
    answer.json["weights"] = options.weights;
  }
  std::string text = canonical(to_json(part)) + "\n";
  if (options.out.empty()) {
    answer.json["part"] = to_json(part);
  } else {
    TRY(save_file(options.out, as_bytes(text), FileMode::kShared));
    answer.json["out"] = options.out;
  }
  return answer;
}

Result<Answer> verify(Session& session, const VerifyOptions& options) {
  auto bytes = TRY(load_argument(options.file, kMaxReceiptBytes));
  auto receipt = parse_receipt(as_text(bytes));
  if (!receipt) return about_file(std::move(receipt).take_error(), options.file);
  std::optional<MarketId> pinned;
  if (!options.market_id.empty()) {
    pinned = TRY(parse_hex_argument<MarketId>(options.market_id, "--market-id"));
  } else if (auto identity = TRY(session.identity_if_any())) {
    pinned = identity->pin().market;
  }
  auto report = verify_receipt(*receipt, pinned);
  Answer answer;
  answer.json = {{"ok", report.ok},
                 {"section", report.section},
                 {"reason", report.reason},
                 {"market", report.market},
                 {"market_from_file", report.market_from_file}};
  if (!report.ok) {
    answer.status = ExitStatus::kNo;
    answer.text = "BAD receipt: " + report.section + ": " + printable(report.reason);
    return answer;
  }
  Json::Array inputs;
  std::vector<std::vector<std::string>> rows{
      {"ok", "every part of this receipt holds"},
      {"market", to_hex(report.market) +
                     (report.market_from_file
                          ? " (taken from the file: give --market-id to say which it must be)"
                          : "")},
      {"job", to_hex(report.contract)},
      {"consumer", to_hex(report.consumer)}};
  for (const auto& input : report.inputs) {
    inputs.emplace_back(input);
    rows.push_back({"data", input});
  }
  rows.push_back(
      {"price", std::to_string(report.price) + " " + report.currency + " (minor units)"});
  rows.push_back({"privacy", report.result.delta_pico == 0
                                 ? "waived by every provider"
                                 : "epsilon " + millionths_text(report.result.epsilon_micro) +
                                       " at delta " + delta_text(report.result.delta_pico)});
  rows.push_back({"model", to_hex(ByteView(report.result.model))});
  rows.push_back({"evidence", report.evidence_kind});
  rows.push_back({"ledger", std::to_string(report.checkpoint_size) + " entries, root " +
                                to_hex(ByteView(report.checkpoint_root))});
  answer.json["job"] = report.contract;
  answer.json["consumer"] = report.consumer;
  answer.json["inputs"] = std::move(inputs);
  answer.json["price"] = report.price;
  answer.json["model"] = report.result.model;
  answer.json["epsilon_micro"] = report.result.epsilon_micro;
  answer.json["delta_pico"] = report.result.delta_pico;
  answer.json["evidence"] = report.evidence_kind;
  answer.json["ledger_size"] = report.checkpoint_size;
  answer.json["ledger_root"] = report.checkpoint_root;
  answer.text = table_text(rows);
  return answer;
}

}  // namespace

void add_model_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "model", "Trained models");
  auto fetching = std::make_shared<FetchOptions>();
  CLI::App* verb = add_verb(*group, session, "fetch",
                            "Receive, check and decrypt the model of a job", fetching, fetch);
  verb->add_option("JOB", fetching->job, "job id, or 6 or more of its first digits")->required();
  verb->add_option("--out", fetching->out,
                   "folder to write: model.safetensors, model.onnx, spec.json, receipt.json, "
                   "MODEL_CARD.md")
      ->required();
  auto evaluating = std::make_shared<EvaluateOptions>();
  verb = add_verb(*group, session, "evaluate", "Accuracy of a received model on rows of your own",
                  evaluating, evaluate);
  add_footer(
      verb,
      "Columns of a CSV are found by name, in any order; others are left out. A category that the "
      "model does not\nlist is refused (souk model predict answers, and counts it as missing).\n"
      "A file that is laid out in another way (no header, other marks, spellings, label) is read "
      "with --csv: the\nlayout's features, values and classes are the model's, in its order.");
  verb->add_option("MODEL_DIR", evaluating->model, "folder that 'model fetch' wrote")->required();
  verb->add_option("--data", evaluating->data,
                   "rows with labels: CSV, IDX, NPY, safetensors or image folder")
      ->required();
  verb->add_option("--labels", evaluating->labels, "file with the labels (IDX, NPY)");
  verb->add_option("--csv", evaluating->csv,
                   "file with the CSV layout of --data (default: the model's)");
  verb->add_option("--label", evaluating->label, "the label's column (default: as in training)");
  verb->add_option("--drop", evaluating->drop, "CSV columns to leave out")
      ->delimiter(',')
      ->allow_extra_args(false);

  auto predicting = std::make_shared<PredictOptions>();
  verb = add_verb(*group, session, "predict",
                  "Labels and probabilities of rows, and accuracy where labels are known",
                  predicting, predict);
  add_footer(
      verb,
      "Columns of a CSV are found by name, in any order; others are left out. A category that the "
      "model does not\nlist counts as missing: a warning on stderr names column, an example and "
      "the "
      "rows; \"unlisted\" of --json\nhas the rows of each such column. --csv as for souk model "
      "evaluate.");
  verb->add_option("MODEL", predicting->model,
                   "folder, .safetensors with its specification, or .onnx")
      ->required();
  verb->add_option(
          "--data", predicting->data,
          "rows: CSV, IDX, NPY, safetensors, CIFAR-10 .bin or image folder; labels after them")
      ->required();
  verb->add_option("--csv", predicting->csv,
                   "file with the CSV layout of --data (default: the model's)");
  verb->add_option("--label", predicting->label, "the label's column (default: as in training)");
  verb->add_option("--threads", predicting->threads, "threads (default: one for each processor)")
      ->check(whole_number(1, 1024));
  auto importing = std::make_shared<ImportOptions>();
  verb = add_verb(*group, session, "import",
                  "Read an architecture from a Darknet .cfg or from ONNX", importing, import);
  verb->add_option("FILE", importing->file, "net.cfg or net.onnx")->required();
  verb->add_option("--out", importing->out,
                   "write the part of a specification, for model = \"part.json\"");
  verb->add_option("--weights", importing->weights,
                   "write the weights of an ONNX model as safetensors");
  verb->add_option("--norm", importing->norm,
                   "what batch_normalize of a .cfg becomes (default: batch)")
      ->check(CLI::IsMember({"batch", "group"}));

  group = add_group(app, "receipt", "Proofs of what a model is");
  auto verifying = std::make_shared<VerifyOptions>();
  verb =
      add_verb(*group, session, "verify", "Check a receipt; needs no network", verifying, verify);
  verb->add_option("FILE", verifying->file, "receipt.json")->required();
  verb->add_option("--market-id", verifying->market_id,
                   "market it must be of (default: the pinned one)");
}

}  // namespace souk::market
