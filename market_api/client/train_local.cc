#include "market_api/client/train_local.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sstream>
#include <thread>

#include "contracts/training/columns.h"
#include "ledger/base/secret.h"
#include "ledger/crypto/hash.h"
#include "market_api/client/local_files.h"
#include "market_api/client/model_part.h"
#include "market_api/client/privacy_card.h"
#include "market_api/outcome/outcome.h"
#include "policy/jail/worker.h"
#include "policy/privacy/accountant.h"
#include "trainer/engine/chacha.h"
#include "trainer/engine/engine.h"
#include "trainer/weights/initial_weights.h"

namespace souk::market {
namespace {

using contracts::TrainingSpec;
using trainer::Dataset;

constexpr size_t kMaxSpecFile = size_t{16} << 20;
constexpr uint32_t kMaxFolds = 1000;
constexpr uint64_t kManyRows = 1'000'000;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Result<Bytes> load_text(const std::string& path) {
  auto bytes = load_file(path, kMaxSpecFile);
  if (!bytes && bytes.error().code() == Code::kNotFound)
    return Error(Code::kMalformed, "no file " + path);
  return bytes;
}

// Said of the specification, unless it is about the weights, or about the rows.
Error about_spec(Error error, const LocalRequest& request) {
  bool of_weights =
      !request.initial.empty() && error.expected().find(request.initial) != std::string::npos;
  bool of_rows = error.expected().starts_with("data: ") && !request.data.empty();
  if (of_weights) return error;
  return about_file(std::move(error), of_rows ? request.data.front() : request.spec);
}
template <class T>
Result<T> about_spec(Result<T> result, const LocalRequest& request) {
  if (result) return result;
  return about_spec(std::move(result).take_error(), request);
}

// Whatever a contract does wrong, out of gas included, it is the file that must change.
template <class T>
Result<T> about_contract(Result<T> result) {
  if (result) return result;
  Error error = std::move(result).take_error();
  bool its_own = error.code() == Code::kExhausted || error.code() == Code::kRefused;
  std::string ends =
      error.code() == Code::kExhausted ? "; expected a contract that ends within its limits" : "";
  return Error(its_own ? Code::kMalformed : error.code(), error.expected() + ends);
}

// The specification file, which may need the rows to be completed, and may say how to read them.
class SpecSource {
 public:
  static Result<SpecSource> open(const LocalRequest& request, policy::Nursery& jail) {
    SpecSource source(request, jail);
    if (request.norm == DarknetNorm::kGroup && !ends_with(request.spec, ".cfg")) {
      return Error(
          Code::kMalformed,
          "norm: expected \"group\" for a Darknet .cfg alone, whose batch_normalize it is about");
    }
    source.text_ = TRY(load_text(request.spec));
    if (ends_with(request.spec, ".json")) {
      auto json = TRY(parse_json(as_text(source.text_)));
      const Json* inner = json.find("spec");  // spec.json beside a model
      if (inner && json.find("classes") && json.find("label")) {
        auto notes = TRY(model_notes_from_json(json));
        source.fixed_ = std::move(notes.spec);
        source.csv_ = std::move(notes.csv);
      } else {
        source.fixed_ = TRY(contracts::training_spec_from_json(inner ? *inner : json));
      }
    } else if (ends_with(request.spec, ".cfg")) {
      auto darknet = TRY(parse_darknet(as_text(source.text_), request.norm));
      source.darknet_ = std::move(darknet.spec);
    }
    return source;
  }

  // How a CSV becomes rows, if the specification says so. `lines` of the CSV stand for its rows.
  Result<std::optional<trainer::CsvLayout>> csv(uint64_t lines) {
    if (fixed_ || darknet_) return csv_;
    Dataset guess;
    guess.schema.feature_shape = {1};
    guess.schema.classes = {"0", "1"};
    auto entry = catalog_entry(guess, lines);
    auto table = TRY(about_contract(policy::run_contract_jailed(jail_, as_text(text_), {entry})));
    const Json* csv = table.find("csv");
    if (!csv) return std::optional<trainer::CsvLayout>();
    auto layout = TRY(trainer::csv_layout_from_json(*csv, "csv"));
    return std::optional(layout);
  }

  // What a layout says about the columns of the rows, as a manifest would.
  void note_categories(const trainer::CsvLayout& layout) { categories_ = layout.categories(); }

