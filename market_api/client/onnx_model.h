// Models as ONNX (opset 17, IR version 8). The one door to protobuf. market_api/SPEC.md, ONNX.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "market_api/client/model_part.h"
#include "market_api/client/stored_model.h"

namespace souk::market {

// Input "input": f32 [N, features] or [N, channels, height, width], as in the data: the public
// constants are applied inside. Outputs "logits" and "probabilities": f32 [N, outputs].
// Weight standardisation is folded in. Names and layout stand in metadata_props.
Result<Bytes> export_onnx(const StoredModel& stored);

struct ImportedOnnx {
  ModelPart part;
  trainer::Model weights;
  std::vector<std::string> classes;       // where the file is one of ours
  std::optional<trainer::CsvLayout> csv;  // likewise
};
// kMalformed: not a well-formed model. kRefused: the first node that has no counterpart, by its
// number, name and type. One input; a softmax or sigmoid at the end is left out.
Result<ImportedOnnx> import_onnx(ByteView file);

}  // namespace souk::market
