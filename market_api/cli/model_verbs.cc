// souk model fetch|evaluate, souk receipt verify.
#include <variant>

#include "market_api/cli/session.h"
#include "market_api/client/dataset_file.h"
#include "market_api/client/evaluate.h"
#include "market_api/client/receipt.h"
#include "market_api/client/receive.h"

namespace souk::market {
namespace {

constexpr size_t kMaxModel = size_t{8} << 30;

struct FetchOptions {
  std::string job, out;
};
struct EvaluateOptions {
  std::string model, data, labels, label;
  std::vector<std::string> drop;
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
  answer.text = "model    " + received.directory + "/model.safetensors\nSHA-256  " +
                to_hex(ByteView(received.model)) + "\nreceipt  " + received.directory +
                "/receipt.json";
  return answer;
}

Result<Answer> evaluate(Session&, const EvaluateOptions& options) {
  auto bytes = TRY(load_argument(options.model + "/model.safetensors", kMaxModel));
  TRY(load_argument(options.model + "/spec.json", kMaxModel));  // a missing file is a usage error
  auto notes = TRY(load_model_notes(options.model));
  DatasetFile file;
  file.path = options.data;
  if (!options.labels.empty()) file.labels = options.labels;
  file.label = options.label.empty() ? notes.label : options.label;
  file.drop = options.drop;
  file.classes = notes.classes;
  file.features = notes.feature_names;
  auto rows = TRY(load_dataset(file));
  if (rows.schema.feature_names != notes.feature_names && !notes.feature_names.empty()) {
    return Error(Code::kMalformed, options.data + ": expected the model's " +
                                       std::to_string(notes.feature_names.size()) +
                                       " feature columns, in its order");
  }
  uint64_t wanted = 1;
  for (uint32_t dimension : notes.spec.input_shape) wanted *= dimension;
  if (rows.feature_count() != wanted) {
    return Error(Code::kMalformed,
                 options.data + ": expected " + std::to_string(wanted) + " features in each row");
  }
  trainer::Features features = std::visit(
      [](const auto& values) { return trainer::Features(std::span(values.data(), values.size())); },
      rows.features);
  auto accuracy = TRY(evaluate_model(notes.spec, bytes, features, rows.labels));
  std::string share = real_text(accuracy.rows == 0 ? 0
                                                   : static_cast<double>(accuracy.right) /
                                                         static_cast<double>(accuracy.rows));
  Answer answer;
  answer.json = {{"rows", accuracy.rows}, {"right", accuracy.right}, {"accuracy", share}};
  answer.text = std::to_string(accuracy.right) + " of " + std::to_string(accuracy.rows) +
                " rows right, accuracy " + share.substr(0, 6);
  return answer;
}

Result<Answer> verify(Session& session, const VerifyOptions& options) {
  auto bytes = TRY(load_argument(options.file, kMaxReceiptBytes));
  auto receipt = parse_receipt(as_text(bytes));
  if (!receipt) return std::move(receipt).take_error().within(options.file);
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
  verb->add_option("JOB", fetching->job, "job id or its first digits")->required();
  verb->add_option("--out", fetching->out, "folder to write")->required();
  auto evaluating = std::make_shared<EvaluateOptions>();
  verb = add_verb(*group, session, "evaluate", "Accuracy of a received model on rows of your own",
                  evaluating, evaluate);
  verb->add_option("MODEL_DIR", evaluating->model, "folder that 'model fetch' wrote")->required();
  verb->add_option("--data", evaluating->data, "CSV, IDX, NPY or image folder")->required();
  verb->add_option("--labels", evaluating->labels, "file with the labels (IDX, NPY)");
  verb->add_option("--label", evaluating->label, "the label's column (default: as in training)");
  verb->add_option("--drop", evaluating->drop, "CSV columns to leave out")
      ->delimiter(',')
      ->allow_extra_args(false);

  group = add_group(app, "receipt", "Proofs of what a model is");
  auto verifying = std::make_shared<VerifyOptions>();
  verb =
      add_verb(*group, session, "verify", "Check a receipt; needs no network", verifying, verify);
  verb->add_option("FILE", verifying->file, "receipt.json")->required();
  verb->add_option("--market-id", verifying->market_id,
                   "market it must be of (default: the pinned one)");
}

}  // namespace souk::market
