// What souk bench train measures is the engine's own training.
#include "market_api/client/bench_train.h"

#include <gtest/gtest.h>

#include <cmath>

#include "contracts/training/shard.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/strategy.h"

namespace souk::market {
namespace {

TrainBench small(const std::string& model, bool privately) {
  TrainBench bench;
  bench.model = model;
  bench.privately = privately;
  bench.batch = 20;
  bench.micro_batch = 4;
  bench.steps = 3;
  return bench;
}

TEST(BenchTrain, LossesAreTheSameToTheBitOnAnyNumberOfThreads) {
  for (const char* model : {"mlp", "logreg", "tabular", "lenet"}) {
    for (bool privately : {false, true}) {
      auto bench = small(model, privately);
      auto one = run_train_bench(bench).take();
      EXPECT_GT(one.ms_best, 0);
      EXPECT_LE(one.ms_best, one.ms_median);
      EXPECT_NE(one.loss_first, one.loss_last) << model;
      for (unsigned threads : {2U, 3U}) {
        bench.threads = threads;
        auto more = run_train_bench(bench).take();
        EXPECT_EQ(more.loss_first, one.loss_first) << model;
        EXPECT_EQ(more.loss_last, one.loss_last) << model;
      }
    }
  }
}

// Nobody named a shard: model and batch alone decide on it.
TEST(BenchTrain, LossesAreTheSameOnAnyNumberOfThreadsWhereNoShardIsNamed) {
  const std::pair<const char*, uint32_t> cases[] = {
      {"tabular", 100}, {"mlp", 100}, {"logreg", 37}, {"lenet", 37}, {"mlp", 600}, {"plinius", 40}};
  for (const auto& [model, batch] : cases) {
    for (bool privately : {false, true}) {
      auto bench = small(model, privately);
      bench.batch = batch;
      bench.micro_batch = 0;
      auto one = run_train_bench(bench).take();
      for (unsigned threads : {2U, 3U}) {
        bench.threads = threads;
        auto more = run_train_bench(bench).take();
        EXPECT_EQ(more.loss_first, one.loss_first) << model << " of " << batch;
        EXPECT_EQ(more.loss_last, one.loss_last) << model << " of " << batch;
      }
    }
  }
}

TEST(BenchTrain, EveryModelHasOneShardForAnyNumberOfThreads) {
  for (const char* model : {"mlp", "logreg", "tabular", "plinius", "vgg9", "resnet32gn", "lenet"}) {
    for (uint32_t batch : {1U, 16U, 37U, 64U, 100U, 512U, 1000U}) {
      auto bench = small(model, false);
      bench.batch = batch;
      bench.micro_batch = 0;
      const auto spec = bench_spec(bench).take();
      EXPECT_EQ(spec.shard, contracts::usual_shard(spec, contracts::check_spec(spec).take()));
      for (unsigned threads : {2U, 3U, 8U}) {
        bench.threads = threads;
        EXPECT_EQ(bench_spec(bench).take(), spec) << model << " of " << batch;
      }
    }
  }
}

// Memory is laid out for whole shards: one of 4096 images for a step of two takes gigabytes.
TEST(BenchTrain, AShardIsNoLargerThanTheBatch) {
  for (bool privately : {false, true}) {
    auto bench = small("vgg9", privately);
    bench.batch = 2;
    bench.micro_batch = 2;
    const auto two = bench_spec(bench).take();
    EXPECT_EQ(two.shard, 2U);
    bench.micro_batch = 4096;
    EXPECT_EQ(bench_spec(bench).take(), two);
    bench.batch = 65536;
    EXPECT_EQ(bench_spec(bench).take().shard, 4096U);
  }
}

// contracts estimate what the engine keeps of single examples; the engine decides on it.
TEST(BenchTrain, AUsualPrivateShardKeepsAtMostTwoToThe23NumbersOfSingleExamples) {
  size_t ghosts = 0;
  for (const char* model : {"plinius", "vgg9", "resnet32gn", "lenet"}) {
    auto bench = small(model, true);
    bench.batch = 128;
    bench.micro_batch = 0;
    const auto spec = bench_spec(bench).take();
    uint64_t kept = 0;
    for (const trainer::Layer& layer : trainer::build_graph(spec).take().layers) {
      if (!layer.trained || layer.node.op != contracts::Node::Op::kConv2d) continue;
      const auto own = trainer::choose_strategy(layer, spec.shard, 1, nullptr).strategy;
      if (own == trainer::Strategy::kStored) kept += layer.weight_count;
      ghosts += own == trainer::Strategy::kGhost ? 1 : 0;
    }
    EXPECT_GT(kept, 0U);
    EXPECT_LE(kept * spec.shard, uint64_t{1} << 23) << model;
    EXPECT_TRUE(spec.shard == 32 || kept * 32 > uint64_t{1} << 23) << model;  // not in vain
  }
  EXPECT_GT(ghosts, 0U);
}

// The same weights, batches, dropout and noise: what is left is single precision, and under privacy
// what bounding errors takes off the norms.
TEST(BenchTrain, ThePlainKernelsTrainToTheSameLosses) {
  for (const char* model : {"mlp", "logreg", "tabular", "lenet", "plinius", "vgg9", "resnet32gn"}) {
    const std::string name = model;
    const bool slow = name == "plinius" || name == "vgg9" || name == "resnet32gn";
    for (bool privately : {false, true}) {
      auto bench = small(name, privately);
      bench.micro_batch = 0;
      bench.batch = slow ? 1 : 16;
      bench.steps = slow ? 2 : 5;
      const auto fast = run_train_bench(bench).take();
      bench.reference = true;
      const auto plain = run_train_bench(bench).take();
      EXPECT_NEAR(plain.loss_first, fast.loss_first, 1e-5 * fast.loss_first) << model;
      EXPECT_NEAR(plain.loss_last, fast.loss_last, 1e-3 * fast.loss_last) << model << privately;
      EXPECT_NE(plain.loss_last, fast.loss_last) << model;  // the one adds up in double
      EXPECT_GT(std::abs(plain.loss_last - plain.loss_first), 2e-3 * plain.loss_first) << model;
    }
  }
}

TEST(BenchTrain, SaysWhatItDoesNotKnow) {
  EXPECT_EQ(run_train_bench(small("resnet", false)).error().code(), Code::kMalformed);
  auto bench = small("mlp", false);
  bench.reference = true;
  bench.threads = 2;
  EXPECT_EQ(run_train_bench(bench).error().code(), Code::kMalformed);
  bench.threads = 1;
  bench.bf16 = true;
  EXPECT_EQ(run_train_bench(bench).error().code(), Code::kMalformed);
}

}  // namespace
}  // namespace souk::market
