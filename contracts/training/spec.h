// The elaborated training specification: a closed, canonical description of one
// training run. It is what the consumer signs, what policies judge and what the
// trainer executes; the Lua program it came from is gone. contracts/SPEC.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/named.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::contracts {

// One node of the model graph. Node i reads the outputs of earlier nodes only;
// input 0 is the example itself, so node i of `model` has index i + 1.
struct Node {
  enum class Op : uint8_t {
    kLinear,         // units, bias
    kConv2d,         // units (= output channels), kernel, stride, padding, groups, bias
    kMaxPool,        // kernel, stride, padding
    kAvgPool,        // kernel, stride, padding
    kGlobalAvgPool,
    kRelu,
    kLeakyRelu,      // slope
    kTanh,
    kSigmoid,
    kGelu,
    kSilu,
    kFlatten,
    kDropout,        // rate
    kGroupNorm,      // groups
    kAdd,            // two inputs
    kConcat,         // two or more inputs
  };
  Op op = Op::kLinear;
  std::vector<uint32_t> inputs;  // indices; empty means the node before
  uint32_t units = 0;
  uint32_t kernel = 1, stride = 1, padding = 0;  // square windows
  uint32_t groups = 1;
  bool bias = true;
  double slope = 0.01;
  double rate = 0;
  friend bool operator==(const Node&, const Node&) = default;
};

struct Optimizer {
  enum class Kind : uint8_t { kSgd, kAdam } kind = Kind::kSgd;
  double momentum = 0;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;  // decoupled
  friend bool operator==(const Optimizer&, const Optimizer&) = default;
};

// Differential privacy of the whole run (DP-SGD, Abadi et al. 2016), add/remove one record.
struct PrivacySpec {
  double clip = 1;                // L2 bound C of one example's gradient
  double noise_multiplier = 1;    // sigma: noise deviation is sigma * C on the sum
  int64_t epsilon_micro = 0;      // claimed epsilon in millionths, at delta; the accountant must not exceed it
  int64_t delta_pico = 0;         // delta in 1e-12
  friend bool operator==(const PrivacySpec&, const PrivacySpec&) = default;
};

struct TrainingSpec {
  std::vector<uint32_t> input_shape;   // {features} or {channels, height, width}
  std::vector<double> input_mean;      // public constants: x' = (x - mean) * scale, per feature or one
  std::vector<double> input_scale;     // (empty = identity)
  uint32_t classes = 2;
  std::vector<Node> model;             // last node must give `classes` logits
  enum class Loss : uint8_t { kSoftmaxCrossEntropy } loss = Loss::kSoftmaxCrossEntropy;
  Optimizer optimizer;
  uint32_t steps = 1;
  uint32_t batch = 1;                  // expected batch B: the denominator, a public constant
  uint64_t sampling_threshold = 0;     // Poisson: include iff u64 < threshold; q = threshold / 2^64
  bool shuffle = false;                // epochs of shuffled fixed batches instead; refused under DP
  struct Rate { uint32_t steps; double value; friend bool operator==(const Rate&, const Rate&) = default; };
  std::vector<Rate> learning_rate;     // run lengths; sum of steps == steps
  uint32_t shard = 32;                 // examples per shard; results depend on it, never on threads
  uint64_t seed = 1;                   // initial weights only; noise and sampling are the enclave's
  std::optional<PrivacySpec> privacy;
  friend bool operator==(const TrainingSpec&, const TrainingSpec&) = default;
};

struct Shape3 { uint32_t channels = 0, height = 1, width = 1; uint64_t count() const { return uint64_t{channels} * height * width; } };

// Shapes of every node's output (index 0 is the input) and the parameter count.
struct ModelShape {
  std::vector<Shape3> outputs;
  uint64_t parameters = 0;
};

// "linear", "conv2d", ...: the names in JSON, in Lua and in messages.
std::string op_name(Node::Op op);
std::optional<Node::Op> op_from_name(std::string_view name);

// CHECKs that every real is finite, as check_spec does politely.
Json to_json(const TrainingSpec& spec);
// Strict: unknown members, out-of-range numbers and impossible shapes are kMalformed.
Result<TrainingSpec> training_spec_from_json(const Json& json);
// Shape inference and every relation between fields. Limits: <= 256 nodes, <= 50M parameters,
// <= 1M steps, batch <= 65536. BatchNorm does not exist under this spec.
Result<ModelShape> check_spec(const TrainingSpec& spec);

}  // namespace souk::contracts
