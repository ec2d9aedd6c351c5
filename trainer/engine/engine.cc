#include "trainer/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <optional>

#include "policy/privacy/run.h"
#include "trainer/engine/canaries.h"
#include "trainer/engine/clipping.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/first_error.h"
#include "trainer/engine/fixed_features.h"
#include "trainer/engine/kernels.h"
#include "trainer/engine/lines.h"
#include "trainer/engine/loss.h"
#include "trainer/engine/network.h"
#include "trainer/engine/optimizer.h"
#include "trainer/engine/release.h"
#include "trainer/engine/run_checks.h"
#include "trainer/engine/run_state.h"
#include "trainer/engine/sampling.h"
#ifdef SOUK_TRAINER_SEAM
#include SOUK_TRAINER_SEAM
#else
#include "trainer/engine/faithful.h"
#endif

namespace souk::trainer {

using contracts::TrainingSpec;
using kernels::Onto;

namespace {

// Parameters are summed, noised and updated in pieces of this many.
constexpr uint64_t kPiece = kNoiseStream;
// Small models keep the sums of this many numbers until they are added: once a batch, in the cache.
constexpr uint64_t kKept = uint64_t{1} << 20;

}  // namespace

struct TrainingRun::State {
  // Set once in create().
  TrainingSpec spec;
  Graph graph;
  std::span<const int64_t> labels;
  uint64_t rows = 0;
  std::vector<Part> parts;  // of the rows: more than one where there is a pool
  std::optional<ExampleReader> reader;
  std::optional<FixedFeatures> features;  // read in place of examples
  std::vector<KeySchedule> schedules;     // one for each purpose of a step: Purpose
  Workers* workers = nullptr;
  std::unique_ptr<Network> network;
  std::optional<ClipRule> clip;      // with privacy
  std::optional<FixedPoint> fixed;   // with privacy
  std::optional<Canaries> canaries;  // where the run is audited
  size_t canary_member = 0;          // the part whose rows they stand for
  ReleaseWatch watch;
  bool has_dropout = false;

  // Moved on by step().
  Lines<float> numbers;  // the model
  std::optional<OptimizerState> optimizer;
  std::optional<RunningMean> running;
  std::optional<ShuffledRows> shuffled;
  Lines<float> accumulated;  // gradients of the draws since the last update; empty if each is one
  uint32_t steps_done = 0;
  double loss = 0;
  bool broken = false;

  // Of the step under way. One for each shard of a wave, which is at least one for each worker:
  std::vector<Lines<float>> sums;              // gradients of the shards, clipped with privacy
  std::vector<std::vector<float>> statistics;  // of batch norms
  std::vector<double> losses;
  // One for each worker, with privacy:
  std::vector<std::vector<float>> factors;
  std::vector<std::vector<uint8_t>> present;
  std::vector<std::vector<uint32_t>> members;  // which part an example is of; empty without a pool
  struct Piece {
    Lines<int64_t> total = Lines<int64_t>(kPiece);
    Lines<float> mean = Lines<float>(kPiece);
  };
  std::vector<Piece> pieces;
  // Of all parameters, where a batch takes more than one wave of sums:
  Lines<int64_t> total;  // with privacy
  Lines<float> mean;     // without

  // What steps move. Scores of canaries are the caller's to carry.
  RunState kept(std::span<double> scores) {
    return {steps_done,
            {numbers, optimizer->first_moment(), optimizer->second_moment(), running->mean(),
             accumulated},
            scores};
  }

  enum Purpose : size_t { kSample, kNoise, kDropout, kAugment, kCanaries, kPurposes };
  // Keys of this step; null where nothing asks for one.
  struct Keys {
    const Secret<32>* dropout = nullptr;
    const Secret<32>* augment = nullptr;
  };
  std::vector<uint64_t> batch;  // rows of this step

  void draw(uint64_t step) {
    if (spec.shuffle) return shuffled->batch(step, spec.batch, batch);
    poisson_batch(schedules[kSample].derive("sample", step), parts, batch);
  }

  // Which dataset each of batch[first .. first + members.size()) is of; the batch is ascending.
  void find_members(uint64_t first, std::span<uint32_t> of) const {
    uint32_t part = 0;
    uint64_t end = parts[0].rows;
    for (size_t e = 0; e < of.size(); ++e) {
      while (batch[first + e] >= end) end += parts[++part].rows;
      of[e] = part;
    }
  }

