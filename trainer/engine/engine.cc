#include "trainer/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <new>
#include <optional>

#include "policy/privacy/accountant.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/network.h"
#include "trainer/engine/noise.h"
#include "trainer/engine/optimizer.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {

using contracts::TrainingSpec;

namespace {

// Parameters are summed, noised and updated in pieces of this many; also the unit of the
// noise streams, so a constant of the format.
constexpr uint64_t kPiece = 4096;

// The first error of a set of jobs that run at once.
class FirstError {
 public:
  void note(Status status) {
    if (status) return;
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(status).take_error();
    failed_ = true;
  }
  bool failed() const { return failed_; }
  Status status() {
    std::lock_guard lock(mutex_);
    if (error_) return *error_;
    return Done{};
  }

 private:
  std::mutex mutex_;
  std::optional<Error> error_;  // guarded by mutex_
  std::atomic<bool> failed_{false};
};

double delta_of(const contracts::PrivacySpec& privacy) { return static_cast<double>(privacy.delta_pico) / 1e12; }

policy::Event event_of(const TrainingSpec& spec, uint64_t steps) {
  return {policy::rate_from_threshold(spec.sampling_threshold), spec.privacy->noise_multiplier, steps};
}

Status check_privacy(const TrainingSpec& spec) {
  if (spec.shuffle) return Error(Code::kRefused, "privacy: expected Poisson sampling, not shuffled batches");
  double epsilon = TRY(policy::epsilon_upper(event_of(spec, spec.steps), delta_of(*spec.privacy)));
  int64_t micro = policy::epsilon_micro_up(epsilon);
  if (micro > spec.privacy->epsilon_micro) {
    return Error(Code::kRefused, "privacy: expected a claimed epsilon of at least " + std::to_string(micro) + " millionths");
  }
  return Done{};
}

template <class Function>
auto guarded(const Function& function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return Error(Code::kExhausted, "engine: expected enough memory for parameters and activations");
  }
}

}  // namespace

struct TrainingRun::State {
  // Set once in create().
  TrainingSpec spec;
  Graph graph;
  std::span<const int64_t> labels;
  uint64_t rows = 0;
  std::optional<ExampleReader> reader;
  std::optional<Secret<32>> root;
  Workers* workers = nullptr;
  std::unique_ptr<Network> network;
  std::optional<NoiseGrid> grid;  // with privacy
  bool has_dropout = false;

  // Moved on by step().
  std::vector<float> parameters;
  std::optional<OptimizerState> optimizer;
  std::optional<ShuffledRows> shuffled;
  uint32_t steps_done = 0;
  bool broken = false;

  // Of the step under way. One for each worker:
  std::vector<std::vector<float>> gradient;  // of a shard or of an example
  std::vector<std::vector<int32_t>> units;   // with privacy
  std::vector<std::vector<int64_t>> sums;    // with privacy
  std::vector<double> total;                 // without privacy

  std::vector<uint64_t> draw(uint64_t step) {
    if (spec.shuffle) return shuffled->batch(step, spec.batch);
    return poisson_batch(derive_key(*root, "sample", step), rows, spec.sampling_threshold);
  }

  // Forward and backward for examples [first, first + shard) of the batch.
  Status pass(std::span<const uint64_t> batch, uint64_t first, const Secret<32>* dropout, unsigned worker) {
    const uint64_t numbers = graph.input().count();
    const uint64_t here = std::min<uint64_t>(network->shard(), batch.size() - first);
    float* input = network->input(worker);
    for (uint64_t r = 0; r < here; ++r) reader->read(batch[first + r], input + r * numbers);
    std::fill(input + here * numbers, input + network->shard() * numbers, 0.0F);
    TRY(network->forward(worker, dropout, static_cast<uint32_t>(first)));
    const float* logits = network->logits(worker);
    float* gradients = network->logits_gradient(worker);
    std::fill_n(gradients, network->shard() * graph.classes, 0.0F);
    for (uint64_t r = 0; r < here; ++r) {
      std::span<const float> own(logits + r * graph.classes, graph.classes);
      cross_entropy(own, labels[batch[first + r]], gradients + r * graph.classes);
    }
    return network->backward(worker);
  }

