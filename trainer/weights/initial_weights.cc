#include "trainer/weights/initial_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "ledger/crypto/hash.h"

namespace souk::trainer {
namespace {

std::string layer_of(const std::string& name) {
  return name.substr(0, name.find('.'));
}

bool fits(const Tensor& found, const NamedTensor& wanted) {
  return found.dtype == Dtype::kF32 &&
         std::equal(found.shape.begin(), found.shape.end(), wanted.shape.begin(),
                    wanted.shape.end(), [](uint64_t have, int64_t want) {
                      return want >= 0 && have == static_cast<uint64_t>(want);
                    });
}

Error malformed(const std::string& expected) {
  return Error(Code::kMalformed, "initial weights: expected " + expected);
}

}  // namespace

Result<Model> initial_weights(const contracts::TrainingSpec& spec, const SafeTensors& file) {
  auto model = TRY(initial_model(spec));
  const std::string head = layer_of(model.tensors.back().name);
  size_t taken = 0;
  for (auto& tensor : model.tensors) {
    const Tensor* found = file.find(tensor.name);
    if (!found) continue;
    if (fits(*found, tensor)) {
      std::memcpy(tensor.values.data(), found->bytes.data(), found->bytes.size());
      ++taken;
    } else if (layer_of(tensor.name) != head) {
      return malformed(tensor.name + " as F32 in the model's shape");
    }
    if (!std::all_of(tensor.values.begin(), tensor.values.end(),
                     [](float value) { return std::isfinite(value); })) {
      return malformed("finite numbers in " + tensor.name);
    }
  }
  for (const auto& tensor : file.tensors()) {
    bool known = std::any_of(model.tensors.begin(), model.tensors.end(),
                             [&](const auto& own) { return own.name == tensor.name; });
    if (!known && layer_of(tensor.name) != head)
      return malformed("only tensors of the model, found " + tensor.name.substr(0, 64));
  }
  if (taken == 0) return malformed("tensors of the model");
  return model;
}

Result<Model> initial_weights_from(const contracts::TrainingSpec& spec, ByteView file) {
  if (spec.initial != ledger::sha256(file)) {
    return Error(Code::kUnauthentic,
                 "initial weights: expected the file that the specification names by its SHA-256");
  }
  auto tensors = TRY(SafeTensors::read(file));
  return initial_weights(spec, tensors);
}

}  // namespace souk::trainer
