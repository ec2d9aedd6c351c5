// Sealed state on the host's disk: pieces, each after its length (4 bytes, big endian). What is in
// them only the keeper knows (trainer/keeper/sealed_state.h). trainer/SPEC.md, Sealed state.
#pragma once

#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

inline constexpr size_t kSealedPieceBytes = size_t{1} << 20;  // of state in one piece
inline constexpr size_t kMaxSealedPieces = 256;
// A state of one piece travels inside the message that brings it.
inline constexpr size_t kMaxInlineSealed = kSealedPieceBytes + 1024;

Bytes framed_piece(ByteView piece);
// kMalformed unless `file` is whole pieces, at least one and at most kMaxSealedPieces.
Result<std::vector<Bytes>> split_pieces(ByteView file);

}  // namespace souk::trainer
