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
    kLinear,   // units, bias
    kConv2d,   // units (= output channels), kernel, stride, padding, groups, bias
    kMaxPool,  // kernel, stride, padding
    kAvgPool,  // kernel, stride, padding
    kGlobalAvgPool,
    kRelu,
    kLeakyRelu,  // slope
    kTanh,
    kSigmoid,
    kGelu,
    kSilu,
    kFlatten,
    kDropout,     // rate
    kGroupNorm,   // groups
    kAdd,         // two inputs
    kConcat,      // two or more inputs
    kEmbedding,   // categories, units, columns: reads the example; one table for all its columns
    kColumns,     // columns: reads the example
    kBatchNorm,   // over the examples of a shard; under privacy only if frozen
    kLayerNorm,   // over one example, scale and shift for each channel
    kScattering,  // scales, orientations: reads the example, an image; fixed wavelets, no weights
  };
  Op op = Op::kLinear;
  std::vector<uint32_t> inputs;  // indices; empty means the node before
  uint32_t units = 0;
  uint32_t kernel = 1, stride = 1, padding = 0;  // square windows
  uint32_t groups = 1;
  bool bias = true;
  double slope = 0.01;
  double rate = 0;
  uint32_t categories = 0;        // an embedding's rows; its columns hold 0 .. categories - 1
  std::vector<uint32_t> columns;  // positions in a flat example, from 0
  uint32_t scales = 1;            // J of a scattering: octaves; the image shrinks by 2^J
  uint32_t orientations = 1;      // L of a scattering: directions of its wavelets
  bool standardize =
      false;  // linear, conv2d: each unit's weights to mean 0, variance 1 (Qiao et al. 2019)
  bool frozen = false;  // keeps its initial weights: no gradient, no noise
  friend bool operator==(const Node&, const Node&) = default;
};

struct Optimizer {
  enum class Kind : uint8_t { kSgd, kAdam } kind = Kind::kSgd;
  double momentum = 0;
  bool nesterov = false;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0;
  // Decoupled (AdamW, Loshchilov and Hutter 2019): weights shrink by rate * weight_decay.
  // Coupled: weight_decay * weights is added to the gradient.
  enum class Decay : uint8_t { kDecoupled, kCoupled } decay = Decay::kDecoupled;
  friend bool operator==(const Optimizer&, const Optimizer&) = default;
};

// Differential privacy of the whole run (DP-SGD, Abadi et al. 2016), add/remove one record.
inline constexpr int64_t kMaxUserCap = 128;  // rows of one person
// Datasets of a pool times rows of a person: what accounting for a pool costs is bounded.
inline constexpr size_t kMaxPoolPersons = 256;
// The least clipping norm of a dataset, as a part of the contract's: what rounding 5e7 sums to
// 2^-30 C adds is then within the 1e-4 C_i kept for it (trainer/SPEC.md, Sensitivity).
inline constexpr double kLeastPoolClip = 1.0 / 8;
inline constexpr uint64_t kLeastPoolRate = 8;  // the largest rate is at most so many times another

// How one dataset of a pool takes part: constants of the contract, known before any row is.
struct PoolMember {
  double clip = 1;                  // C_i <= C: its rows' gradients are clipped to this
  int64_t epsilon_micro = 0;        // claimed for its people, at the contract's delta
  uint64_t sampling_threshold = 0;  // each of its rows is drawn iff its u64 is below
  friend bool operator==(const PoolMember&, const PoolMember&) = default;
};

struct PrivacySpec {
  double clip = 1;              // L2 bound C of one example's gradient
  double noise_multiplier = 1;  // sigma: noise deviation is sigma * C on the sum
  int64_t epsilon_micro =
      0;  // claimed epsilon in millionths, at delta; the accountant must not exceed it
  int64_t delta_pico = 0;  // delta in 1e-12
  // How one example's gradient is brought below C: by its norm; each of L trained layers below
  // C / sqrt(L); or always to nearly C (C / (norm + 0.01 C): automatic clipping, Bu et al. 2022).
  enum class Clipping : uint8_t { kFlat, kPerLayer, kAutomatic } clipping = Clipping::kFlat;
  // Whom epsilon is about: 1, a row; k > 1, a person with at most k rows.
  uint32_t user_cap = 1;
  // One for each dataset, in the contract's order, where they do not all take part alike; clip,
  // epsilon_micro and the run's sampling_threshold are then the largest of theirs.
  std::vector<PoolMember> pool = {};
  friend bool operator==(const PrivacySpec&, const PrivacySpec&) = default;
};