  void read_rows(uint64_t first, uint64_t here, const Keys& keys, float* input) const {
    if (features) {
      const uint64_t width = graph.layers[features->layer()].out.count();
      for (uint64_t e = 0; e < here; ++e) features->read(batch[first + e], input + e * width);
      return;
    }
    const uint64_t numbers_each = graph.input().count(), views = spec.augmentation.multiplicity;
    for (uint64_t e = 0; e < here; ++e) {
      for (uint64_t view = 0; view < views; ++view, input += numbers_each) {
        if (!keys.augment) {
          reader->read(batch[first + e], input);
          continue;
        }
        ChaCha20 random(keys.augment->bytes(SecretAccess()), (first + e) * views + view);
        reader->read_view(batch[first + e], random, input);
      }
    }
  }

  // One thread without privacy adds every shard's gradient to sums[0] as it is made.
  bool adds_up() const { return !spec.privacy && workers->threads() == 1; }

  // Forward, loss and backward for examples [first, first + shard) of the batch, whose gradient
  // goes to sums[slot].
  Status run_shard(uint64_t first, const Keys& keys, size_t slot, unsigned worker) {
    const uint64_t here = std::min<uint64_t>(spec.shard, batch.size() - first),
                   views = spec.augmentation.multiplicity;
    read_rows(first, here, keys, network->input(worker));
    Network::Pass pass{static_cast<uint32_t>(here), true, keys.dropout, first};
    TRY(network->forward(worker, pass));
    const float* outputs = network->outputs(worker);
    float* gradients = network->outputs_gradient(worker);
    const double share = 1.0 / static_cast<double>(views);
    double sum = 0;
    for (uint64_t row = 0; row < here * views; ++row) {
      std::span<const float> own(outputs + row * graph.outputs, graph.outputs);
      sum += share * loss_of(spec.loss, own, labels[batch[first + row / views]], share,
                             gradients + row * graph.outputs);
    }
    losses[slot] = sum;
    if (!spec.privacy) {
      TRY(network->backward(worker, sums[slot],
                            adds_up() && first > 0 ? Onto::kAdd : Onto::kWrite));
      if (!statistics.empty()) network->copy_statistics(worker, statistics[slot]);
      return Done{};
    }
    TRY(network->backward(worker));
    std::span<uint8_t> there(present[worker].data(), here);
    std::span<uint32_t> of;
    if (parts.size() > 1) {
      of = {members[worker].data(), here};
      find_members(first, of);
    }
    clip->factors(network->norms(worker), static_cast<uint32_t>(here), of, factors[worker], there);
    seam::factors(network->norms(worker), network->strategies().size(), spec.shard,
                  static_cast<uint32_t>(here), spec.privacy->clip, factors[worker]);
    return network->clipped_sum(worker, factors[worker], there, sums[slot]);
  }

  // Runs function(first, count, piece of the worker) over what is trained, on all workers.
  template <class Function>
  void for_each_piece(const Function& function) {
    workers->run((graph.trained + kPiece - 1) / kPiece, [&](size_t piece, unsigned worker) {
      uint64_t first = piece * kPiece;
      function(first, std::min(kPiece, graph.trained - first), pieces[worker]);
    });
  }

  struct Wave {
    uint64_t shards = 0;  // whose gradients are in sums[0 .. shards)
    bool first = true, last = true;
  };

  // Calls join(first, count, wave, piece) for every piece after each wave of shards, once where the
  // batch is empty; what it does with sums it does in the order of the shards, whoever made them.
  template <class Join>
  Status run_batch(const Keys& keys, const Join& join) {
    const uint64_t shards = (batch.size() + spec.shard - 1) / spec.shard, wave = sums.size();
    loss = 0;
    for (uint64_t start = 0; start < shards; start += wave) {
      const uint64_t now = std::min(wave, shards - start);
      FirstError errors;
      workers->run(now, [&](size_t index, unsigned worker) {
        if (!errors.failed())
          errors.note(run_shard((start + index) * spec.shard, keys, index, worker));
      });
      TRY(errors.status());
      for (uint64_t s = 0; s < now; ++s) {
        loss += losses[s] / static_cast<double>(batch.size());
        if (!statistics.empty()) move_statistics(statistics[s]);
      }
      const bool last = start + now == shards;
      if (adds_up() && !last) continue;
      const Wave own{now, adds_up() || start == 0, last};
      for_each_piece(
          [&](uint64_t first, uint64_t count, Piece& piece) { join(first, count, own, piece); });
    }
    if (shards == 0)
      for_each_piece(
          [&](uint64_t first, uint64_t count, Piece& piece) { join(first, count, Wave{}, piece); });
    return Done{};
  }

