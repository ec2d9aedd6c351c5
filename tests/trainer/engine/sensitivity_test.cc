// How far one example moves the integers that a private step adds its noise to: never by more than
// C, in exact arithmetic, whatever the network, the clipping and the numbers. SPEC.md, Sensitivity.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <random>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/clipping.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/loss.h"
#include "trainer/engine/network.h"
#include "trainer/engine/release.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

using contracts::Node;
using contracts::TrainingSpec;
using testing::convolution;
using testing::Data;
using testing::group_norm;
using testing::layer;
using testing::linear;
using Op = Node::Op;
using Clipping = contracts::PrivacySpec::Clipping;
using Sums = std::vector<int64_t>;
__extension__ using Wide = unsigned __int128;

constexpr uint8_t kRoot = 7;

// The step that TrainingRun takes with every row in the batch, up to its noise.
class StepWithoutNoise {
 public:
  explicit StepWithoutNoise(const TrainingSpec& spec, std::optional<Strategy> forced = std::nullopt)
      : spec_(spec),
        graph_(build_graph(spec).take()),
        numbers_(initial_parameters(graph_, spec.seed)),
        fixed_(*NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip,
                                static_cast<double>(graph_.trained))) {
    NetworkSettings settings;
    settings.gradients = NetworkSettings::Gradients::kPerExample;
    settings.shard = spec.shard;
    settings.views = spec.augmentation.multiplicity;
    settings.convolutions = forced;
    network_ = Network::compile(graph_, settings).take();
    clip_.emplace(*spec.privacy, network_->strategies(), spec.shard);
  }

  std::vector<float>& numbers() { return numbers_; }
  bool has(Strategy strategy) const {
    const auto& all = network_->strategies();
    return std::any_of(all.begin(), all.end(),
                       [&](const LayerStrategy& own) { return own.strategy == strategy; });
  }
  uint64_t trained() const { return graph_.trained; }

  // In the units of a sum; how many rows counted as nothing goes to `absent`.
  Sums sums(const Data& data, uint64_t* absent = nullptr) {
    const uint64_t rows = data.labels.size(), views = spec_.augmentation.multiplicity,
                   width = graph_.input().count();
    auto reader = ExampleReader::open(spec_, graph_, data.examples().features, rows).take();
    const auto augment = derive_key(testing::root_of(kRoot), "augment", 0);
    Sums total(graph_.trained, 0);
    std::vector<float> shard_sum(graph_.trained),
        factors(graph_.trained_layers.size() * spec_.shard);
    EXPECT_TRUE(network_->set_parameters(numbers_));
    for (uint64_t first = 0; first < rows; first += spec_.shard) {
      const uint64_t here = std::min<uint64_t>(spec_.shard, rows - first);
      for (uint64_t i = 0; i < here * views; ++i) {
        float* to = network_->input(0) + i * width;
        if (!reader.augments()) {
          reader.read(first + i / views, to);
          continue;
        }
        ChaCha20 random(augment.bytes(SecretAccess()), first * views + i);
        reader.read_view(first + i / views, random, to);
      }
      EXPECT_TRUE(network_->forward(0, {static_cast<uint32_t>(here), true, nullptr, first}));
      for (uint64_t i = 0; i < here * views; ++i) {
        loss_of(spec_.loss, {network_->outputs(0) + i * graph_.outputs, graph_.outputs},
                data.labels[first + i / views], 1.0 / static_cast<double>(views),
                network_->outputs_gradient(0) + i * graph_.outputs);
      }
      EXPECT_TRUE(network_->backward(0));
      std::vector<uint8_t> present(here);
      clip_->factors(network_->norms(0), static_cast<uint32_t>(here), {}, factors, present);
      EXPECT_TRUE(network_->clipped_sum(0, factors, present, shard_sum));
      fixed_.add(shard_sum, total);
      if (absent) *absent += static_cast<uint64_t>(std::count(present.begin(), present.end(), 0));
    }
    return total;
  }

  // What the step would release of them.
  std::vector<float> released(Sums sums) const {
    const auto key = derive_key(testing::root_of(kRoot), "noise", 0);
    std::vector<float> out(sums.size());
    for (uint64_t first = 0; first < sums.size(); first += kNoiseStream) {
      const uint64_t count = std::min<uint64_t>(kNoiseStream, sums.size() - first);
      ChaCha20 random(key.bytes(SecretAccess()), first / kNoiseStream);
      fixed_.release(random, {sums.data() + first, count}, 1.0 / spec_.batch,
                     {out.data() + first, count});
    }
    return out;
  }

 private:
  TrainingSpec spec_;
  Graph graph_;
  std::vector<float> numbers_;
  FixedPoint fixed_;
  std::unique_ptr<Network> network_;
  std::optional<ClipRule> clip_;
};

