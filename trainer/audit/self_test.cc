#include "trainer/audit/self_test.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "policy/privacy/accountant.h"
#include "policy/privacy/bounds.h"
#include "trainer/engine/clipping.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

using contracts::Node;
using contracts::TrainingSpec;

// How far a correct engine may be off by chance: 2e-9 for each check.
constexpr double kDeviations = 6;
// Noise streams serve 4096 numbers each; these are two whole ones and a part.
constexpr uint32_t kWide = 8704;
constexpr uint32_t kNoiseSteps = 48, kPairSteps = 3000, kSamplingSteps = 2000;
// Much longer than the clipping norm.
constexpr double kLong = 1000;
constexpr int64_t kMostEpsilonMicro = 1'000'000'000'000;  // that a specification can claim

// One number: squared error of w x against 0 or 1, w = 0 and held there by a learning rate of
// nothing. An example with label 1 has gradient -2 x, one with label 0 has none.
struct Rows {
  std::vector<float> x;
  std::vector<int64_t> labels;
  void add(double gradient) {
    x.push_back(static_cast<float>(-0.5 * gradient));
    labels.push_back(gradient == 0 ? 0 : 1);
  }
};

TrainingSpec spec_of(const TrainingSpec& like, uint32_t parameters, uint32_t steps, double sigma,
                     uint64_t threshold) {
  TrainingSpec spec;
  spec.input_shape = {parameters};
  spec.classes = 2;
  Node node;
  node.op = Node::Op::kLinear;
  node.units = 1;
  node.bias = false;
  spec.model = {node};
  spec.loss = TrainingSpec::Loss::kMse;
  spec.steps = steps;
  spec.batch = 1;
  spec.shard = 64;
  spec.sampling_threshold = threshold;
  spec.learning_rate = {{steps, 1e-30}};
  spec.privacy = like.privacy;
  spec.privacy->noise_multiplier = sigma;
  spec.privacy->epsilon_micro = kMostEpsilonMicro;
  return spec;
}

// Every release of a run, one step after another.
Result<std::vector<float>> releases(const TrainingSpec& spec, const Rows& rows, NoiseRoot root,
                                    Workers& workers) {
  const uint32_t count = spec.input_shape[0];
  Model zero;
  zero.tensors.push_back({"1.weight", {1, count}, std::vector<float>(count, 0.0F)});
  auto run = TRY(TrainingRun::create(spec, {Features(std::span<const float>(rows.x)), rows.labels},
                                     std::move(root), workers, &zero));
  std::vector<float> seen(uint64_t{count} * spec.steps);
  run.watch_releases([&](uint64_t first, std::span<const float> released) {
    std::copy(released.begin(), released.end(),
              seen.begin() + static_cast<ptrdiff_t>(run.steps_done() * uint64_t{count} + first));
  });
  TRY(run.run_to_end());
  return seen;
}

struct Moments {
  double mean = 0, variance = 0;
};
Moments moments(std::span<const float> values) {
  double sum = 0, square = 0;
  for (float v : values) sum += static_cast<double>(v);
  const double n = static_cast<double>(values.size()), mean = sum / n;
  for (float v : values)
    square += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
  return {mean, square / n};
}

// Correlation of values[i] with values[i + lag]; 0 of constants.
double correlation(std::span<const float> values, size_t lag) {
  const Moments own = moments(values);
  if (!(own.variance > 0)) return 0;
  double sum = 0;
  for (size_t i = 0; i + lag < values.size(); ++i)
    sum += (static_cast<double>(values[i]) - own.mean) *
           (static_cast<double>(values[i + lag]) - own.mean);
  return sum / own.variance / static_cast<double>(values.size() - lag);
}

// How many runs of eight neighbouring values, in places of any kind, come twice.
size_t repeated(std::span<const float> values) {
  constexpr size_t kRun = 8;
  std::vector<std::array<float, kRun>> runs(values.size() / kRun);
  std::memcpy(runs.data(), values.data(), runs.size() * sizeof(runs[0]));
  std::sort(runs.begin(), runs.end());
  size_t count = 0;
  for (size_t i = 1; i < runs.size(); ++i) count += runs[i] == runs[i - 1] ? 1 : 0;
  return count;
}

class Trial {
 public:
  Trial(const TrainingSpec& spec, const NoiseRoot& seed, Workers& workers)
      : spec_(spec),
        sigma_(spec.privacy->noise_multiplier),
        clip_(spec.privacy->clip),
        rate_(policy::rate_from_threshold(spec.sampling_threshold)),
        seed_(seed),
        workers_(workers) {}

  Result<SelfTest> run() {
    TRY(noise());
    TRY(pair());
    TRY(sampling());
    out_.ok = std::all_of(out_.checks.begin(), out_.checks.end(),
                          [](const SelfTestCheck& check) { return check.ok; });
    TRY(lower_bound());
    return std::move(out_);
  }

 private:
  NoiseRoot root(uint64_t number) const { return derive_key(seed_, "self-test", number); }

  void check(const char* name, double measured, double least, double most) {
    // Not a number is not in any range.
    out_.checks.push_back({name, measured >= least && measured <= most, measured, least, most});
  }

