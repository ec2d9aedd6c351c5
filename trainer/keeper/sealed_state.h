// What survives a keeper, sealed in pieces: so that no message and no buffer grows with the
// market. Each piece says, under the seal, which of how many of which sealing it is: all of one
// sealing in their order open, and nothing else does. trainer/SPEC.md, Sealed state.
#pragma once

#include <string_view>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

// The purpose of the key (trainer/session/sealing.h).
inline constexpr std::string_view kKeeperSeal = "souk/keeper-seal/v2\n";

// `context` says what it is about: the market. At least one piece, of at most kSealedPieceBytes of
// `plain` each. CHECKs that there are at most kMaxSealedPieces.
std::vector<Bytes> seal_state(ByteView key, std::string_view context, ByteView plain);
// kMalformed: not pieces at all. kUnauthentic: of another key or context, or not all of one
// sealing in their order.
Result<Bytes> open_state(ByteView key, std::string_view context, const std::vector<Bytes>& pieces);

}  // namespace souk::trainer
