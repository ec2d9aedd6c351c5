// Layers that share buffers or passes with their neighbours give what each would give alone.
#include "tests/trainer/engine/network_support.h"

namespace souk::trainer {
namespace {

using contracts::TrainingSpec;
using testing::compare;

TEST(Network, NothingWorksInPlaceOverWhatAMaximumStillNeeds) {
  using Op = Node::Op;
  for (Op after : {Op::kRelu, Op::kTanh, Op::kSigmoid, Op::kDropout}) {
    Node next = testing::layer(after);
    if (after == Op::kDropout) next.rate = 0.5;
    compare(testing::plain_spec(
                {3, 9, 9}, 3,
                {testing::convolution(20, 3), testing::layer(Op::kTanh),
                 testing::pool(Op::kMaxPool, 2, 1), next, testing::pool(Op::kMaxPool, 3, 3),
                 testing::layer(Op::kFlatten), testing::linear(3)},
                1, 0.1),
            15, after == Op::kDropout);
  }
}

TEST(Network, ALayerReadTwiceGetsBothGradients) {
  using Op = Node::Op;
  compare(testing::plain_spec(
              {2, 6, 6}, 3,
              {testing::convolution(4, 3, 1, 1), testing::convolution(4, 3, 1, 1),
               testing::from(testing::convolution(4, 1), {1}), testing::layer(Op::kAdd, {2, 3}),
               testing::layer(Op::kAdd, {4, 4}), testing::layer(Op::kAdd, {5, 1}),
               testing::layer(Op::kFlatten), testing::linear(3)},
              1, 0.1),
          6, false);
}

TEST(Network, ResidualBranchesMeetWhateverTheirOrder) {
  using Op = Node::Op;
  // Two residual blocks, one with an identity and one with a projection, and norms that feed the
  // sums.
  compare(testing::plain_spec({3, 6, 6}, 3,
                              {testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kRelu),  // 1-3
                               testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kRelu),  // 4-6
                               testing::convolution(8, 3, 1, 1),
                               testing::group_norm(4),
                               testing::layer(Op::kAdd, {8, 3}),  // 7-9
                               testing::layer(Op::kRelu),
                               testing::convolution(12, 3, 2, 1),
                               testing::group_norm(4),  // 10-12
                               testing::layer(Op::kRelu),
                               testing::convolution(12, 3, 1, 1),
                               testing::group_norm(4),  // 13-15
                               testing::from(testing::convolution(12, 1, 2), {10}),
                               testing::layer(Op::kAdd, {15, 16}),  // 16-17
                               testing::layer(Op::kRelu),
                               testing::layer(Op::kGlobalAvgPool),
                               testing::linear(3)},
                              1, 0.1),
          13, false);
  // The identity on the left, a norm with two readers, a sum of sums.
  compare(testing::plain_spec({3, 6, 6}, 3,
                              {testing::convolution(8, 3, 1, 1), testing::group_norm(4),
                               testing::convolution(8, 1),  // 1-3
                               testing::layer(Op::kAdd, {2, 3}), testing::group_norm(2),
                               testing::layer(Op::kAdd, {4, 5}),  // 4-6
                               testing::layer(Op::kAdd, {6, 1}), testing::layer(Op::kTanh),
                               testing::layer(Op::kGlobalAvgPool), testing::linear(3)},
                              1, 0.1),
          14, false);
}

TEST(Network, MaximaAndWindowsIgnorePadding) {
  // All inputs negative: a padded zero must not win a maximum, nor dilute a mean.
  auto spec = testing::plain_spec({1, 3, 3}, 2,
                                  {testing::pool(Node::Op::kMaxPool, 2, 2, 1),
                                   testing::from(testing::pool(Node::Op::kAvgPool, 2, 2, 1), {0}),
                                   testing::layer(Node::Op::kConcat, {1, 2}),
                                   testing::layer(Node::Op::kFlatten), testing::linear(2)},
                                  1, 0.1);
  Graph graph = build_graph(spec).take();
  NetworkSettings settings;
  settings.shard = 1;
  auto network = Network::compile(graph, settings).take();
  std::vector<float> parameters(graph.parameters, 0.0F);
  parameters[0] = 1;      // logit 0: the first maximum
  parameters[8 + 4] = 1;  // logit 1: the first mean
  ASSERT_TRUE(network->set_parameters(parameters));
  for (int i = 0; i < 9; ++i) network->input(0)[i] = -1.0F - static_cast<float>(i);
  ASSERT_TRUE(network->forward(0, {.examples = 1}));
  EXPECT_EQ(network->outputs(0)[0], -1);
  EXPECT_EQ(network->outputs(0)[1], -1);
}

Node leaky(double slope) {
  Node node = testing::layer(Node::Op::kLeakyRelu);
  node.slope = slope;
  return node;
}

TEST(Fusion, ANormUndoesTheRectifierBehindIt) {
  using Op = Node::Op;
  for (const Node& rectifier : {testing::layer(Op::kRelu), leaky(0.1), leaky(0.0)}) {
    for (bool first : {false, true}) {
      std::vector<Node> model{testing::group_norm(3),
                              rectifier,
                              testing::convolution(6, 3, 1, 1),
                              testing::layer(Op::kLayerNorm),
                              rectifier,
                              testing::layer(Op::kFlatten),
                              testing::linear(3)};
      if (first) model.insert(model.begin(), testing::convolution(6, 3, 1, 1));
      compare(testing::plain_spec({6, 5, 7}, 3, model, 1, 0.1), 21, false);
    }
  }
}

TEST(Fusion, AMaximumUndoesTheRectifierBeforeIt) {
  using Op = Node::Op;
  for (const Node& rectifier : {testing::layer(Op::kRelu), leaky(0.1)}) {
    for (const Node& pool :
         {testing::pool(Op::kMaxPool, 2, 2), testing::pool(Op::kMaxPool, 3, 2, 1)}) {
      compare(testing::plain_spec({3, 8, 8}, 3,
                                  {testing::convolution(9, 3, 1, 1), rectifier, pool,
                                   testing::convolution(8, 1), testing::group_norm(2), rectifier,
                                   pool, testing::layer(Op::kFlatten), testing::linear(3)},
                                  1, 0.1),
              22, false);
    }
  }
}

TEST(Fusion, BehindAResidualSumTheOtherBranchGetsItsOwn) {
  using Op = Node::Op;
  for (const Node& rectifier : {testing::layer(Op::kRelu), leaky(0.2)}) {
    for (bool pooled : {false, true}) {
      compare(testing::plain_spec({4, 6, 6}, 3,
                                  {testing::convolution(8, 3, 1, 1),           // 1
                                   testing::group_norm(4),                     // 2
                                   rectifier,                                  // 3
                                   testing::convolution(8, 3, 1, 1),           // 4
                                   testing::group_norm(2),                     // 5
                                   testing::layer(Op::kAdd, {5, 3}),           // 6
                                   rectifier,                                  // 7
                                   pooled ? testing::pool(Op::kMaxPool, 2, 2)  // 8
                                          : testing::convolution(5, 3),
                                   testing::layer(Op::kFlatten), testing::linear(3)},
                                  1, 0.1),
              23, false);
    }
  }
}

}  // namespace
}  // namespace souk::trainer
