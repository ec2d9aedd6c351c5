#include "market_api/client/evaluate.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "trainer/data/safetensors.h"
#include "trainer/engine/engine.h"

namespace souk::market {
namespace {

// The tensors of the file, in the order the engine wants them.
Result<trainer::Model> model_from(const contracts::TrainingSpec& spec, ByteView bytes) {
  auto file = TRY(trainer::SafeTensors::read(bytes));
  auto model = TRY(trainer::initial_model(spec));
  if (file.tensors().size() != model.tensors.size()) {
    return Error(Code::kMalformed, "model: expected " + std::to_string(model.tensors.size()) +
                                       " tensors, as in spec.json");
  }
  for (auto& tensor : model.tensors) {
    const trainer::Tensor* found = file.find(tensor.name);
    bool fits = found && found->dtype == trainer::Dtype::kF32 &&
                found->bytes.size() == tensor.values.size() * sizeof(float) &&
                std::equal(found->shape.begin(), found->shape.end(), tensor.shape.begin(),
                           tensor.shape.end(),
                           [](uint64_t a, int64_t b) { return static_cast<int64_t>(a) == b; });
    if (!fits) {
      return Error(Code::kMalformed, "model: expected the tensor " + tensor.name + " of spec.json");
    }
    std::memcpy(tensor.values.data(), found->bytes.data(), found->bytes.size());
  }
  return model;
}

}  // namespace

Result<Accuracy> evaluate_model(const contracts::TrainingSpec& spec, ByteView model_bytes,
                                const trainer::Features& features,
                                std::span<const int64_t> labels) {
  auto model = TRY(model_from(spec, model_bytes));
  auto workers = TRY(trainer::Workers::start(std::max(1U, std::thread::hardware_concurrency())));
  auto logits = TRY(trainer::predict(spec, model, features, labels.size(), *workers));
  Accuracy accuracy;
  accuracy.rows = labels.size();
  for (size_t row = 0; row < labels.size(); ++row) {
    auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row * spec.classes);
    auto best = std::max_element(begin, begin + spec.classes) - begin;
    if (best == labels[row]) ++accuracy.right;
  }
  return accuracy;
}

}  // namespace souk::market
