// Standard normals in runs that stay in the cache, and are wiped after use.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "trainer/engine/chacha.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {

// Calls use(first, normals) for every run of `count` normals; what is left of a piece is lost.
template <class Use>
void for_each_normal_run(ChaCha20& random, size_t count, const Use& use) {
  constexpr size_t kRun = 16 * kNormalsPerPiece;
  alignas(64) std::array<double, kRun> normals;
  const Lanes lanes = lanes_of_this_cpu();
  for (size_t first = 0; first < count; first += kRun) {
    const size_t wanted = std::min(kRun, count - first);
    const size_t pieces = (wanted + kNormalsPerPiece - 1) / kNormalsPerPiece;
    std::span<double> made(normals.data(), pieces * kNormalsPerPiece);
    normal_pieces(random.state(), random.take_blocks(kBlocksPerPiece * pieces), made, lanes,
                  wanted - (pieces - 1) * kNormalsPerPiece);
    use(first, std::span<const double>(normals.data(), wanted));
  }
  const size_t used = (count + kNormalsPerPiece - 1) / kNormalsPerPiece * kNormalsPerPiece;
  wipe(normals.data(), std::min(kRun, used) * sizeof(double));
}

}  // namespace souk::trainer