  Result<TrainingSpec> complete(const Dataset& rows) {
    TrainingSpec spec;
    if (fixed_) {
      spec = *fixed_;
    } else if (darknet_) {
      spec = *darknet_;
      // Darknet shows bytes to its networks as 0 to 1.
      if (rows.features.index() == 1) spec.input_scale = {1.0 / 255};
    } else {
      auto elaborated = about_contract(policy::elaborate_jailed(
          jail_, as_text(text_), {catalog_entry(rows, rows.rows())},
          [](double epsilon, double delta, double q, uint32_t steps, uint32_t records) {
            return policy::calibrate_noise(epsilon, delta, q, steps, records);
          },
          models_beside(request_.spec)));
      if (!elaborated) return about_one_class(std::move(elaborated).take_error(), rows);
      spec = std::move(elaborated->spec);
      if (!elaborated->initial_file.empty())
        initial_file_ = file_beside(request_.spec, elaborated->initial_file);
    }
    if (request_.seed) spec.seed = *request_.seed;
    if (!request_.initial.empty()) initial_file_ = request_.initial;
    TRY(read_initial(spec, rows));
    TRY(fit(spec, rows));
    return spec;
  }

  // Weights to start from, or null pointer; of the specification completed last.
  const trainer::Model* initial() const { return initial_ ? &*initial_ : nullptr; }
  // What the model inherits from the one it starts from.
  const std::optional<policy::Lineage>& lineage() const { return lineage_; }

 private:
  SpecSource(const LocalRequest& request, policy::Nursery& jail) : request_(request), jail_(jail) {}

  policy::CatalogEntry catalog_entry(const Dataset& rows, uint64_t count) const {
    policy::CatalogEntry entry;
    entry.any_name = true;
    entry.name = "local";
    entry.rows = count;
    for (uint64_t side : rows.schema.feature_shape)
      entry.feature_shape.push_back(static_cast<uint32_t>(side));
    entry.classes = static_cast<uint32_t>(rows.schema.classes.size());
    entry.label = rows.schema.label_name;
    entry.feature_names = rows.schema.feature_names;
    entry.categories = categories_;
    return entry;
  }

  Status read_initial(TrainingSpec& spec, const Dataset& rows) {
    if (initial_file_.empty()) {
      if (!spec.initial) return Done{};
      return Error(Code::kMalformed,
                   "initial: expected --init FILE, the weights that the specification names");
    }
    auto bytes = load_file(initial_file_, trainer::kMaxInitialBytes);
    if (!bytes && bytes.error().code() == Code::kNotFound)
      return Error(Code::kMalformed, "no file " + initial_file_);
    if (!bytes) return std::move(bytes).take_error();
    Digest digest = ledger::sha256(*bytes);
    if (spec.initial && *spec.initial != digest) {
      return Error(
          Code::kMalformed,
          initial_file_ + ": expected the file that the specification names by its SHA-256");
    }
    spec.initial = digest;
    initial_ = TRY(about_file(trainer::initial_weights_from(spec, *bytes), initial_file_));
    auto file = TRY(about_file(trainer::SafeTensors::read(*bytes), initial_file_));
    auto parent = TRY(about_file(lineage_of(initial_file_, file), initial_file_));
    if (parent) lineage_ = policy::derive({*parent});
    auto notes = TRY(about_file(notes_of(initial_file_, file), initial_file_));
    const auto& names = rows.schema.feature_names;
    if (!notes || notes->feature_names.empty() || names.empty()) return Done{};
    auto other = contracts::different_column(notes->feature_names, names);
    if (!other) return Done{};
    return Error(Code::kMalformed, initial_file_ +
                                       ": expected a model of the rows' columns, in their order; " +
                                       other->words("this model", "the rows"));
  }

  // A contract counts the classes of its datasets: of one class, it is the rows that must change.
  static Error about_one_class(Error error, const Dataset& rows) {
    bool of_rows = rows.schema.classes.size() < 2 &&
                   error.expected().find("spec.classes") != std::string::npos;
    if (!of_rows) return error;
    return Error(Code::kMalformed, "data: expected rows of two classes or more, found one in \"" +
                                       rows.schema.label_name + "\"");
  }

  static Status fit(const TrainingSpec& spec, const Dataset& rows) {
    std::vector<uint32_t> shape;
    for (uint64_t side : rows.schema.feature_shape) shape.push_back(static_cast<uint32_t>(side));
    uint64_t wanted = 1;
    for (uint32_t side : spec.input_shape) wanted *= side;
    if (wanted != rows.feature_count()) {
      return Error(Code::kMalformed, "data: expected rows of " + std::to_string(wanted) +
                                         " numbers as in the specification, found " +
                                         std::to_string(rows.feature_count()));
    }
    if (rows.schema.classes.size() > spec.classes) {
      return Error(Code::kMalformed, "data: expected at most the " + std::to_string(spec.classes) +
                                         " classes of the specification, found " +
                                         std::to_string(rows.schema.classes.size()));
    }
    return Done{};
  }