  // Nothing but noise: its deviation, and that no value serves twice.
  Status noise() {
    Rows rows;
    rows.x.assign(uint64_t{4} * kWide, 0.0F);
    rows.labels.assign(4, 0);
    auto seen = TRY(releases(spec_of(spec_, kWide, kNoiseSteps, sigma_, spec_.sampling_threshold),
                             rows, root(1), workers_));
    double square = 0;
    for (float v : seen) square += static_cast<double>(v) * static_cast<double>(v);
    const double n = static_cast<double>(seen.size()),
                 deviation = std::sqrt(square / n) / (sigma_ * clip_),
                 off = kDeviations / std::sqrt(2 * n);
    check("noise_deviation", deviation, 1 - off, 1 + off);
    deviation_most_ = deviation / (1 - off);
    repeated_ = repeated(seen);
    check("noise_repeated", static_cast<double>(repeated_), 0, 0);
    double largest = 0;
    for (size_t step = 1; step <= 8; ++step)
      largest = std::max(largest, std::abs(correlation(seen, step * kWide)));
    check("noise_correlation", largest, 0, kDeviations / std::sqrt(n - 8.0 * kWide));
    return Done{};
  }

  // One record more, of a gradient far too long, among others that point the other way: the mean
  // release may move by the clipping norm, not more.
  Status pair() {
    const double sigma = std::min(sigma_, 0.5);
    auto spec = spec_of(spec_, 1, kPairSteps, sigma, UINT64_MAX);
    std::array<double, 2> mean{};
    for (size_t with : {0U, 1U}) {
      Rows rows;
      for (int i = 0; i < 15; ++i) rows.add(-0.1 * clip_);
      rows.add(with == 0 ? 0 : kLong * clip_);
      mean[with] = moments(TRY(releases(spec, rows, root(2 + with), workers_))).mean / clip_;
    }
    const double moved = std::abs(mean[1] - mean[0]),
                 off = kDeviations * sigma * std::sqrt(2.0 / kPairSteps);
    check("sensitivity", moved, 0, 1 + off);
    sensitivity_least_ = std::max(0.0, moved - off);
    return Done{};
  }

  // Rows of one gradient each: the release counts how many were drawn.
  Status sampling() {
    const double sigma = std::min(sigma_, 0.5), length = 1 - kClipMargin;
    const auto count = static_cast<uint64_t>(std::clamp(std::ceil(32 / rate_), 32.0, 65536.0));
    Rows rows;
    for (uint64_t i = 0; i < count; ++i) rows.add(kLong * clip_);
    auto seen = TRY(releases(spec_of(spec_, 1, kSamplingSteps, sigma, spec_.sampling_threshold),
                             rows, root(4), workers_));
    for (float& v : seen) v /= static_cast<float>(clip_ * length);
    const Moments own = moments(seen);
    const double n = static_cast<double>(count), drawn = n * rate_ * (1 - rate_),
                 noise = sigma * sigma / (length * length), expected = drawn + noise,
                 mean_off = kDeviations * std::sqrt(expected / kSamplingSteps) / n + 1e-3 * rate_;
    check("sampling_rate", own.mean / n, rate_ - mean_off, rate_ + mean_off);
    rate_least_ = std::clamp(own.mean / n - mean_off, 0.0, 1.0);
    // Fixed batches, or whole groups of rows drawn together, have another variance.
    const double heavy = drawn > 0 ? drawn / (expected * expected) : 0,
                 off = kDeviations * std::sqrt((2 + heavy) / kSamplingSteps);
    check("sampling_variance", own.variance / expected, 1 - off, 1 + off);
    check("batches_correlation", std::abs(correlation(seen, 1)), 0,
          kDeviations / std::sqrt(static_cast<double>(kSamplingSteps)));
    return Done{};
  }

  Status lower_bound() {
    if (repeated_ > 0 || !(deviation_most_ > 0)) {
      out_.epsilon_lower = INFINITY;
      return Done{};
    }
    if (!(sensitivity_least_ > 0 && rate_least_ > 0)) return Done{};
    policy::Mechanism measured;
    measured.q = rate_least_;
    // A bound for more noise is one for less; below a tenth there is no claim left to refute.
    measured.scale = std::max(0.1, sigma_ * deviation_most_ / sensitivity_least_);
    measured.steps = spec_.steps;
    const double delta = static_cast<double>(spec_.privacy->delta_pico) * 1e-12;
    auto bounds = policy::epsilon_bounds(std::span(&measured, 1), policy::Adjacency::kAddRemove,
                                         delta, policy::Effort::kUsual);
    // So little noise that the accountant has no number for it.
    out_.epsilon_lower = bounds ? bounds->worst().lower : INFINITY;
    return Done{};
  }

  const TrainingSpec& spec_;
  const double sigma_, clip_, rate_;
  const NoiseRoot& seed_;
  Workers& workers_;
  SelfTest out_;
  size_t repeated_ = 0;
  double deviation_most_ = 0, sensitivity_least_ = 0, rate_least_ = 0;
};

}  // namespace

Result<SelfTest> self_test(const TrainingSpec& spec, const NoiseRoot& seed) {
  if (!spec.privacy || spec.sampling_threshold == 0)
    return Error(Code::kMalformed, "self-test: expected a specification with privacy");
  // One thread: these runs are too short to share.
  auto workers = TRY(Workers::start(1));
  return Trial(spec, seed, *workers).run();
}

}  // namespace souk::trainer