  void move_statistics(const std::vector<float>& seen) {
    float* running_statistics = numbers.data() + graph.parameters;
    for (const Layer& layer : graph.layers) {
      if (layer.running_count == 0 || !layer.trained) continue;
      for (uint64_t i = layer.running_at - graph.parameters;
           i < layer.running_at - graph.parameters + layer.running_count; ++i) {
        running_statistics[i] = static_cast<float>((1 - kRunningMomentum) * running_statistics[i] +
                                                   kRunningMomentum * seen[i]);
      }
    }
  }

  // Clipped, rounded to units, exactly summed, noised, divided by the public constant. Also when
  // the batch is empty: a step without noise would say so.
  Status private_gradient(const Keys& keys_of_step) {
    const Secret<32>& key = schedules[kNoise].derive("noise", seam::noise_step(steps_done));
    if (canaries) canaries->draw(parts[canary_member].threshold, *fixed);
    TRY(run_batch(
        keys_of_step, [&](uint64_t first, uint64_t count, const Wave& wave, Piece& piece) {
          const bool one_wave = wave.first && wave.last;
          std::span<int64_t> sum(one_wave ? piece.total.data() : total.data() + first, count);
          for (uint64_t s = 0; s < wave.shards; ++s)
            fixed->add({sums[s].data() + first, count}, sum);
          if (!wave.last) return;
          ChaCha20 random(key.bytes(SecretAccess()), first / kPiece);
          std::span<float> g(piece.mean.data(), count);
          const bool audited = canaries && first + count == graph.trained;
          fixed->release(random, sum, 1.0 / spec.batch, g,
                         audited ? canaries->coordinates() : FixedPoint::Behind{});
          if (watch) watch(first, g);
          update(first, g, 1);
        }));
    if (canaries) canaries->score();
    return Done{};
  }

  Status plain_gradient(const Keys& keys_of_step) {
    const float share = 1.0F / static_cast<float>(spec.batch);
    return run_batch(keys_of_step,
                     [&](uint64_t first, uint64_t count, const Wave& wave, Piece& piece) {
                       const bool one_wave = wave.first && wave.last;
                       if (one_wave && wave.shards == 1)
                         return update(first, {sums[0].data() + first, count}, share);
                       float* to = one_wave ? piece.mean.data() : mean.data() + first;
                       if (wave.first) std::fill_n(to, count, 0.0F);
                       for (uint64_t s = 0; s < wave.shards; ++s)
                         kernels::copy(sums[s].data() + first, to, count, Onto::kAdd);
                       if (wave.last) update(first, {to, count}, share);
                     });
  }

  // By the mean of the last `accumulate` gradients, once there are that many. This one is `factor`
  // times `g`, which is overwritten.
  void update(uint64_t first, std::span<float> g, float factor) {
    const uint64_t draws = spec.accumulate, updates = (steps_done + uint64_t{1}) / draws;
    if (draws > 1) {
      float* kept = accumulated.data() + first;
      for (uint64_t i = 0; i < g.size(); ++i) kept[i] += g[i] * factor;
      if ((steps_done + uint64_t{1}) % draws != 0) return;
      for (uint64_t i = 0; i < g.size(); ++i) {
        g[i] = kept[i] / static_cast<float>(draws);
        kept[i] = 0;
      }
      factor = 1;
    }
    optimizer->update(numbers, first, g, factor, rate_at(spec, steps_done), updates);
    running->update(numbers, first, g.size(), updates);
  }

  Status step() {
    TRY(network->set_parameters(numbers, workers));
    draw(steps_done);
    Keys own;
    if (has_dropout) own.dropout = &schedules[kDropout].derive("dropout", steps_done);
    if (reader->augments()) own.augment = &schedules[kAugment].derive("augment", steps_done);
    TRY(spec.privacy ? private_gradient(own) : plain_gradient(own));
    // Frozen numbers do not move; batch statistics do.
    const bool updated = (steps_done + uint64_t{1}) % spec.accumulate == 0;
    if (updated)
      running->update(numbers, graph.parameters, graph.numbers - graph.parameters,
                      (steps_done + 1) / spec.accumulate);
    ++steps_done;
    return Done{};
  }

