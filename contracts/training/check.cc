#include <algorithm>
#include <cmath>

#include "contracts/training/vocabulary.h"

namespace souk::contracts {
namespace {

Status check_unused_fields(const Node& node, const std::string& place) {
  const Node plain;
  auto has = fields_of(node.op);
  bool stray =
      (!has.units && node.units != plain.units) ||
      (!has.window && (node.kernel != plain.kernel || node.stride != plain.stride ||
                       node.padding != plain.padding)) ||
      (!has.groups && node.groups != plain.groups) || (!has.bias && node.bias != plain.bias) ||
      (!has.slope && node.slope != plain.slope) || (!has.rate && node.rate != plain.rate) ||
      (!has.categories && node.categories != plain.categories) ||
      (!has.columns && !node.columns.empty()) || (!has.standardize && node.standardize) ||
      (!has.frozen && node.frozen) ||
      (!has.scattering && (node.scales != plain.scales || node.orientations != plain.orientations));
  if (stray) return malformed(place, "expected only the fields that " + op_name(node.op) + " has");
  return Done{};
}

Result<Shape3> check_input(const TrainingSpec& spec) {
  const auto& shape = spec.input_shape;
  if (shape.size() != 1 && shape.size() != 3) {
    return malformed("spec.input.shape", "expected {features} or {channels, height, width}");
  }
  for (uint32_t size : shape) {
    if (size < 1 || size > kMaxWidth)
      return malformed("spec.input.shape", "expected sizes from 1 to 65536");
  }
  Shape3 input{shape[0], shape.size() == 3 ? shape[1] : 1, shape.size() == 3 ? shape[2] : 1};
  if (input.count() > kMaxActivations)
    return malformed("spec.input.shape", "expected at most 16777216 numbers");
  auto fits = [&](const std::vector<double>& values) {
    return values.size() <= kMaxConstants && (values.size() <= 1 || values.size() == input.count());
  };
  if (!fits(spec.input_mean))
    return malformed("spec.input.mean", "expected none, one, or one per feature");
  if (!fits(spec.input_scale))
    return malformed("spec.input.scale", "expected none, one, or one per feature");
  for (double value : spec.input_mean) {
    if (!std::isfinite(value)) return malformed("spec.input.mean", "expected finite numbers");
  }
  for (double value : spec.input_scale) {
    if (!std::isfinite(value) || value == 0)
      return malformed("spec.input.scale", "expected finite numbers other than zero");
  }
  return input;
}

Status check_optimizer(const Optimizer& optimizer) {
  const Optimizer plain;
  if (!within(optimizer.weight_decay, 0, 1e6))
    return malformed("spec.optimizer.weight_decay", "expected 0 to 1000000");
  if (optimizer.kind == Optimizer::Kind::kSgd) {
    if (!within(optimizer.momentum, 0, 0.999999))
      return malformed("spec.optimizer.momentum", "expected 0 to 0.999999");
    if (optimizer.nesterov && optimizer.momentum == 0)
      return malformed("spec.optimizer.nesterov", "expected a momentum with it");
    if (optimizer.beta1 != plain.beta1 || optimizer.beta2 != plain.beta2 ||
        optimizer.epsilon != plain.epsilon) {
      return malformed("spec.optimizer", "expected no Adam fields with sgd");
    }
    return Done{};
  }
  if (!within(optimizer.beta1, 0, 0.999999))
    return malformed("spec.optimizer.beta1", "expected 0 to 0.999999");
  if (!within(optimizer.beta2, 0, 0.999999999))
    return malformed("spec.optimizer.beta2", "expected 0 to 0.999999999");
  if (!within(optimizer.epsilon, 1e-30, 1e6))
    return malformed("spec.optimizer.epsilon", "expected 1e-30 to 1000000");
  if (optimizer.momentum != 0 || optimizer.nesterov)
    return malformed("spec.optimizer", "expected no momentum with adam");
  return Done{};
}

Status check_schedule(const TrainingSpec& spec) {
  if (spec.steps < 1 || spec.steps > kMaxSteps)
    return malformed("spec.steps", "expected 1 to 1000000");
  if (spec.batch < 1 || spec.batch > kMaxBatch)
    return malformed("spec.batch", "expected 1 to 65536");
  if (spec.shard < 1 || spec.shard > kMaxShard)
    return malformed("spec.shard", "expected 1 to 4096");
  if (spec.accumulate < 1 || spec.steps % spec.accumulate != 0) {
    return malformed("spec.accumulate", "expected a divisor of steps");
  }
  if (!within(spec.ema, 0, 0.999999)) return malformed("spec.ema", "expected 0 to 0.999999");
  if (spec.learning_rate.empty() || spec.learning_rate.size() > kMaxRates) {
    return malformed("spec.learning_rate", "expected 1 to 65536 runs");
  }
  uint64_t covered = 0;
  for (const auto& rate : spec.learning_rate) {
    if (rate.steps < 1)
      return malformed("spec.learning_rate", "expected runs of at least one step");
    if (!within(rate.value, 0, 1e6))
      return malformed("spec.learning_rate", "expected rates from 0 to 1000000");
    covered += rate.steps;
  }
  if (covered != spec.steps)
    return malformed("spec.learning_rate", "expected runs that add up to steps");
  return Done{};
}

Status check_augmentation(const TrainingSpec& spec) {
  const Augmentation& augmentation = spec.augmentation;
  if (augmentation.crop > kMaxCrop) return malformed("spec.augmentation.crop", "expected 0 to 64");
  if (augmentation.multiplicity < 1 || augmentation.multiplicity > kMaxMultiplicity) {
    return malformed("spec.augmentation.multiplicity", "expected 1 to 64");
  }
  if ((augmentation.flip || augmentation.crop > 0) && spec.input_shape.size() != 3) {
    return malformed("spec.augmentation", "expected images to flip or crop");
  }
  if (uint64_t{spec.shard} * augmentation.multiplicity > kMaxShard) {
    return malformed("spec.shard", "expected at most 4096 views in a shard");
  }
  return Done{};
}

// Category numbers are names, not quantities: only an embedding may read them.
Status check_readers_of_input(const TrainingSpec& spec) {
  std::vector<bool> category(spec.input_shape[0], false);
  bool any = false;
  for (const Node& node : spec.model) {
    if (node.op != Node::Op::kEmbedding) continue;
    any = true;
    for (uint32_t column : node.columns) category[column] = true;
  }
  for (size_t i = 0; i < spec.model.size() && any; ++i) {
    const Node& node = spec.model[i];
    bool reads = node.inputs.empty() ? i == 0 : false;
    for (uint32_t source : node.inputs) reads |= source == 0;
    if (!reads || node.op == Node::Op::kEmbedding) continue;
    if (node.op != Node::Op::kColumns) {
      return malformed(node_place(i),
                       "expected embedding or columns to read an example that has categories");
    }
    for (uint32_t column : node.columns) {
      if (category[column])
        return malformed(node_place(i) + ".columns", "expected no column that an embedding reads");
    }
  }
  return Done{};
}

Status check_output(const TrainingSpec& spec, const Shape3& last) {
  using Loss = TrainingSpec::Loss;
  bool one = last.channels == 1 &&
             (spec.loss == Loss::kMse || (spec.loss == Loss::kBce && spec.classes == 2));
  if ((last.channels == spec.classes || one) && last.height == 1 && last.width == 1) return Done{};
  return malformed("spec.model", "expected the last node to give " + std::to_string(spec.classes) +
                                     " numbers, it gives " + std::to_string(last.count()));
}

// The whole is the largest of its parts, so that a specification has one text.
Status check_pool(const TrainingSpec& spec) {
  const auto& privacy = *spec.privacy;
  if (privacy.pool.empty()) return Done{};
  if (privacy.pool.size() > kMaxPool) return malformed("spec.privacy.pool", "expected at most 16");
  if (privacy.pool.size() * privacy.user_cap > kMaxPoolPersons) {
    return malformed("spec.privacy.pool",
                     "expected at most 256 as the number of datasets times user_cap");
  }
  PoolMember most{0, 0, 0};
  for (const PoolMember& member : privacy.pool) {
    if (!(member.clip >= privacy.clip * kLeastPoolClip && member.clip <= privacy.clip)) {
      return malformed("spec.privacy.pool.clip", "expected 1/8 of the contract's clip up to it");
    }
    if (member.epsilon_micro < 1)
      return malformed("spec.privacy.pool.epsilon_micro", "expected 1 to 1000000000000");
    if (member.sampling_threshold == 0) {
      return malformed("spec.privacy.pool.sampling_threshold",
                       "expected above zero; otherwise no row of the dataset is ever drawn");
    }
    // Who asks for others beside it means others that are trained on.
    if (member.sampling_threshold < spec.sampling_threshold / kLeastPoolRate) {
      return malformed("spec.privacy.pool.sampling_threshold",
                       "expected 1/8 of the contract's rate up to it");
    }
    most.clip = std::max(most.clip, member.clip);
    most.epsilon_micro = std::max(most.epsilon_micro, member.epsilon_micro);
    most.sampling_threshold = std::max(most.sampling_threshold, member.sampling_threshold);
  }
  const PoolMember whole{privacy.clip, privacy.epsilon_micro, spec.sampling_threshold};
  if (most != whole) {
    return malformed("spec.privacy.pool",
                     "expected the contract's clip, epsilon_micro and sampling_threshold to be the "
                     "largest of the datasets'");
  }
  const bool alike = std::all_of(privacy.pool.begin(), privacy.pool.end(),
                                 [&](const PoolMember& member) { return member == whole; });
  if (alike) return malformed("spec.privacy.pool", "expected none where all datasets are alike");
  return Done{};
}

Status check_sampling_and_privacy(const TrainingSpec& spec) {
  if (spec.shuffle && spec.sampling_threshold != 0) {
    return malformed("spec.sampling_threshold", "expected \"0\" with shuffle");
  }
  if (!spec.shuffle && spec.sampling_threshold == 0) {
    return malformed("spec.sampling_threshold",
                     "expected above zero; otherwise no example is ever drawn");
  }
  if (!spec.privacy) return Done{};
  if (spec.shuffle)
    return malformed("spec.shuffle",
                     "expected false under privacy: the accountant covers Poisson sampling only");
  const auto& privacy = *spec.privacy;
  if (!within(privacy.clip, 1e-9, 1e9))
    return malformed("spec.privacy.clip", "expected 1e-9 to 1e9");
  if (!within(privacy.noise_multiplier, 1e-3, 1e6))
    return malformed("spec.privacy.noise_multiplier", "expected 0.001 to 1000000");
  if (privacy.user_cap < 1 || privacy.user_cap > kMaxUserCap) {
    return malformed("spec.privacy.user_cap", "expected 1 to 128 rows of a person");
  }
  if (privacy.epsilon_micro < 1 || privacy.epsilon_micro > kMaxEpsilonMicro) {
    return malformed("spec.privacy.epsilon_micro", "expected 1 to 1000000000000");
  }
  if (privacy.delta_pico < 1 || privacy.delta_pico > kMaxDeltaPico) {
    return malformed("spec.privacy.delta_pico", "expected 1 to 999999999999");
  }
  return check_pool(spec);
}

}  // namespace

PoolMember member_of(const TrainingSpec& spec, size_t index) {
  const PrivacySpec& privacy = *spec.privacy;
  if (privacy.pool.empty()) return {privacy.clip, privacy.epsilon_micro, spec.sampling_threshold};
  CHECK(index < privacy.pool.size());
  return privacy.pool[index];
}

double noise_on(const TrainingSpec& spec, size_t index) {
  const PrivacySpec& privacy = *spec.privacy;
  const double own = member_of(spec, index).clip;
  if (own == privacy.clip) return privacy.noise_multiplier;
  return privacy.noise_multiplier * (privacy.clip / own) * (1 - 0x1p-50);
}

Result<ModelShape> check_spec(const TrainingSpec& spec) {
  ModelShape shape;
  Shape3 input = TRY(check_input(spec));
  shape.outputs.push_back(input);
  if (spec.classes < 2 || spec.classes > kMaxWidth)
    return malformed("spec.classes", "expected 2 to 65536");
  if (spec.model.empty() || spec.model.size() > kMaxNodes)
    return malformed("spec.model", "expected 1 to 256 nodes");
  TRY(check_schedule(spec));
  TRY(check_optimizer(spec.optimizer));
  TRY(check_augmentation(spec));
  TRY(check_sampling_and_privacy(spec));

  std::vector<bool> read(spec.model.size() + 1, false);
  for (size_t i = 0; i < spec.model.size(); ++i) {
    const Node& node = spec.model[i];
    const std::string place = node_place(i);
    TRY(check_unused_fields(node, place));
    size_t least = node.op == Node::Op::kAdd || node.op == Node::Op::kConcat ? 2 : 1;
    size_t most = node.op == Node::Op::kConcat ? kMaxNodes : least;
    std::vector<uint32_t> sources = node.inputs;
    if (sources.empty()) sources.push_back(static_cast<uint32_t>(i));
    if (sources.size() < least || sources.size() > most) {
      return malformed(place + ".inputs", "expected " + std::to_string(least) +
                                              (most > least ? " or more" : "") + " for " +
                                              op_name(node.op));
    }
    std::vector<Shape3> inputs;
    for (uint32_t source : sources) {
      if (source > i) return malformed(place + ".inputs", "expected earlier nodes only");
      read[source] = true;
      inputs.push_back(shape.outputs[source]);
    }
    bool of_example = node.op == Node::Op::kEmbedding || node.op == Node::Op::kColumns ||
                      node.op == Node::Op::kScattering;
    if (of_example && sources.front() != 0)
      return malformed(place + ".inputs", "expected the example, 0");
    if (node.op == Node::Op::kBatchNorm && spec.privacy && !node.frozen) {
      return malformed(place,
                       "expected no batch_norm under privacy, except frozen: it mixes the examples "
                       "of a batch, so no "
                       "example's influence could be bounded; use group_norm");
    }
    NodeShape result = TRY(shape_of(node, inputs, place));
    if (result.output.count() > kMaxActivations)
      return malformed(place, "expected at most 16777216 numbers in one output");
    shape.outputs.push_back(result.output);
    shape.parameters += result.parameters;
    if (!node.frozen) shape.trained += result.parameters;
    if (shape.parameters > kMaxParameters)
      return malformed(place, "expected at most 50000000 parameters in all");
  }
  for (size_t i = 0; i < spec.model.size(); ++i) {
    if (!read[i]) {
      return malformed(i == 0 ? "spec.model" : node_place(i - 1),
                       "expected every node's output, and the example, to be read by a later node");
    }
  }
  TRY(check_readers_of_input(spec));
  TRY(check_output(spec, shape.outputs.back()));
  if (shape.trained == 0) return malformed("spec.model", "expected something to train");
  return shape;
}

}  // namespace souk::contracts