// Random views of an image, drawn anew each time it is used.
struct Augmentation {
  bool flip = false;          // left to right, every second time
  uint32_t crop = 0;          // pixels of black added on each side before cutting to size
  uint32_t multiplicity = 1;  // views of one example in one step; their mean gradient is the
                              // example's, before clipping (De et al. 2022)
  friend bool operator==(const Augmentation&, const Augmentation&) = default;
};

struct TrainingSpec {
  std::vector<uint32_t> input_shape;  // {features} or {channels, height, width}
  std::vector<double> input_mean;   // public constants: x' = (x - mean) * scale, per feature or one
  std::vector<double> input_scale;  // (empty = identity)
  uint32_t classes = 2;
  std::vector<Node> model;  // last node gives `classes` numbers; or 1, see loss
  // Softmax: logits of `classes`. BCE: mean binary cross entropy of logits against the one-hot
  // label, or one logit against the label where there are 2 classes. MSE: mean square
  // difference from the one-hot label, or of one number from the label's own number.
  enum class Loss : uint8_t { kSoftmaxCrossEntropy, kBce, kMse } loss = Loss::kSoftmaxCrossEntropy;
  Augmentation augmentation;
  Optimizer optimizer;
  uint32_t steps = 1;
  uint32_t batch = 1;               // expected batch B: the denominator, a public constant
  uint64_t sampling_threshold = 0;  // Poisson: include iff u64 < threshold; q = threshold / 2^64
  bool shuffle = false;             // epochs of shuffled fixed batches instead; refused under DP
  struct Rate {
    uint32_t steps;
    double value;
    friend bool operator==(const Rate&, const Rate&) = default;
  };
  std::vector<Rate> learning_rate;  // run lengths; sum of steps == steps
  uint32_t accumulate = 1;          // steps (draws) to one update, by their mean gradient
  double ema = 0;  // decay of the running mean of weights that is handed out; 0: the last weights
  uint32_t shard = 32;  // the micro-batch: examples in memory at once for each thread; results
                        // depend on it, never on threads
  // bf16: activations and matrix products; weights, norms and sums stay f32. Only on CPUs that have
  // it.
  enum class Dtype : uint8_t { kF32, kBf16 } dtype = Dtype::kF32;
  uint64_t seed = 1;  // initial weights only; noise and sampling are the enclave's
  // SHA-256 of a public safetensors file whose weights stand in for those of the seed.
  std::optional<Digest> initial;
  std::optional<PrivacySpec> privacy;
  friend bool operator==(const TrainingSpec&, const TrainingSpec&) = default;
};

// How dataset `index` of the contract takes part in a private run.
PoolMember member_of(const TrainingSpec& spec, size_t index);
// The noise in units of its own clipping norm, sigma C / C_i; never above it.
double noise_on(const TrainingSpec& spec, size_t index);

struct Shape3 {
  uint32_t channels = 0, height = 1, width = 1;
  uint64_t count() const { return uint64_t{channels} * height * width; }
};

// Shapes of every node's output (index 0 is the input) and the parameter count.
struct ModelShape {
  std::vector<Shape3> outputs;
  uint64_t parameters = 0;  // without the running means and variances of batch norms
  uint64_t trained = 0;     // those of layers that are not frozen
};

// "linear", "conv2d", ...: the names in JSON, in Lua and in messages.
std::string op_name(Node::Op op);
std::optional<Node::Op> op_from_name(std::string_view name);
std::optional<TrainingSpec::Loss> loss_from_name(std::string_view name);
std::optional<TrainingSpec::Dtype> dtype_from_name(std::string_view name);
std::optional<PrivacySpec::Clipping> clipping_from_name(std::string_view name);
std::optional<Optimizer::Decay> decay_from_name(std::string_view name);

// CHECKs that every real is finite, as check_spec does politely.
Json to_json(const TrainingSpec& spec);
// Strict: unknown members, out-of-range numbers and impossible shapes are kMalformed.
Result<TrainingSpec> training_spec_from_json(const Json& json);
// Shape inference and every relation between fields. Limits: <= 256 nodes, <= 50M parameters,
// <= 1M steps, batch <= 65536. Under privacy a batch norm must be frozen: it mixes examples.
Result<ModelShape> check_spec(const TrainingSpec& spec);

}  // namespace souk::contracts
