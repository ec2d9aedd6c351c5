// Standard normals from a ChaCha20 key stream, many lanes at once: the one hot loop of the
// noise. trainer/SPEC.md, Engine, Noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace souk::trainer {

// A piece: 256 normals from the 48 blocks of 64 bytes that start at `counter`.
inline constexpr size_t kNormalsPerPiece = 256;
inline constexpr size_t kPairsPerPiece = kNormalsPerPiece / 2;
inline constexpr uint64_t kBlocksPerPiece = 48;

// What a CPU can do. All of them give the same bits: no fused multiply-adds, and every lane is
// on its own.
enum class Lanes : uint8_t { kPlain, kAvx2, kAvx512 };
Lanes lanes_of_this_cpu();

// `key_and_nonce`: the initial state of RFC 8439 (section 2.3), its counter ignored. Box-Muller:
// radius from 128 bits, angle from 64; in constant time. CHECKs that the counter does not wrap.
// Of the last piece only the first `pairs` pairs are sure to be made: normals i and
// kPairsPerPiece + i of it, i < pairs.
void normal_pieces(std::span<const uint32_t, 16> key_and_nonce, uint64_t counter,
                   std::span<double> out, Lanes lanes, size_t pairs = kPairsPerPiece);

}  // namespace souk::trainer