// The distance of two sums, as a part of C, and whether it is at most C: C in units has 53 bits, of
// which 22 are behind the point.
struct Moved {
  double part = 0;
  bool bounded = false;
};
Moved moved(const Sums& a, const Sums& b, double clip) {
  Wide square = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const int64_t off = a[i] - b[i];
    const auto size = static_cast<Wide>(std::abs(off));
    square += size * size;
  }
  const double units = std::ldexp(clip, 30 - std::ilogb(clip));
  const auto bound = static_cast<Wide>(std::ldexp(units, 22));
  const bool small = square < (Wide{1} << 80);
  return {static_cast<double>(std::sqrt(static_cast<long double>(square)) / units),
          small && (square << 44) <= bound * bound};
}

// The neighbour: this row counts as nothing, in the same place.
Data without(Data data, uint64_t row) {
  const auto width = static_cast<ptrdiff_t>(data.features.size() / data.labels.size());
  // Not its categories, in columns after the first.
  std::fill_n(data.features.begin() + static_cast<ptrdiff_t>(row) * width, width == 5 ? 1 : width,
              std::numeric_limits<float>::quiet_NaN());
  return data;
}

struct Net {
  const char* name;
  TrainingSpec spec;
  Strategy strategy;  // one that has to be among its layers'
  std::optional<Strategy> forced = std::nullopt;
};

std::vector<Net> nets() {
  auto standardized = linear(6);
  standardized.standardize = true;
  auto standardized_convolution = convolution(4, 3, 1, 1);
  standardized_convolution.standardize = true;
  std::vector<Net> out;
  auto add = [&](const char* name, TrainingSpec spec, Strategy strategy) {
    out.push_back({name, std::move(spec), strategy});
  };
  add("ghosts",
      testing::plain_spec(
          {16, 8, 8}, 4,
          {convolution(64, 3, 1, 1), layer(Op::kRelu), convolution(64, 3, 1, 1, 1, false),
           layer(Op::kTanh), layer(Op::kGlobalAvgPool), linear(4)},
          1, 0.1),
      Strategy::kGhost);
  out.back().forced = Strategy::kGhost;
  add("ghosts that are cheaper",
      testing::plain_spec(
          {32, 4, 4}, 4,
          {convolution(128, 3, 1, 1), layer(Op::kTanh), layer(Op::kFlatten), linear(4)}, 1, 0.1),
      Strategy::kGhost);
  add("stored convolutions",
      testing::plain_spec({1, 12, 12}, 4,
                          {convolution(8, 3), layer(Op::kTanh), convolution(8, 3, 2, 0, 2),
                           layer(Op::kRelu), layer(Op::kFlatten), linear(4)},
                          1, 0.1),
      Strategy::kStored);
  add("norms",
      testing::plain_spec({3, 6, 6}, 4,
                          {convolution(8, 3, 1, 1), group_norm(4), layer(Op::kRelu),
                           standardized_convolution, group_norm(1), layer(Op::kFlatten), linear(4)},
                          1, 0.1),
      Strategy::kNorm);
  add("standardised weights",
      testing::plain_spec({10}, 4, {standardized, layer(Op::kTanh), linear(4)}, 1, 0.1),
      Strategy::kExplicit);
  add("linear layers",
      testing::plain_spec(
          {50}, 4, {linear(32), layer(Op::kTanh), linear(8), layer(Op::kRelu), linear(4)}, 1, 0.1),
      Strategy::kGoodfellow);
  add(
      "views",
      [&] {
        auto spec = testing::plain_spec(
            {1, 6, 6}, 4,
            {convolution(4, 3, 1, 1), layer(Op::kRelu), layer(Op::kFlatten), linear(4)}, 1, 0.1);
        spec.augmentation = {true, 1, 4};
        return spec;
      }(),
      Strategy::kGoodfellow);
  add("tables", testing::mixed_columns_spec(), Strategy::kTable);
  return out;
}

