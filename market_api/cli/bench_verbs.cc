// souk bench train: what training costs on this machine.
#include <array>
#include <cmath>
#include <cstdio>

#include "contracts/training/vocabulary.h"
#include "market_api/cli/session.h"
#include "market_api/client/bench_train.h"

namespace souk::market {
namespace {

struct TrainOptions {
  TrainBench bench;
  std::string dtype = "f32", dp = "off";
  bool spec = false;
};

Result<Answer> train(Session&, const TrainOptions& options) {
  TrainBench bench = options.bench;
  if (options.dtype != "f32" && options.dtype != "bf16")
    return Error(Code::kMalformed, "--dtype: expected f32 or bf16");
  if (options.dp != "on" && options.dp != "off")
    return Error(Code::kMalformed, "--dp: expected on or off");
  bench.bf16 = options.dtype == "bf16";
  bench.privately = options.dp == "on";
  if (options.spec) {
    auto spec = TRY(bench_spec(bench));
    Answer answer;
    answer.json = *contracts::to_json(spec).object();
    answer.text = canonical(answer.json);
    return answer;
  }
  TrainCost cost = TRY(run_train_bench(bench));
  Answer answer;
  auto loss = [](double value) { return std::isfinite(value) ? Json::real(value) : Json(nullptr); };
  answer.json = {{"ms_per_step_best", Json::real(cost.ms_best)},
                 {"ms_per_step_median", Json::real(cost.ms_median)},
                 {"examples_per_s", Json::real(cost.examples_per_s)},
                 {"rss_mb", Json::real(cost.rss_mb)},
                 {"threads", static_cast<int64_t>(bench.threads)},
                 {"isa", cost.isa},
                 {"loss_first", loss(cost.loss_first)},
                 {"loss_last", loss(cost.loss_last)}};
  auto number = [](double value, const char* unit) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.3f%s", value, unit);
    return std::string(text.data());
  };
  answer.text = bench.model + ", batch " + std::to_string(bench.batch) + ", " + options.dtype +
                ", privacy " + options.dp + ": " + number(cost.ms_best, " ms/step best, ") +
                number(cost.ms_median, " median, ") + number(cost.examples_per_s, " examples/s, ") +
                number(cost.rss_mb, " MB, ") + cost.isa;
  return answer;
}

}  // namespace

void add_bench_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "bench", "What things cost on this machine");
  auto options = std::make_shared<TrainOptions>();
  CLI::App* verb =
      add_verb(*group, session, "train", "One training step, on synthetic data", options, train);
  verb->add_option("--model", options->bench.model,
                   "mlp, logreg, tabular, plinius, vgg9, resnet32gn or lenet")
      ->required();
  verb->add_option("--batch", options->bench.batch, "examples in a step (default 64)")
      ->check(whole_number(1, contracts::kMaxBatch));
  verb->add_option("--dtype", options->dtype, "f32 (default) or bf16");
  verb->add_option("--dp", options->dp, "with DP-SGD: on or off (default)");
  verb->add_option("--threads", options->bench.threads, "threads (default 1)")
      ->check(whole_number(1, 1024));
  verb->add_option("--steps", options->bench.steps, "steps to time (default 20)")
      ->check(whole_number(1, 100'000));
  verb->add_option(
          "--micro-batch", options->bench.micro_batch,
          "examples in memory at once for each thread, never more than --batch (default: by model "
          "and batch, as for a contract); f32 losses are the same to the bit on any --threads")
      ->check(whole_number(1, contracts::kMaxShard));
  verb->add_flag("--spec", options->spec, "only print the training specification");
  verb->add_flag("--avx2", options->bench.avx2, "as a CPU without AVX-512 would do it");
  verb->add_flag("--reference", options->bench.reference, "the plain kernels: one thread, slow");
}

}  // namespace souk::market