  // Shards of a wave, as many for each worker: all of a batch where so many sums are small, and one
  // more where batches vary.
  uint64_t shards_at_once() const {
    if (adds_up()) return 1;
    const uint64_t threads = workers->threads(),
                   batch_of = spec.batch + (spec.shuffle ? 0 : spec.shard),
                   all = (batch_of + spec.shard - 1) / spec.shard,
                   small = kKept / std::max<uint64_t>(1, graph.trained);
    const uint64_t rounds = std::min((all + threads - 1) / threads, small / threads);
    return threads * std::max<uint64_t>(1, rounds);
  }

  void make_buffers() {
    const unsigned threads = workers->threads();
    const uint64_t wave = shards_at_once();
    sums.assign(wave, Lines<float>(graph.trained));
    losses.assign(wave, 0.0);
    pieces.resize(threads);
    if (spec.accumulate > 1) accumulated.assign(graph.trained, 0.0F);
    if (!spec.privacy) {
      if (!adds_up()) mean.assign(graph.trained, 0.0F);
      if (graph.numbers > graph.parameters)
        statistics.assign(wave, std::vector<float>(graph.numbers - graph.parameters));
      return;
    }
    factors.assign(threads, std::vector<float>(graph.trained_layers.size() * spec.shard));
    present.assign(threads, std::vector<uint8_t>(spec.shard));
    if (parts.size() > 1) members.assign(threads, std::vector<uint32_t>(spec.shard));
    total.assign(graph.trained, 0);
  }
};

TrainingRun::TrainingRun(std::unique_ptr<State> state) : state_(std::move(state)) {}
TrainingRun::TrainingRun(TrainingRun&&) noexcept = default;
TrainingRun& TrainingRun::operator=(TrainingRun&&) noexcept = default;
TrainingRun::~TrainingRun() = default;

Result<TrainingRun> TrainingRun::create(const TrainingSpec& spec, Examples data, NoiseRoot root,
                                        Workers& workers, const Model* initial) {
  return guarded([&]() -> Result<TrainingRun> {
    auto state = std::make_unique<State>();
    State& s = *state;
    s.spec = spec;
    s.graph = TRY(build_graph(spec));
    if (spec.privacy) TRY(check_privacy(spec));
    s.rows = data.labels.size();
    s.labels = data.labels;
    s.parts = TRY(parts_of(spec, data));
    for (Part& part : s.parts) part.threshold = seam::threshold(part.threshold);
    if (s.rows == 0) return Error(Code::kMalformed, "dataset: expected at least one example");
    TRY(check_labels(data.labels, s.rows, spec.classes));
    s.reader = TRY(ExampleReader::open(spec, s.graph, data.features, s.rows));
    for (size_t i = 0; i < State::kPurposes; ++i) s.schedules.emplace_back(root);
    s.workers = &workers;
    if (initial) TRY(check_model(spec, *initial));
    const std::vector<float> start =
        initial ? flatten(s.graph, *initial) : initial_parameters(s.graph, spec.seed);
    s.numbers.assign(start.begin(), start.end());
    s.features = TRY(FixedFeatures::compute(spec, s.graph, *s.reader, s.rows, s.numbers, workers));
    NetworkSettings settings;
    if (s.features) settings.first = s.features->layer();
    settings.gradients =
        spec.privacy ? NetworkSettings::Gradients::kPerExample : NetworkSettings::Gradients::kBatch;
    settings.shard = spec.shard;
    settings.views = spec.augmentation.multiplicity;
    settings.workers = workers.threads();
    settings.dtype = spec.dtype;
    s.network = TRY(Network::compile(s.graph, settings));
    if (spec.privacy) {
      double draws = static_cast<double>(s.graph.trained) * spec.steps;
      auto grid = NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip, draws);
      if (!grid)
        return Error(Code::kRefused,
                     "privacy: expected trained parameters times steps to stay below 3e10");
      s.fixed.emplace(seam::noise_grid(*grid));
      s.clip.emplace(*spec.privacy, s.network->strategies(), spec.shard);
    }
    s.has_dropout = asks_for(s.graph, Node::Op::kDropout);
    s.optimizer.emplace(spec.optimizer, s.graph.trained);
    s.running.emplace(spec.ema, s.numbers);
    if (spec.shuffle) s.shuffled.emplace(root, s.rows);
    uint64_t capacity = spec.shuffle ? spec.batch : 0;
    for (const Part& part : s.parts) {
      if (!spec.shuffle) capacity += poisson_capacity(part.rows, part.threshold);
    }
    s.batch.reserve(capacity);
    s.make_buffers();
    return TrainingRun(std::move(state));
  });
}