// Rows from small to enormous, some nearly constant, some far from zero.
Data wild_data(const TrainingSpec& spec, uint64_t rows, std::mt19937& random) {
  uint64_t width = 1;
  for (uint32_t side : spec.input_shape) width *= side;
  const bool columns = spec.model[0].op == Op::kEmbedding;
  const auto seed = static_cast<uint32_t>(random());
  Data data = columns ? testing::mixed_columns_data(rows, seed)
                      : testing::random_data(rows, width, spec.classes, seed);
  for (uint64_t row = 0; row < rows; ++row) {
    const double scale = std::pow(10.0, static_cast<double>(random() % 9) - 4),
                 offset = random() % 2 ? 0 : static_cast<double>(random() % 100) / 10 - 5,
                 spread = random() % 3 ? 1 : 1e-3;
    for (uint64_t i = 0; i < width; ++i) {
      float& x = data.features[row * width + i];
      if (!columns || i == 0 || i == 2) x = static_cast<float>(scale * (spread * x + offset));
    }
  }
  return data;
}

TrainingSpec private_spec(TrainingSpec spec, Clipping clipping, double clip, uint32_t shard) {
  testing::make_private(spec, 1, clip, 1);
  spec.sampling_threshold = UINT64_MAX;
  spec.privacy->clipping = clipping;
  spec.batch = 64;
  spec.shard = shard;
  spec.steps = 1;
  spec.learning_rate = {{1, 0.01}};
  return spec;
}

TEST(Sensitivity, OneExampleMovesTheIntegersByAtMostCWhateverTheLayersAndTheNumbers) {
  std::mt19937 random(1);
  for (const Net& net : nets()) {
    for (auto clipping : {Clipping::kFlat, Clipping::kPerLayer, Clipping::kAutomatic}) {
      double most = 0;
      for (uint32_t shard : {1U, 8U, 32U}) {
        const double clip = std::pow(10.0, static_cast<double>(random() % 700) / 100 - 4);
        const auto spec = private_spec(net.spec, clipping, clip, shard);
        StepWithoutNoise step(spec, net.forced);
        EXPECT_TRUE(step.has(net.strategy)) << net.name;
        for (int pair = 0; pair < 8; ++pair) {
          const auto rows = 1 + random() % 50;
          const auto data = wild_data(spec, rows, random);
          uint64_t absent = 0, absent_then = 0;
          const auto with = step.sums(data, &absent);
          const auto then = step.sums(without(data, random() % rows), &absent_then);
          EXPECT_EQ(absent_then, absent + 1) << net.name;
          const auto off = moved(with, then, clip);
          EXPECT_TRUE(off.bounded) << net.name << ", shard " << shard << ": " << off.part << " C";
          most = std::max(most, off.part);
        }
      }
      EXPECT_GT(most, 0.9) << net.name << ", clipping " << static_cast<int>(clipping);
    }
  }
}

TEST(Sensitivity, TheEnginesStepReleasesThoseIntegersWithItsNoise) {
  std::mt19937 random(2);
  auto workers = Workers::start(2).take();
  for (const Net& net : nets()) {
    const auto spec = private_spec(net.spec, Clipping::kPerLayer, 0.3, 8);
    StepWithoutNoise step(spec);
    const auto data = wild_data(spec, 29, random);
    auto run = TrainingRun::create(spec, data.examples(), testing::root_of(kRoot), *workers);
    ASSERT_TRUE(run) << net.name << ": " << run.error().expected();
    std::vector<float> seen(step.trained());
    run->watch_releases([&](uint64_t first, std::span<const float> values) {
      std::copy(values.begin(), values.end(), seen.begin() + static_cast<ptrdiff_t>(first));
    });
    ASSERT_TRUE(run->step());
    EXPECT_EQ(seen, step.released(step.sums(data))) << net.name;
  }
}

// ---- sums made to be inexact --------------------------------------------------------

TEST(Sensitivity, ViewsThatCancelAreClippedByWhatTheyMayBlur) {
  // A pixel pair (b + d, b - d) and its mirror image have outputs of k and -k: their gradients are
  // b times as large as their mean, whose sum single precision cannot keep apart from nothing.
  auto plain = testing::plain_spec({1, 1, 2}, 2, {layer(Op::kFlatten), linear(1, false)}, 1, 0.1);
  plain.loss = TrainingSpec::Loss::kMse;
  plain.augmentation = {true, 0, 2};
  std::mt19937 random(3);
  double most = 0;
  for (uint32_t shard : {1U, 4U, 32U}) {
    const auto spec = private_spec(plain, Clipping::kFlat, 1, shard);
    StepWithoutNoise step(spec);
    for (int pair = 0; pair < 300; ++pair) {
      // All products forward are exact.
      step.numbers() = {0x1p48F, -0x1p48F};
      const uint64_t rows = 1 + random() % shard;
      Data data;
      for (uint64_t row = 0; row < rows; ++row) {
        const double b = 1 + std::ldexp(static_cast<double>(random() % 1024), -10),
                     d = std::ldexp(static_cast<double>(1 + random() % 256), -22 + (pair % 3) * 4);
        data.features.push_back(static_cast<float>(b + d));
        data.features.push_back(static_cast<float>(b - d));
        data.labels.push_back(0);
      }
      const auto off =
          moved(step.sums(data), step.sums(without(data, random() % rows)), spec.privacy->clip);
      EXPECT_TRUE(off.bounded) << off.part << " C in a shard of " << shard;
      most = std::max(most, off.part);
    }
  }
  // Where both views are the same there is nothing to cancel.
  EXPECT_GT(most, 0.9);
}