  const LocalRequest& request_;
  policy::Nursery& jail_;
  Bytes text_;
  std::optional<TrainingSpec> fixed_, darknet_;
  std::optional<trainer::CsvLayout> csv_;
  std::map<std::string, std::vector<std::string>> categories_;
  std::string initial_file_;
  std::optional<trainer::Model> initial_;
  std::optional<policy::Lineage> lineage_;
};

Result<std::optional<trainer::CsvLayout>> layout_for(const LocalRequest& request,
                                                     SpecSource& source) {
  if (!request.csv.empty()) {
    auto bytes = TRY(load_text(request.csv));
    auto json = TRY(about_file(parse_json(as_text(bytes)), request.csv));
    auto layout = TRY(trainer::csv_layout_from_json(json, request.csv));
    return std::optional(layout);
  }
  for (const auto& path : request.data) {
    if (!TRY(is_csv(path))) continue;
    uint64_t lines = TRY(count_csv_lines(request.data));
    auto layout = source.csv(lines);
    // Too few lines for the specification: what is wrong is then said of the rows, if it is them.
    if (!layout) {
      if (auto with_more = source.csv(lines + kManyRows)) return with_more;
    }
    return about_spec(std::move(layout), request);
  }
  return std::optional<trainer::CsvLayout>();
}

// Under privacy nothing but noisy gradients may say anything about single rows; a layout made from
// them would, in the files of the model and through the numbers that it turns all rows into.
Status nothing_guessed(const TrainingSpec& spec, const Rows& rows) {
  if (!spec.privacy || rows.decided_by_rows == Decided::kNothing) return Done{};
  if (rows.decided_by_rows == Decided::kClasses) {
    return Error(Code::kMalformed,
                 "privacy: expected a csv layout that states the classes, as in {name = \"" +
                     rows.data.schema.label_name +
                     "\", role = \"label\", values = {\"no\", \"yes\"}}: those found in the rows "
                     "are no public knowledge, and no epsilon covers them");
  }
  return Error(Code::kMalformed,
               "privacy: expected a csv layout that was stated, not one guessed from the rows, the "
               "means, categories and classes of which no epsilon covers; state it in the contract "
               "from public knowledge, csv = {columns = {\"age\", {name = \"gain\", missing = 0}, "
               "{name = \"work\", values = {\"private\", \"state\"}}, {name = \"" +
                   rows.data.schema.label_name +
                   "\", role = \"label\", values = {\"no\", \"yes\"}}}}, or as JSON for --csv");
}

// The specification for `data`, some or all of the rows that were read.
Result<TrainingSpec> spec_for(const LocalRequest& request, SpecSource& source, const Rows& read,
                              const Dataset& data) {
  auto spec = TRY(about_spec(source.complete(data), request));
  TRY(about_file(nothing_guessed(spec, read), request.spec));
  return spec;
}

// One model, and how it does on rows it may not have seen.
struct Trained {
  trainer::Model model;
  trainer::Evaluation on;
  double seconds = 0, examples = 0;
  std::optional<double> epsilon;
};

// What a run draws and drops. Without privacy that is nobody's secret, and of the seed alone: the
// same specification, rows and seed make the same model. Noise that protects anybody is random.
trainer::NoiseRoot root_of(const TrainingSpec& spec) {
  if (spec.privacy) return trainer::NoiseRoot::random();
  return trainer::NoiseRoot::copy_of(
      ledger::sha256(as_bytes("souk train-local " + std::to_string(spec.seed))));
}

Result<Trained> train(const TrainingSpec& spec, const trainer::Model* initial, const Dataset& rows,
                      const Dataset& judge, trainer::Workers& workers,
                      const std::function<void(uint32_t)>& after_step) {
  Trained trained;
  trainer::Examples examples{features_of(rows), rows.labels};
  auto run = TRY(trainer::TrainingRun::create(spec, examples, root_of(spec), workers, initial));
  auto start = std::chrono::steady_clock::now();
  TRY(run.run_to_end(after_step));
  trained.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  double drawn = spec.shuffle ? spec.batch
                              : std::ldexp(static_cast<double>(spec.sampling_threshold), -64) *
                                    static_cast<double>(rows.rows());
  trained.examples = drawn * spec.steps;
  if (spec.privacy) trained.epsilon = run.epsilon_spent();
  trained.model = TRY(run.finish());
  trained.on =
      TRY(trainer::evaluate(spec, trained.model, {features_of(judge), judge.labels}, workers));
  if (!std::isfinite(trained.on.loss)) {
    return Error(Code::kRefused, "training diverged: expected a finite loss after " +
                                     std::to_string(spec.steps) +
                                     " steps; a smaller learning rate may keep it");
  }
  return trained;
}

// The fold of each row: every class dealt out evenly, in an order of its own, each where the one
// before it stopped, so that no fold is empty while there are rows enough.
std::vector<uint32_t> deal_folds(const Dataset& rows, uint32_t folds, uint64_t seed) {
  std::array<uint8_t, 32> key{};
  for (size_t i = 0; i < 8; ++i) key[i] = static_cast<uint8_t>(seed >> (8 * i));
  std::vector<uint32_t> fold(rows.rows());
  uint64_t dealt = 0;
  for (size_t label = 0; label < rows.schema.classes.size(); ++label) {
    std::vector<uint64_t> members;
    for (uint64_t row = 0; row < rows.rows(); ++row) {
      if (rows.labels[row] == static_cast<int64_t>(label)) members.push_back(row);
    }
    trainer::ChaCha20 random(std::span<const uint8_t, 32>(key), label);
    for (size_t i = members.size(); i > 1; --i)
      std::swap(members[i - 1], members[random.next() % i]);
    for (uint64_t member : members) fold[member] = static_cast<uint32_t>(dealt++ % folds);
  }
  return fold;
}

Status cross_validate(const LocalRequest& request, SpecSource& source, const Rows& read,
                      trainer::Workers& workers, const LocalProgress& progress,
                      LocalResult& result) {
  const Dataset& rows = read.data;
  if (request.folds > rows.rows()) {
    return Error(Code::kMalformed, "--folds: expected 2 to " + std::to_string(rows.rows()) +
                                       ", the rows of " + request.data.front());
  }
  auto fold_of = deal_folds(rows, request.folds, request.seed.value_or(1));
  double right = 0, loss = 0, examples = 0;
  for (uint32_t fold = 0; fold < request.folds; ++fold) {
    std::vector<uint64_t> outside, inside;
    for (uint64_t row = 0; row < rows.rows(); ++row)
      (fold_of[row] == fold ? inside : outside).push_back(row);
    Dataset training = some_rows(rows, outside), held = some_rows(rows, inside);
    auto spec = TRY(spec_for(request, source, read, training));
    auto trained = TRY(train(spec, source.initial(), training, held, workers, [&](uint32_t done) {
      progress(fold * uint64_t{spec.steps} + done, uint64_t{spec.steps} * request.folds);
    }));
    result.fold_accuracies.push_back(trained.on.accuracy);
    right += trained.on.accuracy * static_cast<double>(held.rows());
    loss += trained.on.loss * static_cast<double>(held.rows());
    examples += trained.examples;
    result.seconds += trained.seconds;
    result.steps = spec.steps;
    result.epsilon = trained.epsilon;
    result.rows = training.rows();
    result.stored.notes.spec = spec;
    result.stored.model = std::move(trained.model);
  }
  result.measured_on = LocalResult::MeasuredOn::kFolds;
  result.measured_rows = rows.rows();
  result.accuracy = right / static_cast<double>(rows.rows());
  result.loss = loss / static_cast<double>(rows.rows());
  result.examples_per_s = examples / std::max(result.seconds, 1e-9);
  return Done{};
}

}  // namespace

Result<LocalResult> train_local(const LocalRequest& request, policy::Nursery& jail,
                                const LocalProgress& progress) {
  if (request.folds == 1 || request.folds > kMaxFolds)
    return Error(Code::kMalformed, "--folds: expected 2 to 1000");
  if (request.folds > 0 && !request.test.empty())
    return Error(Code::kMalformed, "expected either --folds or --test");
  auto source = SpecSource::open(request, jail);
  if (!source) return about_file(std::move(source).take_error(), request.spec);

  RowFiles files;
  files.paths = request.data;
  files.label = request.label;
  files.drop = request.drop;
  files.csv = TRY(layout_for(request, *source));
  if (files.csv) source->note_categories(*files.csv);
  auto rows = TRY(load_rows(files));
  std::optional<Rows> test;
  if (!request.test.empty()) {
    RowFiles judged = files;
    judged.paths = request.test;
    judged.csv = rows.csv;
    judged.classes = rows.data.schema.classes;
    if (!files.csv) judged.unlisted = trainer::Unlisted::kMissing;
    test = TRY(load_rows(judged));
  }

  auto workers = TRY(trainer::Workers::start(
      request.threads > 0 ? request.threads : std::max(1U, std::thread::hardware_concurrency())));
  LocalResult result;
  for (const Rows* read : {&rows, test ? &*test : nullptr}) {
    if (!read) continue;
    for (const auto& [column, values] : read->unlisted) result.unlisted[column] += values.rows;
    result.warnings.insert(result.warnings.end(), read->warnings.begin(), read->warnings.end());
  }
  if (request.folds > 0) {
    TRY(cross_validate(request, *source, rows, *workers, progress, result));
  } else {
    auto spec = TRY(spec_for(request, *source, rows, rows.data));
    auto trained = TRY(train(spec, source->initial(), rows.data, test ? test->data : rows.data,
                             *workers, [&](uint32_t done) { progress(done, spec.steps); }));
    result.measured_on = test ? LocalResult::MeasuredOn::kTest : LocalResult::MeasuredOn::kTraining;
    result.measured_rows = trained.on.rows;
    result.accuracy = trained.on.accuracy;
    result.loss = trained.on.loss;
    result.rows = rows.data.rows();
    result.steps = spec.steps;
    result.seconds = trained.seconds;
    result.examples_per_s = trained.examples / std::max(trained.seconds, 1e-9);
    result.epsilon = trained.epsilon;
    result.stored.notes.spec = std::move(spec);
    result.stored.model = std::move(trained.model);
  }
  ModelNotes& notes = result.stored.notes;
  if (notes.spec.privacy) result.delta = static_cast<double>(notes.spec.privacy->delta_pico) / 1e12;
  auto shape = TRY(contracts::check_spec(notes.spec));
  result.parameters = shape.parameters;
  notes.classes = rows.data.schema.classes;
  notes.feature_names = rows.data.schema.feature_names;
  notes.label = rows.data.schema.label_name;
  notes.csv = rows.csv;
  notes.lineage = source->lineage();
  return result;
}

Result<LocalJob> open_local(const LocalRequest& request, policy::Nursery& jail) {
  auto source = SpecSource::open(request, jail);
  if (!source) return about_file(std::move(source).take_error(), request.spec);
  RowFiles files;
  files.paths = request.data;
  files.label = request.label;
  files.drop = request.drop;
  files.csv = TRY(layout_for(request, *source));
  LocalJob job;
  job.rows = TRY(load_rows(files));
  job.spec = TRY(spec_for(request, *source, job.rows, job.rows.data));
  if (source->initial()) job.initial = *source->initial();
  return job;
}

std::string local_model_card(const LocalResult& result) {
  const TrainingSpec& spec = result.stored.notes.spec;
  std::ostringstream card;
  card << "# Model card\n\n"
       << "Trained by `souk train-local`: on the owner's machine, outside any enclave and market.\n"
       << "Nobody but the owner vouches for what stands here; there is no receipt.\n\n"
       << "| | |\n|---|---|\n"
       << "| rows | " << result.rows << " |\n"
       << "| classes | " << spec.classes << " |\n"
       << "| layers, parameters | " << spec.model.size() << ", " << result.parameters << " |\n"
       << "| steps | " << result.steps << " |\n"
       << "| batch | " << spec.batch << " |\n";
  const std::string rows = std::to_string(result.measured_rows);
  card << "| accuracy on "
       << (result.measured_on == LocalResult::MeasuredOn::kTest ? rows + " test rows"
           : result.measured_on == LocalResult::MeasuredOn::kFolds
               ? rows + " rows of held-out folds"
               : "the " + rows + " rows it was trained on")
       << " | " << real_text(result.accuracy) << " |\n";
  if (spec.privacy) {
    card << "| differential privacy | DP-SGD, epsilon " << real_text(result.epsilon.value_or(0))
         << " at delta " << real_text(result.delta) << " (add or remove " << privacy_unit(spec)
         << "); the accuracy above is not covered by it |\n"
         << "| clip, noise multiplier | " << real_text(spec.privacy->clip) << ", "
         << real_text(spec.privacy->noise_multiplier) << " |\n";
  } else {
    card << "| differential privacy | none |\n";
  }
  card << "\n"
       << privacy_card(spec, {result.epsilon.value_or(0), result.delta, result.steps, {}, {}});
  if (const auto& lineage = result.stored.notes.lineage) {
    card << "\n## Inherited\n\nIt started from a market's model, and owes what that one owes. It "
            "has "
            "learned from the datasets";
    for (const auto& id : lineage->datasets) card << " `" << to_hex(id) << "`";
    card << ", under the obligations\n\n    " << canonical(policy::to_json(lineage->obligations))
         << "\n";
  }
  card << "\n`model.safetensors` holds the parameters and the specification, `spec.json` the "
          "specification with names.\n";
  return card.str();
}

}  // namespace souk::market