Status TrainingRun::plant_canaries(uint32_t count) {
  State& s = *state_;
  if (!s.spec.privacy || s.steps_done > 0 || s.canaries)
    return Error(Code::kConflict, "audit: expected a private run that has not begun");
  if (count == 0 || count > kMostCanaries)
    return Error(Code::kMalformed, "audit: expected 1 to 4096 canaries");
  s.canary_member = TRY(policy::most_exposed(s.spec));
  const size_t layers = s.network->strategies().size();
  auto rule = [&](const ExampleNorms& norms, std::span<float> factors, std::span<uint8_t> present) {
    const auto member = static_cast<uint32_t>(s.canary_member);
    const auto of = s.parts.size() > 1 ? std::span(&member, 1) : std::span<const uint32_t>();
    s.clip->factors(norms, 1, of, factors, present);
    seam::factors(norms, layers, s.spec.shard, 1, s.spec.privacy->clip, factors);
  };
  const auto coins = s.schedules[State::kCanaries].derive("canary-coins", 0).clone(SecretAccess());
  s.canaries.emplace(coins, s.schedules[State::kCanaries].derive("canaries", 0), count,
                     Canaries::clipped_length(rule, layers, s.spec.shard, s.spec.privacy->clip));
  return Done{};
}

const Canaries* TrainingRun::canaries() const {
  return state_->canaries ? &*state_->canaries : nullptr;
}

void TrainingRun::watch_releases(ReleaseWatch watch) {
  state_->watch = std::move(watch);
}

Status TrainingRun::step() {
  State& s = *state_;
  if (s.broken) return Error(Code::kBroken, "training: this run has failed");
  if (s.steps_done == s.spec.steps)
    return Error(Code::kConflict, "training: expected no step after the last");
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

uint64_t TrainingRun::state_bytes() const {
  State& s = *state_;
  std::vector<double> scores(s.canaries ? s.canaries->scores().size() : 0);
  return length_of(s.kept(scores));
}

Status TrainingRun::append_state(Bytes& out) const {
  State& s = *state_;
  if (s.broken) return Error(Code::kBroken, "training: this run has failed");
  std::vector<double> scores;
  if (s.canaries) scores.assign(s.canaries->scores().begin(), s.canaries->scores().end());
  return guarded([&]() -> Status {
    trainer::append_state(out, s.kept(scores));
    return Done{};
  });
}

Status TrainingRun::restore(ByteView state) {
  State& s = *state_;
  if (s.steps_done > 0 || s.broken)
    return Error(Code::kConflict, "training: expected a run that has not begun");
  std::vector<double> scores(s.canaries ? s.canaries->scores().size() : 0);
  RunState kept = s.kept(scores);
  s.broken = true;  // unless all of it is there
  TRY(read_into(kept, state));
  if (kept.steps > s.spec.steps)
    return Error(Code::kMalformed, "training state: expected at most the run's steps");
  s.steps_done = kept.steps;
  if (s.canaries) s.canaries->restore(kept.steps, scores);
  s.broken = false;
  return Done{};
}

uint32_t TrainingRun::steps_done() const {
  return state_->steps_done;
}
uint32_t TrainingRun::steps_total() const {
  return state_->spec.steps;
}
double TrainingRun::private_loss_of_last_step() const {
  return state_->loss;
}

double TrainingRun::epsilon_spent() const {
  const State& s = *state_;
  if (!s.spec.privacy) return std::numeric_limits<double>::infinity();
  auto epsilon = policy::epsilon_of_run(s.spec, s.steps_done);
  return epsilon ? *epsilon : std::numeric_limits<double>::infinity();
}

Result<Model> TrainingRun::finish() {
  State& s = *state_;
  if (s.broken) return Error(Code::kBroken, "training: this run has failed");
  if (s.steps_done < s.spec.steps)
    return Error(Code::kConflict, "training: expected every step to be done first");
  return guarded([&]() -> Result<Model> {
    std::span<const float> result = s.numbers;
    if (s.running->kept()) result = s.running->mean();
    return named(s.graph, result);
  });
}

}  // namespace souk::trainer