TEST(Sensitivity, PixelsThatCancelAreClippedByWhatTheyMayBlur) {
  // One window of one pixel: the gradient is the sum of x over pixels whose slopes the fixed linear
  // layer behind it sets to 1, and -1 on the other half of the image.
  auto last = linear(1, false);
  last.frozen = true;
  auto plain = testing::plain_spec(
      {1, 8, 8}, 2, {convolution(1, 1, 1, 0, 1, false), layer(Op::kFlatten), last}, 1, 0.1);
  plain.loss = TrainingSpec::Loss::kMse;
  std::mt19937 random(4);
  double most = 0, least = 1;
  for (uint32_t shard : {1U, 8U, 32U}) {
    const auto spec = private_spec(plain, Clipping::kFlat, 1, shard);
    StepWithoutNoise step(spec, Strategy::kGhost);
    EXPECT_TRUE(step.has(Strategy::kGhost));
    for (size_t i = 0; i < 65; ++i) step.numbers()[i] = i > 32 ? -1.0F : 1.0F;
    step.numbers()[0] = 1;
    for (int pair = 0; pair < 100; ++pair) {
      const uint64_t rows = 1 + random() % shard;
      Data data;
      for (uint64_t row = 0; row < rows; ++row) {
        const double spread = std::pow(10.0, -static_cast<double>(pair % 7));
        for (int i = 0; i < 64; ++i) {
          data.features.push_back(static_cast<float>(
              1 + spread * static_cast<double>(random() % 4096) / 4096 * (i % 5 == 0 ? 3 : 1)));
        }
        data.labels.push_back(static_cast<int64_t>(random() % 2));
      }
      const auto off =
          moved(step.sums(data), step.sums(without(data, random() % rows)), spec.privacy->clip);
      EXPECT_TRUE(off.bounded) << off.part << " C in a shard of " << shard;
      most = std::max(most, off.part);
      least = std::min(least, off.part);
    }
  }
  EXPECT_GT(most, 0.9);
  EXPECT_LT(least, 0.5);  // some did cancel
}

TEST(Sensitivity, ASumOnTheEdgeOfAPowerOfTwoStaysWithinTheMargin) {
  // Eight chunks and one more of 64 rows bring the sum to just below 512 C with the one row, just
  // above without its neighbour: from there on single precision rounds twice as coarsely. Each of
  // seven chunks then adds what the one rounding makes one place of and the other two.
  auto plain = testing::plain_spec({1}, 2, {linear(1, false)}, 1, 0.1);
  plain.loss = TrainingSpec::Loss::kMse;
  const auto spec = private_spec(plain, Clipping::kFlat, 1, 1024);
  StepWithoutNoise step(spec);
  step.numbers() = {0};  // w = 0, y = 1: the gradient of x is -2 x
  const double bound = 1 - kClipMargin;
  double most = 0;
  for (double place : {1.1, 1.25, 1.4}) {
    Data data;
    auto add = [&](double gradient) {
      data.features.push_back(static_cast<float>(-gradient / 2));
      data.labels.push_back(1);
    };
    add(1000);  // the one
    double sum = 0.5 * bound;
    while (data.labels.size() < 9 * 64) {
      const double next = std::clamp(512 - sum, 0.0, bound);
      add(next);
      sum += next;
    }
    while (data.labels.size() < 1024) add(data.labels.size() % 64 == 0 ? place * 0x1p-15 : 0);
    const auto off = moved(step.sums(data), step.sums(without(data, 0)), 1);
    EXPECT_TRUE(off.bounded) << off.part << " C";
    most = std::max(most, off.part);
  }
  EXPECT_GT(most, bound + 1e-4);  // it costs more than rounding to integers may
}

}  // namespace
}  // namespace souk::trainer
