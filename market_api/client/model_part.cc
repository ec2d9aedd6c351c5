#include "market_api/client/model_part.h"

#include "market_api/client/local_files.h"
#include "market_api/client/onnx_model.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

constexpr size_t kMaxArchitectureFile = size_t{2} << 30;
const char* const kMembers[] = {"classes",     "input_mean", "input_scale",
                                "input_shape", "loss",       "model"};

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

ModelPart part_of(const contracts::TrainingSpec& spec) {
  return {spec.input_shape, spec.input_mean, spec.input_scale, spec.classes, spec.loss, spec.model};
}

Result<ModelPart> load_part(const std::string& path, DarknetNorm norm) {
  auto bytes = load_file(path, kMaxArchitectureFile);
  if (!bytes && bytes.error().code() == Code::kNotFound)
    return Error(Code::kMalformed, "no such file");
  if (!bytes) return std::move(bytes).take_error();
  if (norm == DarknetNorm::kGroup && !ends_with(path, ".cfg")) {
    return Error(
        Code::kMalformed,
        "norm: expected \"group\" for a Darknet .cfg alone, whose batch_normalize it is about");
  }
  if (ends_with(path, ".onnx")) {
    auto imported = TRY(import_onnx(*bytes));
    return std::move(imported.part);
  }
  if (ends_with(path, ".json")) {
    auto json = TRY(parse_json(as_text(*bytes)));
    return model_part_from_json(json);
  }
  if (ends_with(path, ".cfg")) {
    auto darknet = TRY(parse_darknet(as_text(*bytes), norm));
    return part_of(darknet.spec);
  }
  return Error(Code::kMalformed, "expected a file named .cfg, .onnx or .json");
}

}  // namespace

Json to_json(const ModelPart& part) {
  Json whole = contracts::to_json(trainable_spec(part));
  Json::Object out;
  for (const char* name : kMembers) out[name] = *whole.find(name);
  return out;
}

Result<ModelPart> model_part_from_json(const Json& json) {
  if (!json.object()) return Error(Code::kMalformed, "model part: expected an object");
  Json whole = contracts::to_json(trainable_spec({{1}, {}, {}, 2, {}, {}}));
  for (const char* name : kMembers) {
    const Json* member = json.find(name);
    if (!member)
      return Error(Code::kMalformed, "model part: expected a member " + std::string(name));
    (*whole.object())[name] = *member;
  }
  if (json.object()->size() != std::size(kMembers))
    return Error(Code::kMalformed, "model part: expected no other members");
  auto spec = TRY(contracts::training_spec_from_json(whole));
  return part_of(spec);
}

contracts::TrainingSpec trainable_spec(const ModelPart& part) {
  contracts::TrainingSpec spec;
  spec.input_shape = part.input_shape;
  spec.input_mean = part.input_mean;
  spec.input_scale = part.input_scale;
  spec.classes = part.classes;
  spec.loss = part.loss;
  spec.model = part.model;
  spec.shuffle = true;
  spec.learning_rate = {{1, 0}};
  return spec;
}

Result<ModelPart> load_model_part(const std::string& path, DarknetNorm norm) {
  auto part = load_part(path, norm);
  if (!part) return about_file(std::move(part).take_error(), path);
  return part;
}

std::string file_beside(const std::string& contract_path, const std::string& file) {
  const size_t slash = contract_path.rfind('/');
  if (slash == std::string::npos || file.starts_with('/')) return file;
  return contract_path.substr(0, slash + 1) + file;
}

policy::ModelSource models_beside(const std::string& contract_path) {
  return [contract_path](const std::string& file,
                         const std::string& norm) -> Result<policy::NamedModel> {
    auto part = TRY(load_model_part(file_beside(contract_path, file),
                                    norm == "group" ? DarknetNorm::kGroup : DarknetNorm::kBatch));
    return policy::NamedModel{std::move(part.input_shape), std::move(part.model),
                              std::move(part.input_mean), std::move(part.input_scale)};
  };
}

}  // namespace souk::market
