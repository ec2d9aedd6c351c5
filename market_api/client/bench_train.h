// What a training step costs on this machine: the engine alone, on synthetic data of the right
// shape. The models are those of tests/bench/peers/torch_train.py, layer by layer.
#pragma once

#include <cstdint>
#include <string>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"

namespace souk::market {

struct TrainBench {
  std::string model;  // mlp logreg tabular plinius vgg9 resnet32gn lenet
  uint32_t batch = 64;
  uint32_t micro_batch =
      0;  // at most the batch; 0: contracts::usual_shard, on any number of threads
  uint32_t steps = 20;
  unsigned threads = 1;
  bool privately = false;  // Poisson with a rate so close to 1 that every step sees every example
  bool bf16 = false;
  bool reference = false;  // the plain kernels: slow
  bool avx2 = false;       // nothing that a CPU with AVX2 alone could not do
};

struct TrainCost {
  double ms_best = 0, ms_median = 0;
  double examples_per_s = 0;  // at the median
  double rss_mb = 0;          // the process's peak
  std::string isa;            // of the matrix products
  double loss_first = 0, loss_last = 0;
};

// kMalformed: no such model, or numbers past the specification's limits. kRefused: bf16 on a
// CPU without it.
Result<contracts::TrainingSpec> bench_spec(const TrainBench& bench);
Result<TrainCost> run_train_bench(const TrainBench& bench);

}  // namespace souk::market