  // Runs update(first, count) over all parameters, in pieces on all workers.
  template <class Function>
  void for_each_piece(const Function& function) {
    workers->run((graph.parameters + kPiece - 1) / kPiece, [&](size_t piece, unsigned worker) {
      uint64_t first = piece * kPiece;
      function(first, std::min(kPiece, graph.parameters - first), worker);
    });
  }

  // Clipped, rounded, exactly summed, noised, divided by the public constant.
  Status private_step(std::span<const uint64_t> batch, const Secret<32>* dropout) {
    const uint32_t shard = network->shard();
    FirstError errors;
    workers->run((batch.size() + shard - 1) / shard, [&](size_t index, unsigned worker) {
      if (errors.failed()) return;
      uint64_t first = index * shard;
      Status passed = pass(batch, first, dropout, worker);
      if (!passed) return errors.note(std::move(passed));
      auto& row = gradient[worker];
      auto& z = units[worker];
      auto& sum = sums[worker];
      for (uint32_t r = 0; r < std::min<uint64_t>(shard, batch.size() - first); ++r) {
        Status done = network->example_gradient(worker, r, row);
        if (!done) return errors.note(std::move(done));
        clip_to_grid(row, *grid, z);
        for (uint64_t i = 0; i < sum.size(); ++i) sum[i] += z[i];
      }
    });
    TRY(errors.status());
    // Also when the batch is empty: a step without noise would say so.
    auto key = derive_key(*root, "noise", steps_done);
    const double rate = rate_at(spec, steps_done), unit = grid->step / spec.batch;
    for_each_piece([&](uint64_t first, uint64_t count, unsigned worker) {
      std::span<int64_t> sum(sums[0].data() + first, count);
      for (size_t other = 1; other < sums.size(); ++other) {
        for (uint64_t i = 0; i < count; ++i) {
          sum[i] += sums[other][first + i];
          sums[other][first + i] = 0;
        }
      }
      ChaCha20 random(key.bytes(SecretAccess()), first / kPiece);
      add_noise(random, *grid, sum);
      std::span<float> g(gradient[worker].data(), count);
      for (uint64_t i = 0; i < count; ++i) {
        g[i] = static_cast<float>(static_cast<double>(sum[i]) * unit);
        sum[i] = 0;
      }
      optimizer->update(parameters, first, g, rate, steps_done + uint64_t{1});
    });
    return Done{};
  }

  // Shard gradients are added in the order of the shards, whoever made them.
  Status plain_step(std::span<const uint64_t> batch, const Secret<32>* dropout) {
    const uint32_t shard = network->shard();
    const uint64_t shards = (batch.size() + shard - 1) / shard, wave = gradient.size();
    std::fill(total.begin(), total.end(), 0.0);
    for (uint64_t start = 0; start < shards; start += wave) {
      const uint64_t now = std::min(wave, shards - start);
      FirstError errors;
      workers->run(now, [&](size_t index, unsigned worker) {
        Status passed = pass(batch, (start + index) * shard, dropout, worker);
        if (!passed) return errors.note(std::move(passed));
        errors.note(network->batch_gradient(worker, gradient[index]));
      });
      TRY(errors.status());
      for_each_piece([&](uint64_t first, uint64_t count, unsigned) {
        for (uint64_t s = 0; s < now; ++s) {
          for (uint64_t i = first; i < first + count; ++i) total[i] += gradient[s][i];
        }
      });
    }
    const double rate = rate_at(spec, steps_done);
    for_each_piece([&](uint64_t first, uint64_t count, unsigned worker) {
      std::span<float> g(gradient[worker].data(), count);
      for (uint64_t i = 0; i < count; ++i) g[i] = static_cast<float>(total[first + i] / spec.batch);
      optimizer->update(parameters, first, g, rate, steps_done + uint64_t{1});
    });
    return Done{};
  }

