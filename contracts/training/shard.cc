#include "contracts/training/shard.h"

#include <algorithm>
#include <bit>

namespace souk::contracts {
namespace {

// Past these a shard gets no faster: an image's activations leave the core's cache, a flat
// example's products have long been large enough.
constexpr uint64_t kMostImages = 32, kMostFlat = 256, kMostActivations = uint64_t{1} << 22;
// Under privacy a shard keeps gradients of single examples until all their norms are known, and
// reads them once more. Past 32 MiB of them half as many images are faster; a quarter is not, since
// what is summed once for each shard then weighs as much (trainer/MEASURED.md).
constexpr uint64_t kMostKept = uint64_t{1} << 23;
// Below these a batch is not halved: waking a second thread would cost more than it does.
constexpr uint64_t kLeast = 32, kLeastProducts = uint64_t{1} << 20;
// Sampled batches vary: none is taken one by one.
constexpr uint64_t kRoom = 8;

// Numbers that a private pass keeps of one image: gradients of trained convolutions, but not where
// products of pixels give their norms for less (trainer/SPEC.md, ghost; about where its cost model
// turns).
uint64_t kept_of_an_image(const TrainingSpec& spec, const ModelShape& shape) {
  uint64_t kept = 0;
  for (size_t i = 0; i < spec.model.size(); ++i) {
    const Node& node = spec.model[i];
    if (node.op != Node::Op::kConv2d || node.frozen) continue;
    const Shape3 &in = shape.outputs[node.inputs.empty() ? i : node.inputs[0]],
                 &out = shape.outputs[i + 1];
    const uint64_t pixels = uint64_t{out.height} * out.width,
                   weights = uint64_t{node.units} * (in.channels / node.groups) * node.kernel *
                             node.kernel;
    const bool ghost = spec.augmentation.multiplicity == 1 && node.groups == 1 &&
                       node.stride == 1 && !node.standardize && weights >= 16 * pixels * pixels;
    if (!ghost) kept += weights;
  }
  return kept;
}

uint64_t most_at_once(const TrainingSpec& spec, const ModelShape& shape) {
  if (spec.input_shape.size() != 1) {
    const bool too_many = spec.privacy && kMostImages * kept_of_an_image(spec, shape) > kMostKept;
    return too_many ? kMostImages / 2 : kMostImages;
  }
  uint64_t activations = 0;
  for (const Shape3& own : shape.outputs)
    activations += own.count() * spec.augmentation.multiplicity;
  return std::clamp(std::bit_floor(kMostActivations / std::max<uint64_t>(1, activations)),
                    kMostImages, kMostFlat);
}

}  // namespace

uint32_t usual_shard(const TrainingSpec& spec, const ModelShape& shape) {
  const uint64_t batch = spec.batch, most = most_at_once(spec, shape),
                 products = kLeastProducts / std::max<uint64_t>(1, shape.parameters),
                 least = spec.input_shape.size() == 1 ? std::max(kLeast, products) : kLeast;
  // An even number of shards, so that two threads end together; four and eight nearly always do.
  const uint64_t shards =
      batch > most || batch >= 2 * least ? 2 * ((batch + 2 * most - 1) / (2 * most)) : 1;
  // Numbers with many divisors: sums of clipped gradients are made in chunks that divide a shard.
  const uint64_t each = (batch + shards - 1) / shards,
                 step = std::max<uint64_t>(1, std::bit_floor(each) / 8);
  return static_cast<uint32_t>(std::max(kRoom, (each + step - 1) / step * step));
}

}  // namespace souk::contracts
