#include "trainer/engine/fixed_features.h"

#include <algorithm>

#include "trainer/engine/first_error.h"
#include "trainer/engine/network.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {

uint32_t end_of_fixed_path(const Graph& graph) {
  uint32_t end = 0;
  bool scattered = false;
  while (true) {
    uint32_t reader = 0, readers = 0;
    for (uint32_t i = end + 1; i < graph.layers.size(); ++i) {
      for (uint32_t input : graph.layers[i].inputs) {
        if (input != end) continue;
        reader = i;
        ++readers;
      }
    }
    if (readers != 1) break;
    const Layer& layer = graph.layers[reader];
    if (layer.depends_on_trained || layer.inputs.size() != 1 || layer.node.op == Node::Op::kDropout)
      break;
    scattered |= layer.node.op == Node::Op::kScattering;
    end = reader;
  }
  return scattered ? end : 0;
}

Result<std::optional<FixedFeatures>> FixedFeatures::compute(
    const contracts::TrainingSpec& spec, const Graph& graph, const ExampleReader& reader,
    uint64_t rows, std::span<const float> numbers, Workers& workers) {
  const uint32_t end = end_of_fixed_path(graph);
  if (end == 0 || reader.augments() || spec.augmentation.multiplicity > 1)
    return std::optional<FixedFeatures>();
  const uint64_t width = graph.layers[end].out.count(), input = graph.input().count();
  if (rows > kMaxBytes / sizeof(float) / width) return std::optional<FixedFeatures>();
  NetworkSettings settings;
  settings.shard = spec.shard;
  settings.workers = workers.threads();
  settings.dtype = spec.dtype;
  settings.last = end;
  auto network = TRY(Network::compile(graph, settings));
  TRY(network->set_parameters(numbers));
  FixedFeatures features(end, width);
  features.values_.resize(rows * width);
  FirstError errors;
  workers.run((rows + spec.shard - 1) / spec.shard, [&](size_t index, unsigned worker) {
    if (errors.failed()) return;
    const uint64_t first = index * spec.shard, here = std::min<uint64_t>(spec.shard, rows - first);
    for (uint64_t r = 0; r < here; ++r) reader.read(first + r, network->input(worker) + r * input);
    Status passed = network->forward(worker, {.examples = static_cast<uint32_t>(here)});
    if (!passed) return errors.note(std::move(passed));
    std::copy_n(network->outputs(worker), here * width, features.values_.data() + first * width);
  });
  TRY(errors.status());
  return std::optional<FixedFeatures>(std::move(features));
}

FixedFeatures::~FixedFeatures() {
  wipe(values_.data(), values_.size() * sizeof(float));
}

void FixedFeatures::read(uint64_t row, float* out) const {
  std::copy_n(values_.data() + row * width_, width_, out);
}

}  // namespace souk::trainer
