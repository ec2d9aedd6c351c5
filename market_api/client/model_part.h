// The part of a specification that says what is trained, without how: what an architecture file
// gives. market_api/SPEC.md, Architecture files.
//
//   {"classes":10,"input_mean":[],"input_scale":["0.25"],"input_shape":[1,28,28],
//    "loss":"softmax_cross_entropy","model":[…]}
//
// Members and their forms are those of a training specification (contracts/SPEC.md).
#pragma once

#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "market_api/client/darknet.h"
#include "policy/lua/elaborate.h"

namespace souk::market {

struct ModelPart {
  std::vector<uint32_t> input_shape;
  std::vector<double> input_mean, input_scale;
  uint32_t classes = 2;
  contracts::TrainingSpec::Loss loss = contracts::TrainingSpec::Loss::kSoftmaxCrossEntropy;
  std::vector<contracts::Node> model;
  friend bool operator==(const ModelPart&, const ModelPart&) = default;
};
Json to_json(const ModelPart& part);
// Checked like a specification.
Result<ModelPart> model_part_from_json(const Json& json);
// A specification with this part and one step of nothing in particular: enough to predict.
contracts::TrainingSpec trainable_spec(const ModelPart& part);

// FILE.cfg (Darknet), FILE.onnx, or FILE.json as above; `norm` is for Darknet. kMalformed: no
// file, or not of its kind; kRefused names the first thing in it that has no counterpart here.
Result<ModelPart> load_model_part(const std::string& path, DarknetNorm norm = DarknetNorm::kBatch);
// Files that a contract names lie beside it, unless their names begin with /.
std::string file_beside(const std::string& contract_path, const std::string& file);
// What a contract means by model = "net.cfg": a file beside the contract.
policy::ModelSource models_beside(const std::string& contract_path);

}  // namespace souk::market
