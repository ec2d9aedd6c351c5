#include "contracts/training/shard.h"

#include <algorithm>
#include <bit>

namespace souk::contracts {
namespace {

// Past these a shard gets no faster: an image's activations leave the core's cache, a flat
// example's products have long been large enough.
constexpr uint64_t kMostImages = 32, kMostFlat = 256, kMostActivations = uint64_t{1} << 22;
// Below these a batch is not halved: waking a second thread would cost more than it does.
constexpr uint64_t kLeast = 32, kLeastProducts = uint64_t{1} << 20;
// Sampled batches vary: none is taken one by one.
constexpr uint64_t kRoom = 8;

uint64_t most_at_once(const TrainingSpec& spec, const ModelShape& shape) {
  if (spec.input_shape.size() != 1) return kMostImages;
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
