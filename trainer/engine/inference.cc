// Asking a trained model. No randomness, running statistics, one view of each example.
#include <algorithm>

#include "trainer/engine/engine.h"
#include "trainer/engine/examples.h"
#include "trainer/engine/first_error.h"
#include "trainer/engine/loss.h"
#include "trainer/engine/network.h"

namespace souk::trainer {

using contracts::TrainingSpec;

namespace {

// Calls each(row, outputs) for every example, in shards, on all workers.
Status infer(const TrainingSpec& spec, const Model& model, const Features& features, uint64_t rows,
             Workers& workers,
             const std::function<void(uint64_t row, std::span<const float> outputs)>& each) {
  TRY(check_model(spec, model));
  Graph graph = TRY(build_graph(spec));
  auto reader = TRY(ExampleReader::open(spec, graph, features, rows));
  NetworkSettings settings;
  settings.shard = spec.shard;
  settings.workers = workers.threads();
  settings.dtype = spec.dtype;
  auto network = TRY(Network::compile(graph, settings));
  auto numbers = flatten(graph, model);
  TRY(network->set_parameters(numbers));
  const uint64_t shard = network->shard(), width = graph.input().count();
  FirstError errors;
  workers.run((rows + shard - 1) / shard, [&](size_t index, unsigned worker) {
    const uint64_t first = index * shard, here = std::min(shard, rows - first);
    float* input = network->input(worker);
    for (uint64_t r = 0; r < here; ++r) reader.read(first + r, input + r * width);
    Status passed = network->forward(worker, {.examples = static_cast<uint32_t>(here)});
    if (!passed) return errors.note(std::move(passed));
    for (uint64_t r = 0; r < here; ++r) {
      each(first + r,
           std::span<const float>(network->outputs(worker) + r * graph.outputs, graph.outputs));
    }
  });
  return errors.status();
}

Result<uint64_t> outputs_of(const TrainingSpec& spec) {
  auto shape = TRY(contracts::check_spec(spec));
  return shape.outputs.back().count();
}

}  // namespace

Result<std::vector<float>> predict(const TrainingSpec& spec, const Model& model,
                                   const Features& features, uint64_t rows, Workers& workers) {
  return guarded([&]() -> Result<std::vector<float>> {
    const uint64_t width = TRY(outputs_of(spec));
    uint64_t have = std::visit(
        [](const auto& values) { return static_cast<uint64_t>(values.size()); }, features);
    if (rows > have) return Error(Code::kMalformed, "dataset: expected as many examples as rows");
    std::vector<float> outputs(rows * width);
    TRY(infer(spec, model, features, rows, workers, [&](uint64_t row, std::span<const float> own) {
      std::copy(own.begin(), own.end(), outputs.begin() + static_cast<ptrdiff_t>(row * width));
    }));
    return outputs;
  });
}

int64_t predicted_class(const TrainingSpec& spec, std::span<const float> outputs) {
  return class_of(spec.loss, outputs, spec.classes);
}

Result<Evaluation> evaluate(const TrainingSpec& spec, const Model& model, Examples data,
                            Workers& workers) {
  return guarded([&]() -> Result<Evaluation> {
    TRY(contracts::check_spec(spec));
    const uint64_t rows = data.labels.size();
    if (rows == 0) return Error(Code::kMalformed, "dataset: expected at least one example");
    TRY(check_labels(data.labels, rows, spec.classes));
    std::vector<double> loss(rows);
    std::vector<uint8_t> right(rows);
    TRY(infer(spec, model, data.features, rows, workers,
              [&](uint64_t row, std::span<const float> outputs) {
                loss[row] = loss_of(spec.loss, outputs, data.labels[row], 1, nullptr);
                right[row] = predicted_class(spec, outputs) == data.labels[row] ? 1 : 0;
              }));
    Evaluation result;
    result.rows = rows;
    for (uint64_t row = 0; row < rows; ++row) {
      result.loss += loss[row];
      result.accuracy += right[row];
    }
    result.loss /= static_cast<double>(rows);
    result.accuracy /= static_cast<double>(rows);
    return result;
  });
}

}  // namespace souk::trainer
