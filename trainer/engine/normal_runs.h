// Standard normals in runs that stay in the cache, and are wiped after use.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "trainer/engine/chacha.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/wipe.h"

namespace souk::trainer {

// The first normal behind `count` others of a stream: at least their last piece's first sine, since
// sines come with their cosines for nothing.
inline size_t normals_behind(size_t count) {
  const size_t of_last = count == 0 ? 0 : (count - 1) % kNormalsPerPiece + 1;
  return count - of_last + (count == 0 ? 0 : std::max(of_last, kPairsPerPiece));
}

// Calls use(first, normals) for every run of `count` normals, and use_behind(first, normals) for
// every run of `behind` more of the same stream, from normals_behind(count) on: none is used twice.
// What is left of a piece is lost.
template <class Use, class UseBehind>
void for_each_normal_run(ChaCha20& random, size_t count, const Use& use, size_t behind,
                         const UseBehind& use_behind) {
  constexpr size_t kRun = 16 * kNormalsPerPiece;
  alignas(64) std::array<double, kRun> normals;
  const Lanes lanes = lanes_of_this_cpu();
  const size_t second = normals_behind(count), end = behind == 0 ? count : second + behind;
  for (size_t first = 0; first < end; first += kRun) {
    const size_t wanted = std::min(kRun, end - first),
                 pieces = (wanted + kNormalsPerPiece - 1) / kNormalsPerPiece,
                 last = first + (pieces - 1) * kNormalsPerPiece, of_last = first + wanted - last;
    // Where the last piece's sines are the first ones behind, its cosines end before.
    const size_t pairs = count > last && last + kPairsPerPiece == second && behind > 0
                             ? std::max(count - last, of_last - kPairsPerPiece)
                             : std::min(of_last, kPairsPerPiece);
    normal_pieces(random.state(), random.take_blocks(kBlocksPerPiece * pieces),
                  {normals.data(), pieces * kNormalsPerPiece}, lanes, pairs);
    if (first < count)
      use(first, std::span<const double>(normals.data(), std::min(wanted, count - first)));
    if (behind > 0 && first + wanted > second) {
      const size_t from = std::max(first, second);
      use_behind(from - second,
                 std::span<const double>(normals.data() + (from - first), first + wanted - from));
    }
  }
  const size_t used = (end + kNormalsPerPiece - 1) / kNormalsPerPiece * kNormalsPerPiece;
  wipe(normals.data(), std::min(kRun, used) * sizeof(double));
}

template <class Use>
void for_each_normal_run(ChaCha20& random, size_t count, const Use& use) {
  for_each_normal_run(random, count, use, 0, [](size_t, std::span<const double>) {});
}

}  // namespace souk::trainer
