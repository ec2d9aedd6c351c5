#include "trainer/engine/strategy.h"

#include <algorithm>

namespace souk::trainer {
namespace {

constexpr double kUnit = 0x1p-24;  // rounding of one operation in single precision

// Higham's gamma_n: n roundings one after another, or in any other order.
double gamma(double n) {
  return n * kUnit / (1 - n * kUnit);
}

bool can_be_ghost(const Layer& layer, uint32_t views) {
  const Node& node = layer.node;
  return views == 1 && node.groups == 1 && node.stride == 1 && node.kernel % 2 == 1 &&
         2 * node.padding + 1 == node.kernel && layer.in.height * layer.in.width <= 256;
}

// Nanoseconds for one example on a core of 2024; only which of the two is less matters.
bool ghost_is_cheaper(const Layer& layer) {
  const double pixels = double{1} * layer.out.height * layer.out.width,
               weights = static_cast<double>(layer.weight_count);
  const double product = 2 * pixels * weights / 250;
  const double stored = product * 1.1 + 16 * weights / 40;
  const double gram = 2 * pixels * pixels * (layer.in.channels + layer.out.channels) / 80;
  const double shifts = 2 * pixels * pixels * layer.node.kernel * layer.node.kernel / 10;
  return product + gram + shifts < stored;
}

}  // namespace

LayerStrategy choose_strategy(const Layer& layer, uint32_t shard, uint32_t views,
                              const Strategy* forced) {
  LayerStrategy out;
  double terms =
      1;  // single-precision products that one example adds to one number of the gradient
  switch (layer.node.op) {
    case Node::Op::kLinear:
      out.strategy = layer.node.standardize ? Strategy::kExplicit : Strategy::kGoodfellow;
      if (out.strategy == Strategy::kGoodfellow) terms = views;
      break;
    case Node::Op::kEmbedding:
      out.strategy = Strategy::kTable;
      break;
    case Node::Op::kConv2d:
      if (layer.node.standardize) {
        out.strategy = Strategy::kExplicit;
      } else {
        bool ghost = can_be_ghost(layer, views) &&
                     (forced ? *forced == Strategy::kGhost : ghost_is_cheaper(layer));
        out.strategy = ghost ? Strategy::kGhost : Strategy::kStored;
        if (ghost) terms = static_cast<double>(layer.out.height) * layer.out.width;
      }
      break;
    default:
      out.strategy = Strategy::kNorm;
  }
  for (uint32_t chunk = 1; chunk <= shard; ++chunk) {
    if (shard % chunk == 0 && double{1} * chunk * chunk * terms <= 4096) out.chunk = chunk;
  }
  // Within a chunk, then the chunks of the shard; two more for scaling and the factor itself.
  if (out.strategy == Strategy::kTable) {
    // Summed in double: one rounding at the end, one for scaling, one for the factor.
    out.chunk = shard;
    terms = 0;
    out.error = shard * gamma(3);
    return out;
  }
  const double chunks = (shard + out.chunk - 1) / out.chunk;
  out.error = out.chunk * gamma(out.chunk * terms + 2) + shard * gamma(chunks);
  return out;
}

}  // namespace souk::trainer