  Status step() {
    TRY(network->set_parameters(parameters));
    auto batch = draw(steps_done);
    std::optional<Secret<32>> dropout;
    if (has_dropout) dropout = derive_key(*root, "dropout", steps_done);
    const Secret<32>* key = dropout ? &*dropout : nullptr;
    TRY(spec.privacy ? private_step(batch, key) : plain_step(batch, key));
    ++steps_done;
    return Done{};
  }
};

TrainingRun::TrainingRun(std::unique_ptr<State> state) : state_(std::move(state)) {}
TrainingRun::TrainingRun(TrainingRun&&) noexcept = default;
TrainingRun& TrainingRun::operator=(TrainingRun&&) noexcept = default;
TrainingRun::~TrainingRun() = default;

Result<TrainingRun> TrainingRun::create(const TrainingSpec& spec, Examples data, NoiseRoot root, Workers& workers) {
  return guarded([&]() -> Result<TrainingRun> {
    auto state = std::make_unique<State>();
    State& s = *state;
    s.spec = spec;
    s.graph = TRY(build_graph(spec));
    if (spec.privacy) TRY(check_privacy(spec));
    s.rows = data.labels.size();
    s.labels = data.labels;
    if (s.rows == 0) return Error(Code::kMalformed, "dataset: expected at least one example");
    TRY(check_labels(data.labels, s.rows, spec.classes));
    s.reader = TRY(ExampleReader::open(spec, s.graph, data.features, s.rows));
    s.root.emplace(std::move(root));
    s.workers = &workers;
    if (spec.privacy) {
      double draws = static_cast<double>(s.graph.parameters) * spec.steps;
      s.grid = NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip, draws);
      if (!s.grid) return Error(Code::kRefused, "privacy: expected parameters times steps to stay below 3e10");
    }
    const auto gradients = spec.privacy ? Network::Gradients::kPerExample : Network::Gradients::kBatch;
    s.network = TRY(Network::compile(s.graph, spec.shard, workers.threads(), gradients));
    for (const auto& layer : s.graph.layers) s.has_dropout |= layer.node.op == Node::Op::kDropout && layer.node.rate > 0;
    s.parameters = initial_parameters(s.graph, spec.seed);
    s.optimizer.emplace(spec.optimizer, s.graph.parameters);
    if (spec.shuffle) s.shuffled.emplace(*s.root, s.rows);
    s.gradient.assign(workers.threads(), std::vector<float>(s.graph.parameters));
    if (spec.privacy) {
      s.units.assign(workers.threads(), std::vector<int32_t>(s.graph.parameters));
      s.sums.assign(workers.threads(), std::vector<int64_t>(s.graph.parameters));
    } else {
      s.total.resize(s.graph.parameters);
    }
    return TrainingRun(std::move(state));
  });
}

Status TrainingRun::step() {
  State& s = *state_;
  if (s.broken) return Error(Code::kBroken, "training: this run has failed");
  if (s.steps_done == s.spec.steps) return Error(Code::kConflict, "training: expected no step after the last");
  Status status = guarded([&] { return s.step(); });
  // Half a step may have happened: nothing after it would be the run that was agreed.
  if (!status) s.broken = true;
  return status;
}

Status TrainingRun::run_to_end(const std::function<void(uint32_t)>& after_step) {
  while (steps_done() < steps_total()) {
    TRY(step());
    if (after_step) after_step(steps_done());
  }
  return Done{};
}

uint32_t TrainingRun::steps_done() const { return state_->steps_done; }
uint32_t TrainingRun::steps_total() const { return state_->spec.steps; }

