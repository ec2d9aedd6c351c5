#include <gtest/gtest.h>

#include "market_api/client/local_files.h"
#include "tests/market_api/client/models_support.h"

namespace souk::market {
namespace {

using testing::Op;

const char* const kNet =
    "[net]\nheight=8\nwidth=8\nchannels=1\nbatch=16\nmax_batches=10\nlearning_rate=0.1\n";

std::string error_of(const std::string& layers, const std::string& net = kNet) {
  auto darknet = parse_darknet(net + layers, DarknetNorm::kBatch);
  return darknet ? "no error" : darknet.error().expected();
}

TEST(Darknet, ThePliniusNetworkIsReadAsItStands) {
  const char* source = std::getenv("SOUK_SOURCE");
  ASSERT_TRUE(source);
  auto text =
      load_file(std::string(source) + "/examples/architectures/plinius_mnist.cfg", 1 << 20).take();
  auto darknet = parse_darknet(as_text(text), DarknetNorm::kBatch).take();
  const auto& spec = darknet.spec;
  EXPECT_EQ(spec.steps, 500u);
  EXPECT_EQ(spec.batch, 128u);
  EXPECT_EQ(spec.classes, 10u);
  EXPECT_EQ(std::count_if(spec.model.begin(), spec.model.end(),
                          [](const auto& n) { return n.op == Op::kConv2d; }),
            12);
  EXPECT_EQ(std::count_if(spec.model.begin(), spec.model.end(),
                          [](const auto& n) { return n.op == Op::kBatchNorm; }),
            11);
  EXPECT_EQ(spec.learning_rate.front().value, 0.1);
  EXPECT_NEAR(spec.learning_rate[250].value, 0.1 * std::pow(0.5, 4), 1e-12);
  auto shape = contracts::check_spec(spec).take();
  EXPECT_EQ(shape.outputs.back().channels, 10u);
  // 390k parameters, as the paper's 12-layer network: 3x3 convolutions and two for each channel.
  EXPECT_EQ(shape.parameters, uint64_t{32 * 9 + 64 + 64 * 32 * 9 + 128 + 8 * (64 * 64 * 9 + 128) +
                                       128 * 64 * 9 + 256 + 128 * 10 + 10});
}

TEST(Darknet, BatchNormBecomesGroupsWherePrivacyWantsIt) {
  const std::string layers =
      "[convolutional]\nbatch_normalize=1\nfilters=6\nsize=3\npad=1\nactivation=leaky\n[avgpool]\n["
      "softmax]\n";
  auto batch = parse_darknet(kNet + layers, DarknetNorm::kBatch).take();
  auto group = parse_darknet(kNet + layers, DarknetNorm::kGroup).take();
  ASSERT_EQ(batch.spec.model.size(), 4u);
  EXPECT_FALSE(batch.spec.model[0].bias);
  EXPECT_EQ(batch.spec.model[1].op, Op::kBatchNorm);
  EXPECT_EQ(group.spec.model[1], testing::group_norm(3));
  EXPECT_EQ(group.spec.model[2], testing::leaky(0.1));
}

TEST(Darknet, ShortcutsAndRoutesReadEarlierSections) {
  auto darknet =
      parse_darknet(
          std::string(kNet) +
              "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=relu\n"  // section 1, layer 0
              "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=linear\n"  // layer 1
              "[shortcut]\nfrom=-2\nactivation=relu\n"                          // layer 2
              "[route]\nlayers=-1,0\n"                                          // layer 3
              "[maxpool]\nsize=2\nstride=2\n[connected]\noutput=3\nactivation=linear\n[softmax]\n["
              "cost]\n",
          DarknetNorm::kBatch)
          .take();
  const auto& model = darknet.spec.model;
  ASSERT_EQ(model.size(), 9u);
  EXPECT_EQ(model[3], testing::layer(Op::kAdd, {3, 2}));
  EXPECT_EQ(model[5], testing::layer(Op::kConcat, {5, 2}));
  EXPECT_EQ(model[6], testing::pool(Op::kMaxPool, 2, 2));
  EXPECT_EQ(model[7].op, Op::kFlatten);
  EXPECT_EQ(contracts::check_spec(darknet.spec)->outputs[6].channels, 8u);
}

TEST(Darknet, SchedulesAreDarknets) {
  auto rates = [](const std::string& policy) {
    auto darknet =
        parse_darknet(std::string("[net]\ninputs=4\nbatch=2\nmax_batches=6\nlearning_rate=0.5\n") +
                          policy + "[connected]\noutput=2\nactivation=linear\n[softmax]\n",
                      DarknetNorm::kBatch);
    std::vector<double> each;
    if (!darknet) return each;
    for (const auto& rate : darknet->spec.learning_rate)
      each.insert(each.end(), rate.steps, rate.value);
    return each;
  };
  EXPECT_EQ(rates("policy=constant\n"), std::vector<double>(6, 0.5));
  EXPECT_EQ(rates("policy=steps\nsteps=2,4\nscales=.5,.5\n"),
            (std::vector<double>{0.5, 0.5, 0.25, 0.25, 0.125, 0.125}));
  EXPECT_EQ(rates("policy=step\nstep=3\nscale=.5\n"),
            (std::vector<double>{0.5, 0.5, 0.5, 0.25, 0.25, 0.25}));
  EXPECT_EQ(rates("burn_in=2\npower=1\n"), (std::vector<double>{0.25, 0.5, 0.5, 0.5, 0.5, 0.5}));
  EXPECT_EQ(rates("policy=random\n"), std::vector<double>());
}

TEST(Darknet, TheFirstThingWithoutACounterpartIsNamed) {
  EXPECT_EQ(error_of("[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=relu\n[upsample]"
                     "\nstride=2\n[yolo]\n"),
            "darknet: line 13, section 2 [upsample]: this section is not supported");
  EXPECT_EQ(error_of("[convolutional]\nfilters=4\nactivation=mish\n"),
            "darknet: line 8, section 1 [convolutional]: activation=mish is not supported");
  EXPECT_EQ(error_of("[convolutional]\nfilters=4\ndilation=2\nactivation=relu\n"),
            "darknet: line 8, section 1 [convolutional]: dilation: this setting is not supported");
  EXPECT_EQ(
      error_of("[maxpool]\nsize=2\nstride=1\n"),
      "darknet: line 8, section 1 [maxpool]: windows over one edge of the image are not supported");
}

TEST(Darknet, RefusesTextThatIsNoNetwork) {
  EXPECT_EQ(error_of("", ""), "darknet: expected [net] first");
  EXPECT_EQ(error_of("[convolutional\n"), "darknet: line 8: expected a closing bracket");
  EXPECT_EQ(error_of("[convolutional]\nfilters\n"),
            "darknet: line 9: expected [section] or key=value");
  EXPECT_EQ(error_of("[convolutional]\nfilters=many\n"),
            "darknet: line 8, section 1 [convolutional]: filters: expected a number");
  EXPECT_EQ(error_of("[shortcut]\nfrom=-3\n"),
            "darknet: line 8, section 1 [shortcut]: from: expected an earlier layer");
}

TEST(ModelPart, IsWrittenAndReadAsPartOfASpecification) {
  auto part = testing::picture_network();
  EXPECT_EQ(model_part_from_json(to_json(part)).take(), part);
  Json wrong = to_json(part);
  wrong.object()->erase("classes");
  EXPECT_FALSE(model_part_from_json(wrong));
  wrong = to_json(part);
  (*wrong.object())["steps"] = 3;
  EXPECT_FALSE(model_part_from_json(wrong));
}

}  // namespace
}  // namespace souk::market
