#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "contracts/training/shard.h"

namespace souk::contracts {
namespace {

using Op = Node::Op;

Node node(Op op, uint32_t units = 0, uint32_t kernel = 1, uint32_t stride = 1,
          uint32_t padding = 0) {
  Node out;
  out.op = op;
  out.units = units;
  out.kernel = kernel;
  out.stride = stride;
  out.padding = padding;
  return out;
}

// A residual network with one of nearly everything.
TrainingSpec sample_spec() {
  TrainingSpec spec;
  spec.input_shape = {3, 8, 8};
  spec.input_mean = {0.5};
  spec.input_scale = {2};
  spec.classes = 10;
  spec.model = {node(Op::kConv2d, 8, 3, 1, 1),
                node(Op::kGroupNorm),
                node(Op::kRelu),
                node(Op::kConv2d, 8, 3, 1, 1),
                node(Op::kAdd),
                node(Op::kConcat),
                node(Op::kMaxPool, 0, 2, 2),
                node(Op::kLeakyRelu),
                node(Op::kAvgPool, 0, 2, 2),
                node(Op::kFlatten),
                node(Op::kDropout),
                node(Op::kLinear, 10)};
  spec.model[1].groups = 4;
  spec.model[4].inputs = {4, 2};
  spec.model[5].inputs = {5, 3};
  spec.model[10].rate = 0.25;
  spec.steps = 100;
  spec.batch = 50;
  spec.sampling_threshold = uint64_t{1} << 60;
  spec.learning_rate = {{60, 0.1}, {40, 0.01}};
  spec.optimizer.momentum = 0.9;
  spec.seed = UINT64_MAX;
  spec.privacy = PrivacySpec{1.0, 1.1, 2000000, 10000000};
  return spec;
}

TEST(TrainingSpec, ShapesAndParametersAreInferred) {
  auto shape = check_spec(sample_spec());
  ASSERT_TRUE(shape) << shape.error().expected();
  EXPECT_EQ(shape->outputs[6].channels, 16u);
  EXPECT_EQ(shape->outputs[10].channels, 16u * 2 * 2);
  EXPECT_EQ(shape->parameters, (3u * 8 * 9 + 8) + 16 + (8u * 8 * 9 + 8) + (64u * 10 + 10));
}

TEST(TrainingSpec, ReadsBackAsItselfFromCanonicalText) {
  auto adam = sample_spec();
  adam.optimizer = Optimizer{};
  adam.optimizer.kind = Optimizer::Kind::kAdam;
  adam.privacy.reset();
  adam.shuffle = true;
  adam.sampling_threshold = 0;
  for (const auto& spec : {sample_spec(), adam}) {
    const std::string text = canonical(to_json(spec));
    auto json = parse_canonical(text);
    ASSERT_TRUE(json);
    auto back = training_spec_from_json(*json);
    ASSERT_TRUE(back) << back.error().expected();
    EXPECT_EQ(*back, spec);
    EXPECT_EQ(canonical(to_json(*back)), text);
  }
}

// Flat examples with two categorical columns, and everything else that images do not have.
TrainingSpec tabular_spec() {
  TrainingSpec spec;
  spec.input_shape = {5};
  spec.classes = 2;
  spec.loss = TrainingSpec::Loss::kBce;
  Node embedding = node(Op::kEmbedding, 4), columns = node(Op::kColumns);
  embedding.inputs = columns.inputs = {0};
  embedding.categories = 7;
  embedding.columns = {1, 3};
  columns.columns = {0, 2, 4};
  Node join = node(Op::kConcat);
  join.inputs = {1, 2};
  spec.model = {embedding,
                columns,
                join,
                node(Op::kLinear, 6),
                node(Op::kLayerNorm),
                node(Op::kGelu),
                node(Op::kBatchNorm),
                node(Op::kLinear, 1)};
  spec.model[3].standardize = true;
  spec.model[0].frozen = true;
  spec.steps = 10;
  spec.batch = 4;
  spec.shuffle = true;
  spec.learning_rate = {{10, 0.1}};
  spec.optimizer.weight_decay = 0.01;
  spec.optimizer.decay = Optimizer::Decay::kCoupled;
  spec.accumulate = 2;
  spec.ema = 0.99;
  spec.dtype = TrainingSpec::Dtype::kBf16;
  return spec;
}

TEST(TrainingSpec, TheWholeVocabularyReadsBack) {
  auto images = sample_spec();
  images.augmentation = {true, 2, 8};
  images.loss = TrainingSpec::Loss::kMse;
  images.privacy->clipping = PrivacySpec::Clipping::kAutomatic;
  for (const auto& spec : {tabular_spec(), images}) {
    auto checked = check_spec(spec);
    ASSERT_TRUE(checked) << checked.error().expected();
    auto back = training_spec_from_json(to_json(spec));
    ASSERT_TRUE(back) << back.error().expected();
    EXPECT_EQ(*back, spec);
  }
  auto shape = check_spec(tabular_spec());
  EXPECT_EQ(shape->outputs[1].channels, 8u);
  EXPECT_EQ(shape->outputs[3].channels, 11u);
  EXPECT_EQ(shape->parameters, 28u + (66 + 6) + 12 + 12 + 7);
  EXPECT_EQ(shape->trained, shape->parameters - 28);
}

TEST(TrainingSpec, TheWholeVocabularyHasItsLimits) {
  struct Lie {
    const char* named;
    std::function<void(TrainingSpec&)> tell;
  };
  for (const Lie& lie : std::vector<Lie>{
           {"model[1].columns",
            [](auto& s) {
              s.model[0].columns = {3, 1};
            }},
           {"model[1].columns", [](auto& s) { s.model[0].columns = {5}; }},
           {"model[1].columns", [](auto& s) { s.model[0].columns = {}; }},
           {"model[1].categories", [](auto& s) { s.model[0].categories = 0; }},
           {"model[2].columns",
            [](auto& s) {
              s.model[1].columns = {0, 1};
            }},
           {"model[3]: expected embedding or columns",
            [](auto& s) {
              s.model[2].inputs = {1, 2, 0};
            }},
           {"model[2].inputs",
            [](auto& s) {
              std::swap(s.model[0], s.model[1]);
              s.model[1].inputs = {1};
              s.model[0].op = Op::kTanh;
              s.model[0].columns = {};
            }},
           {"give 2", [](auto& s) { s.model[7].units = 3; }},
           {"give 2", [](auto& s) { s.loss = TrainingSpec::Loss::kSoftmaxCrossEntropy; }},
           {"give 3", [](auto& s) { s.classes = 3; }},
           {"use group_norm",
            [](auto& s) {
              s.shuffle = false;
              s.sampling_threshold = 1;
              s.privacy = PrivacySpec{};
              s.privacy->epsilon_micro = s.privacy->delta_pico = 1;
            }},
           {"accumulate", [](auto& s) { s.accumulate = 3; }},
           {"accumulate", [](auto& s) { s.accumulate = 0; }},
           {"ema", [](auto& s) { s.ema = 1; }},
           {"augmentation", [](auto& s) { s.augmentation.flip = true; }},
           {"augmentation.multiplicity", [](auto& s) { s.augmentation.multiplicity = 0; }},
           {"augmentation.crop", [](auto& s) { s.augmentation.crop = 65; }},
           {"shard",
            [](auto& s) {
              s.shard = 4096;
              s.augmentation.multiplicity = 2;
            }},
           {"something to train",
            [](auto& s) {
              for (auto& n : s.model)
                n.frozen = n.op != Op::kGelu && n.op != Op::kConcat && n.op != Op::kColumns;
            }},
           {"model[6]", [](auto& s) { s.model[5].frozen = true; }},
           {"model[6]", [](auto& s) { s.model[5].standardize = true; }},
       }) {
    auto spec = tabular_spec();
    lie.tell(spec);
    auto refused = check_spec(spec);
    ASSERT_FALSE(refused) << lie.named;
    EXPECT_NE(refused.error().expected().find(lie.named), std::string::npos)
        << lie.named << ": " << refused.error().expected();
  }
}

// An image, scattered, normalised by itself, and one linear layer on it.
TrainingSpec scattered_spec() {
  auto spec = sample_spec();
  spec.input_shape = {2, 12, 9};
  spec.classes = 2;
  Node scattering = node(Op::kScattering), norm = node(Op::kGroupNorm);
  scattering.scales = 2;
  scattering.orientations = 3;
  norm.groups = 2;
  norm.frozen = true;
  spec.model = {scattering, norm, node(Op::kFlatten), node(Op::kLinear, 2)};
  return spec;
}

TEST(TrainingSpec, AScatteringHasAShapeOfItsOwnAndNoParameters) {
  auto spec = scattered_spec();
  auto shape = check_spec(spec);
  ASSERT_TRUE(shape) << shape.error().expected();
  EXPECT_EQ(shape->outputs[1].channels, 2u * (1 + 2 * 3 + 9));
  EXPECT_EQ(shape->outputs[1].height, 3u);
  EXPECT_EQ(shape->outputs[1].width, 2u);
  EXPECT_EQ(shape->trained, 32u * 6 * 2 + 2);
  auto back = training_spec_from_json(to_json(spec));
  ASSERT_TRUE(back) << back.error().expected();
  EXPECT_EQ(*back, spec);
}

TEST(TrainingSpec, AScatteringHasItsLimits) {
  struct Lie {
    const char* named;
    std::function<void(TrainingSpec&)> tell;
  };
  for (const Lie& lie : std::vector<Lie>{
           {"model[1].scales", [](auto& s) { s.model[0].scales = 0; }},
           {"model[1].scales", [](auto& s) { s.model[0].scales = 5; }},
           {"model[1].orientations", [](auto& s) { s.model[0].orientations = 0; }},
           {"model[1].orientations", [](auto& s) { s.model[0].orientations = 17; }},
           {"16 to 256 pixels", [](auto& s) { s.model[0].scales = 4; }},
           {"4 to 256 pixels",
            [](auto& s) {
              s.input_shape = {2, 12, 257};
            }},
           {"only the fields that scattering has", [](auto& s) { s.model[0].frozen = true; }},
           {"only the fields that linear has", [](auto& s) { s.model[3].scales = 2; }},
           {"expected the example, 0", [](auto& s) { std::swap(s.model[0], s.model[1]); }},
       }) {
    auto spec = scattered_spec();
    lie.tell(spec);
    auto refused = check_spec(spec);
    ASSERT_FALSE(refused) << lie.named;
    EXPECT_NE(refused.error().expected().find(lie.named), std::string::npos)
        << lie.named << ": " << refused.error().expected();
  }
}

TEST(TrainingSpec, AFrozenBatchNormMixesNobodyAndMayBePrivate) {
  auto spec = tabular_spec();
  spec.shuffle = false;
  spec.sampling_threshold = 1;
  spec.privacy = PrivacySpec{1, 1, 1, 1};
  EXPECT_FALSE(check_spec(spec));
  spec.model[6].frozen = true;
  EXPECT_TRUE(check_spec(spec));
}

TEST(TrainingSpec, EveryMemberIsNeededAndNoOtherIsTaken) {
  const Json whole = to_json(sample_spec());
  for (const auto& [name, value] : *whole.object()) {
    Json less = whole;
    less.object()->erase(name);
    EXPECT_FALSE(training_spec_from_json(less)) << name;
    Json wrong = whole;
    (*wrong.object())[name] = Json("x");
    EXPECT_FALSE(training_spec_from_json(wrong)) << name;
  }
  Json more = whole;
  (*more.object())["extra"] = 1;
  EXPECT_FALSE(training_spec_from_json(more));
  Json stray = whole;
  (*(*(*stray.object())["model"].array())[2].object())["units"] = 4;
  EXPECT_FALSE(training_spec_from_json(stray));
  Json odd = whole;
  (*odd.object())["input_mean"] = Json::Array{"0.5", "0.50"};
  EXPECT_TRUE(training_spec_from_json(odd).error().expected().starts_with("spec.input_mean[2]: "))
      << training_spec_from_json(odd).error().expected();
  for (const char* number : {"0100", "-1", "18446744073709551616", "", "1.0", " 1"}) {
    Json seed = whole;
    (*seed.object())["seed"] = number;
    EXPECT_FALSE(training_spec_from_json(seed)) << number;
  }
}

TEST(TrainingSpec, HasNoRoomForANoiseRootOfItsAuthors) {
  // `seed` is that of the initial weights, which are public; noise comes from the run's own root.
  TrainingSpec spec = sample_spec();
  spec.shuffle = false;
  spec.sampling_threshold = uint64_t{1} << 60;
  spec.privacy = PrivacySpec{1, 1, 1'000'000, 10'000'000};
  const Json whole = to_json(spec);
  ASSERT_TRUE(training_spec_from_json(whole));
  for (const char* name : {"noise_root", "noise_seed", "root", "random", "seed"}) {
    Json inside = whole;
    (*(*inside.object())["privacy"].object())[name] = std::string(64, '0');
    EXPECT_FALSE(training_spec_from_json(inside)) << name;
    if (std::string_view(name) == "seed") continue;
    Json beside = whole;
    (*beside.object())[name] = std::string(64, '0');
    EXPECT_FALSE(training_spec_from_json(beside)) << name;
  }
}

TEST(TrainingSpec, InitialWeightsAreNamedByDigestOrNotAtAll) {
  TrainingSpec spec = sample_spec();
  EXPECT_EQ(to_json(spec).find("initial"), nullptr);
  spec.initial = Digest{7};
  Json json = to_json(spec);
  EXPECT_EQ(training_spec_from_json(json).take(), spec);
  for (Json wrong : {Json(nullptr), Json(""), Json("07"), Json(std::string(64, 'A'))}) {
    (*json.object())["initial"] = wrong;
    EXPECT_FALSE(training_spec_from_json(json));
  }
}

TEST(TrainingSpec, APoolSaysHowEachDatasetTakesPart) {
  TrainingSpec spec = sample_spec();
  EXPECT_EQ(to_json(spec).find("privacy")->find("pool"), nullptr);
  // Without one, every dataset is the whole.
  EXPECT_EQ(member_of(spec, 3), (PoolMember{1.0, 2000000, uint64_t{1} << 60}));
  EXPECT_EQ(noise_on(spec, 3), 1.1);
  spec.privacy->pool = {{1.0, 700000, uint64_t{1} << 60}, {0.25, 2000000, uint64_t{1} << 58}};
  EXPECT_EQ(training_spec_from_json(to_json(spec)).take(), spec);
  EXPECT_EQ(member_of(spec, 1), spec.privacy->pool[1]);
  EXPECT_EQ(noise_on(spec, 0), 1.1);
  EXPECT_LE(noise_on(spec, 1), 4.4);
  EXPECT_GE(noise_on(spec, 1), 4.4 * (1 - 1e-14));
  auto refused = [&](const std::function<void(TrainingSpec&)>& change) {
    auto other = spec;
    change(other);
    return !check_spec(other) && !training_spec_from_json(to_json(other));
  };
  auto pool = [](TrainingSpec& s) -> PoolMember& { return s.privacy->pool[1]; };
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(refused([&](auto& s) { pool(s).clip = 0.1249; }));  // below an eighth
  EXPECT_TRUE(refused([&](auto& s) { pool(s).clip = 1.01; }));
  EXPECT_TRUE(refused([&](auto& s) { pool(s).clip = -0.25; }));
  EXPECT_TRUE(refused([&](auto& s) { pool(s).epsilon_micro = 0; }));
  EXPECT_TRUE(refused([&](auto& s) { pool(s).sampling_threshold = 0; }));
  // The contract's own numbers are the largest of its datasets'.
  EXPECT_TRUE(refused([&](auto& s) { pool(s).epsilon_micro = 2000001; }));
  EXPECT_TRUE(refused([&](auto& s) { pool(s).epsilon_micro = 1; }));
  EXPECT_TRUE(refused([&](auto& s) { s.sampling_threshold += 1; }));
  EXPECT_TRUE(refused([&](auto& s) { s.privacy->clip = 1.5; }));
  EXPECT_TRUE(refused([&](auto& s) { s.privacy->pool.resize(17, s.privacy->pool[0]); }));
  // Where all are alike there is none, so that a specification has one text.
  EXPECT_TRUE(refused([&](auto& s) { s.privacy->pool = {{1.0, 2000000, uint64_t{1} << 60}}; }));
  auto broken = spec;
  pool(broken).clip = nan;
  EXPECT_FALSE(check_spec(broken));
  Json empty = to_json(sample_spec());
  (*(*empty.object())["privacy"].object())["pool"] = Json::Array{};
  EXPECT_FALSE(training_spec_from_json(empty));
}

TEST(TrainingSpec, ImpossibleSpecificationsAreNamed) {
  struct Lie {
    const char* named;
    std::function<void(TrainingSpec&)> tell;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Lie& lie : std::vector<Lie>{
           {"input.shape",
            [](auto& s) {
              s.input_shape = {3, 8};
            }},
           {"input.shape",
            [](auto& s) {
              s.input_shape = {3, 0, 8};
            }},
           {"input.mean",
            [](auto& s) {
              s.input_mean = {1, 2};
            }},
           {"input.scale", [](auto& s) { s.input_scale = {0}; }},
           {"input.scale", [&](auto& s) { s.input_scale = {nan}; }},
           {"classes", [](auto& s) { s.classes = 1; }},
           {"give 11", [](auto& s) { s.classes = 11; }},
           {"spec.model", [](auto& s) { s.model.clear(); }},
           {"model[2].groups", [](auto& s) { s.model[1].groups = 3; }},
           {"model[5]",
            [](auto& s) {
              s.model[4].inputs = {4, 1, 2};
            }},
           {"model[5]", [](auto& s) { s.model[4].inputs = {}; }},
           {"model[5].inputs",
            [](auto& s) {
              s.model[4].inputs = {4, 5};
            }},
           {"model[3]",
            [](auto& s) {
              s.model[3].inputs = {2};
              s.model[5].inputs = {5, 2};
            }},
           {"model[12]", [](auto& s) { s.model[9] = node(Op::kTanh); }},
           {"model[7]", [](auto& s) { s.model[6].kernel = 9; }},
           {"model[7]", [](auto& s) { s.model[6].padding = 2; }},
           {"model[7]", [](auto& s) { s.model[6].stride = 0; }},
           {"model[8].slope", [&](auto& s) { s.model[7].slope = nan; }},
           {"model[11].rate", [](auto& s) { s.model[10].rate = 1; }},
           {"model[3]", [](auto& s) { s.model[2].units = 1; }},
           {"parameters",
            [](auto& s) {
              s.model[11].units = 65536;
              s.model.push_back(node(Op::kLinear, 65536));
              s.model.push_back(node(Op::kLinear, 10));
            }},
           {"steps", [](auto& s) { s.steps = 0; }},
           {"batch", [](auto& s) { s.batch = 65537; }},
           {"shard", [](auto& s) { s.shard = 0; }},
           {"learning_rate", [](auto& s) { s.learning_rate[0].steps = 61; }},
           {"learning_rate", [&](auto& s) { s.learning_rate[0].value = nan; }},
           {"learning_rate", [](auto& s) { s.learning_rate[0].value = -1; }},
           {"optimizer.momentum", [](auto& s) { s.optimizer.momentum = 1; }},
           {"optimizer", [](auto& s) { s.optimizer.kind = Optimizer::Kind::kAdam; }},
           {"optimizer.nesterov",
            [](auto& s) {
              s.optimizer.momentum = 0;
              s.optimizer.nesterov = true;
            }},
           {"shuffle",
            [](auto& s) {
              s.shuffle = true;
              s.sampling_threshold = 0;
            }},
           {"sampling_threshold", [](auto& s) { s.sampling_threshold = 0; }},
           {"privacy.clip", [](auto& s) { s.privacy->clip = 0; }},
           {"privacy.noise_multiplier", [&](auto& s) { s.privacy->noise_multiplier = nan; }},
           {"privacy.epsilon_micro", [](auto& s) { s.privacy->epsilon_micro = 0; }},
           {"privacy.delta_pico", [](auto& s) { s.privacy->delta_pico = 1'000'000'000'000; }},
       }) {
    auto spec = sample_spec();
    lie.tell(spec);
    auto refused = check_spec(spec);
    ASSERT_FALSE(refused) << lie.named;
    EXPECT_EQ(refused.error().code(), Code::kMalformed);
    EXPECT_NE(refused.error().expected().find(lie.named), std::string::npos)
        << lie.named << ": " << refused.error().expected();
  }
}

TEST(TrainingSpec, AUsualBatchIsSharedEvenlyByTwoThreads) {
  for (bool flat : {false, true}) {
    auto spec = sample_spec();
    if (flat) {
      spec.input_shape = {784};
      spec.model = {node(Op::kLinear, 256), node(Op::kRelu), node(Op::kLinear, 10)};
    }
    const auto shape = check_spec(spec).take();
    for (spec.batch = 64; spec.batch <= 1024; ++spec.batch) {
      const uint32_t shard = usual_shard(spec, shape), shards = (spec.batch + shard - 1) / shard;
      ASSERT_GE(shard, 8U);
      ASSERT_LE(shard, flat ? 256U : 32U) << spec.batch;
      // Whole shards to the busier one, which half the batch would be at best.
      ASSERT_LE((shards + 1) / 2 * shard * 2.0, spec.batch * 1.15) << spec.batch;
    }
  }
}

TEST(TrainingSpec, AUsualShardIsNotHalvedForTooLittleWork) {
  auto spec = sample_spec();
  spec.batch = 32;
  EXPECT_EQ(usual_shard(spec, check_spec(spec).take()), 32U);
  spec.batch = 3;
  EXPECT_EQ(usual_shard(spec, check_spec(spec).take()), 8U);
  spec.input_shape = {100};
  spec.model = {node(Op::kLinear, 10)};  // 1,010 numbers: 256 examples are 0.3 million products
  spec.batch = 256;
  EXPECT_EQ(usual_shard(spec, check_spec(spec).take()), 256U);
  // Wide examples, or many views of each, are fewer at once.
  spec.input_shape = {65536};
  EXPECT_EQ(usual_shard(spec, check_spec(spec).take()), 32U);
}

// Ten convolutions of 64 on 64 channels: 0.37 million numbers in one image's gradient.
TEST(TrainingSpec, AUsualPrivateShardIsHalvedWhereItKeepsMoreThanTwoToThe23Numbers) {
  auto spec = sample_spec();
  spec.input_shape = {64, 14, 14};
  spec.model.assign(10, node(Op::kConv2d, 64, 3, 1, 1));
  spec.model.push_back(node(Op::kGlobalAvgPool));
  spec.model.push_back(node(Op::kLinear, 10));
  auto shard = [&] { return usual_shard(spec, check_spec(spec).take()); };
  for (spec.batch = 64; spec.batch <= 256; spec.batch *= 2) EXPECT_EQ(shard(), 16U) << spec.batch;
  spec.batch = 128;
  spec.model.erase(spec.model.begin(), spec.model.begin() + 3);  // 32 * 7 * 36,864 < 2^23
  EXPECT_EQ(shard(), 32U);
  spec.model.insert(spec.model.begin(), 30, node(Op::kConv2d, 64, 3, 1, 1));
  EXPECT_EQ(shard(), 16U);  // and never fewer
  const auto many = spec;
  spec.privacy.reset();
  EXPECT_EQ(shard(), 32U);  // only privacy keeps them
  spec = many;
  for (auto& layer : spec.model) layer.frozen = layer.op == Op::kConv2d;
  EXPECT_EQ(shard(), 32U);
  // 7 x 7 pixels: their products are fewer than the weights, if there is one view of each image.
  spec = many;
  spec.input_shape = {64, 7, 7};
  for (auto& layer : spec.model) layer.units = layer.op == Op::kConv2d ? 128 : layer.units;
  EXPECT_EQ(shard(), 32U);
  const auto few_pixels = spec;
  spec.augmentation.multiplicity = 2;
  EXPECT_EQ(shard(), 16U);
  spec = few_pixels;
  for (auto& layer : spec.model) layer.standardize = layer.op == Op::kConv2d;
  EXPECT_EQ(shard(), 16U);
  spec = few_pixels;
  for (auto& layer : spec.model) layer.groups = layer.op == Op::kConv2d ? 2 : 1;
  EXPECT_EQ(shard(), 16U);
}

}  // namespace
}  // namespace souk::contracts