double TrainingRun::epsilon_spent() const {
  const State& s = *state_;
  if (!s.spec.privacy) return std::numeric_limits<double>::infinity();
  auto epsilon = policy::epsilon_upper(event_of(s.spec, s.steps_done), delta_of(*s.spec.privacy));
  return epsilon ? *epsilon : std::numeric_limits<double>::infinity();
}

Result<Model> TrainingRun::finish() {
  State& s = *state_;
  if (s.broken) return Error(Code::kBroken, "training: this run has failed");
  if (s.steps_done < s.spec.steps) return Error(Code::kConflict, "training: expected every step to be done first");
  return guarded([&]() -> Result<Model> { return named(s.graph, s.parameters); });
}

namespace {

// Calls each(row, logits) for every example, in shards, on all workers.
Status infer(const TrainingSpec& spec, const Model& model, const Features& features, uint64_t rows, Workers& workers,
             const std::function<void(uint64_t row, std::span<const float> logits)>& each) {
  TRY(check_model(spec, model));
  Graph graph = TRY(build_graph(spec));
  auto reader = TRY(ExampleReader::open(spec, graph, features, rows));
  auto network = TRY(Network::compile(graph, spec.shard, workers.threads(), Network::Gradients::kNone));
  auto parameters = flatten(graph, model);
  TRY(network->set_parameters(parameters));
  const uint64_t shard = network->shard(), numbers = graph.input().count();
  FirstError errors;
  workers.run((rows + shard - 1) / shard, [&](size_t index, unsigned worker) {
    const uint64_t first = index * shard, here = std::min(shard, rows - first);
    float* input = network->input(worker);
    for (uint64_t r = 0; r < here; ++r) reader.read(first + r, input + r * numbers);
    std::fill(input + here * numbers, input + shard * numbers, 0.0F);
    Status passed = network->forward(worker, nullptr, 0);
    if (!passed) return errors.note(std::move(passed));
    for (uint64_t r = 0; r < here; ++r) {
      each(first + r, std::span<const float>(network->logits(worker) + r * graph.classes, graph.classes));
    }
  });
  return errors.status();
}

}  // namespace

Result<std::vector<float>> predict(const TrainingSpec& spec, const Model& model, const Features& features, uint64_t rows,
                                   Workers& workers) {
  return guarded([&]() -> Result<std::vector<float>> {
    TRY(contracts::check_spec(spec));
    uint64_t have = std::visit([](const auto& values) { return static_cast<uint64_t>(values.size()); }, features);
    if (rows > have) return Error(Code::kMalformed, "dataset: expected as many examples as rows");
    std::vector<float> logits(rows * spec.classes);
    TRY(infer(spec, model, features, rows, workers, [&](uint64_t row, std::span<const float> own) {
      std::copy(own.begin(), own.end(), logits.begin() + static_cast<ptrdiff_t>(row * spec.classes));
    }));
    return logits;
  });
}

Result<Evaluation> evaluate(const TrainingSpec& spec, const Model& model, Examples data, Workers& workers) {
  return guarded([&]() -> Result<Evaluation> {
    TRY(contracts::check_spec(spec));
    const uint64_t rows = data.labels.size();
    if (rows == 0) return Error(Code::kMalformed, "dataset: expected at least one example");
    TRY(check_labels(data.labels, rows, spec.classes));
    std::vector<double> loss(rows);
    std::vector<uint8_t> right(rows);
    TRY(infer(spec, model, data.features, rows, workers, [&](uint64_t row, std::span<const float> logits) {
      loss[row] = cross_entropy(logits, data.labels[row], nullptr);
      auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
      right[row] = best == data.labels[row] ? 1 : 0;
    }));
    Evaluation result;
    result.rows = rows;
    for (uint64_t row = 0; row < rows; ++row) {
      result.loss += loss[row];
      result.accuracy += right[row];
    }
    result.loss /= static_cast<double>(rows);
    result.accuracy /= static_cast<double>(rows);
    return result;
  });
}

}  // namespace souk::trainer
