// What noise and audit cost a private step, measured where they happen: whole steps of the engine
// with and without canaries, taken in turn, and the noise of as many numbers drawn by itself. CPU
// time of one thread. Not part of ctest, run it on an idle machine.
//   private_step_bench [ROUNDS]
// Of each figure: what was measured, its limit, and how much of the limit it is. Status 0 where all
// are within theirs, 1 where one is not, 2 where a case could not be measured at all.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "trainer/engine/canaries.h"
#include "trainer/engine/engine.h"
#include "trainer/engine/noise.h"
#include "trainer/engine/release.h"

namespace souk::trainer {
namespace {

using contracts::Node;
using contracts::TrainingSpec;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

Node node(Node::Op op, uint32_t units = 0, uint32_t kernel = 1, uint32_t stride = 1,
          uint32_t padding = 0) {
  Node out;
  out.op = op;
  out.units = units;
  out.kernel = kernel;
  out.stride = stride;
  out.padding = padding;
  return out;
}

// Far more than are taken, and so few that 3e10 draws of noise are enough for each case.
constexpr uint32_t kSteps = 100'000;

TrainingSpec spec_of(std::vector<uint32_t> shape, uint32_t classes, std::vector<Node> model,
                     uint64_t rows, uint32_t batch) {
  TrainingSpec spec;
  spec.input_shape = std::move(shape);
  spec.classes = classes;
  spec.model = std::move(model);
  spec.steps = kSteps;
  spec.batch = batch;
  spec.sampling_threshold =
      static_cast<uint64_t>(std::ldexp(static_cast<double>(batch) / static_cast<double>(rows), 64));
  spec.learning_rate = {{spec.steps, 0.01}};
  spec.privacy = contracts::PrivacySpec{0.1, 2, 1'000'000'000'000, 10'000'000};
  return spec;
}

// The networks of examples/contracts: mnist_tanh_private, a linear layer on as many features as
// mnist_scattering has, and a small table's; and the MLP of souk bench train.
struct Case {
  const char* name;
  TrainingSpec spec;
  uint64_t rows;
  double examples_limit = 0;  // a second and core, at least; 0: none is set
};

// Whether it is within.
bool report(const char* what, double measured, const char* unit, double limit, bool at_most) {
  const bool within = at_most ? measured <= limit : measured >= limit;
  std::printf("  %-18s %9.2f %s, limit %s %g, %.2f of it%s\n", what, measured, unit,
              at_most ? "at most" : "at least", limit, measured / limit,
              within    ? ""
              : at_most ? "  ABOVE"
                        : "  BELOW");
  return within;
}

int failed(const Case& own, const char* at, const std::string& why) {
  std::printf("%s: not measured, %s: %s\n", own.name, at, why.c_str());
  return 2;
}

int measure(const Case& own, int rounds) {
  const auto& spec = own.spec;
  uint64_t width = 1;
  for (uint32_t side : spec.input_shape) width *= side;
  std::vector<float> features(own.rows * width);
  std::vector<int64_t> labels(own.rows);
  uint64_t random = 88172645463325252ULL;
  for (float& x : features) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    x = static_cast<float>(random >> 40) * 0x1p-24F;
  }
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int64_t>(i % spec.classes);
  auto workers = Workers::start(1).take();
  if (auto warm = warm_up(*workers); !warm) return failed(own, "warm-up", warm.error().expected());
  const Examples data{Features(std::span<const float>(features)), labels};
  auto plain = TrainingRun::create(spec, data, NoiseRoot::random(), *workers);
  auto audited = TrainingRun::create(spec, data, NoiseRoot::random(), *workers);
  const auto shape = contracts::check_spec(spec);
  if (!plain) return failed(own, "create", plain.error().expected());
  if (!audited) return failed(own, "create", audited.error().expected());
  if (!shape) return failed(own, "shape", shape.error().expected());
  const uint32_t canaries = canaries_for(own.rows, shape->trained, spec.batch);
  if (auto planted = audited->plant_canaries(canaries); !planted)
    return failed(own, "canaries", planted.error().expected());
  const FixedPoint fixed(*NoiseGrid::make(spec.privacy->noise_multiplier, spec.privacy->clip, 1e7));
  std::vector<int64_t> sums(shape->trained);
  std::vector<float> out(sums.size());
  std::array<uint8_t, 32> key{};
  std::vector<double> without, with, ratios, noise;
  uint32_t steps = 4;  // of a turn: some milliseconds
  for (int round = -2; round < rounds; ++round) {
    double seconds[2] = {};
    for (int turn = 0; turn < 2; ++turn) {
      const bool audit = (turn == 0) == (round % 2 == 0);  // neither is always the first
      const double start = cpu_seconds();
      for (uint32_t step = 0; step < steps; ++step) {
        if (auto done = (audit ? *audited : *plain).step(); !done)
          return failed(own, "step", done.error().expected());
      }
      seconds[audit] = (cpu_seconds() - start) / steps;
    }
    const double start = cpu_seconds();
    for (uint32_t step = 0; step < steps; ++step) {
      ChaCha20 stream(key, step);
      fixed.release(stream, sums, 1.0, out);
    }
    const double drawn = (cpu_seconds() - start) / steps;
    if (round < 0) {  // caches and kernels are made
      steps = static_cast<uint32_t>(std::clamp(0.005 / seconds[0], 4.0, 400.0));
      continue;
    }
    without.push_back(seconds[0]);
    with.push_back(seconds[1]);
    ratios.push_back(seconds[1] / seconds[0]);
    noise.push_back(drawn);
  }
  const double step = median(without);
  std::printf("%s: %llu numbers trained, batch %u, %.4f ms a step\n", own.name,
              static_cast<unsigned long long>(shape->trained), spec.batch, 1e3 * step);
  bool within = report("noise", 100 * median(noise) / step, "% of a step", 5, true);
  char name[32];
  std::snprintf(name, sizeof(name), "%u canaries", canaries);
  within &= report(name, 100 * (median(ratios) - 1), "% of a step", 3, true);
  if (own.examples_limit > 0)
    within &= report("examples", spec.batch / step, "a second", own.examples_limit, false);
  return within ? 0 : 1;
}

int run(int rounds) {
  using Op = Node::Op;
  const Case cases[] = {
      {"tanh network",
       spec_of({1, 28, 28}, 10,
               {node(Op::kConv2d, 16, 8, 2, 2), node(Op::kTanh), node(Op::kMaxPool, 0, 2, 1),
                node(Op::kConv2d, 32, 4, 2), node(Op::kTanh), node(Op::kMaxPool, 0, 2, 1),
                node(Op::kFlatten), node(Op::kLinear, 32), node(Op::kTanh), node(Op::kLinear, 10)},
               20'000, 2048),
       20'000, 15'000},
      {"linear on 3969 features", spec_of({3969}, 10, {node(Op::kLinear, 10)}, 8'000, 2048), 8'000},
      {"MLP 784-256-128-10",
       spec_of({784}, 10,
               {node(Op::kLinear, 256), node(Op::kRelu), node(Op::kLinear, 128), node(Op::kRelu),
                node(Op::kLinear, 10)},
               20'000, 256),
       20'000},
      {"logistic regression on 30", spec_of({30}, 2, {node(Op::kLinear, 2)}, 570, 64), 570},
  };
  int status = 0;
  for (const auto& own : cases) status = std::max(status, measure(own, rounds));
  return status;
}

}  // namespace
}  // namespace souk::trainer

int main(int argc, char** argv) {
  return souk::trainer::run(argc > 1 ? std::max(3, std::atoi(argv[1])) : 25);
}
