#include "trainer/keeper/sealed_state.h"

#include <algorithm>

#include "ledger/crypto/aead.h"
#include "ledger/crypto/random.h"
#include "trainer/wire/pieces.h"

namespace souk::trainer {
namespace {

constexpr size_t kSealing = 16, kNonce = 12, kTag = 16;
constexpr size_t kHead = kSealing + kNonce;

// The same bytes for a piece's writer and its reader.
Bytes place_of(ByteView sealing, size_t index, size_t count, std::string_view context) {
  Bytes out(sealing.begin(), sealing.end());
  for (size_t number : {index, count}) {
    for (int shift = 24; shift >= 0; shift -= 8)
      out.push_back(static_cast<uint8_t>(number >> shift));
  }
  append(out, as_bytes(context));
  return out;
}

}  // namespace

std::vector<Bytes> seal_state(ByteView key, std::string_view context, ByteView plain) {
  size_t count = std::max<size_t>(1, (plain.size() + kSealedPieceBytes - 1) / kSealedPieceBytes);
  CHECK(count <= kMaxSealedPieces);
  auto sealing = ledger::random_array<kSealing>();
  std::vector<Bytes> out;
  for (size_t index = 0; index < count; ++index) {
    size_t at = index * kSealedPieceBytes;
    auto part = plain.subspan(at, std::min(kSealedPieceBytes, plain.size() - at));
    auto nonce = ledger::random_array<kNonce>();
    Bytes piece(sealing.begin(), sealing.end());
    append(piece, nonce);
    append(piece, ledger::seal(key, nonce, place_of(sealing, index, count, context), part));
    out.push_back(std::move(piece));
  }
  return out;
}

Result<Bytes> open_state(ByteView key, std::string_view context, const std::vector<Bytes>& pieces) {
  Bytes plain;
  for (size_t index = 0; index < pieces.size(); ++index) {
    ByteView piece(pieces[index]);
    if (piece.size() < kHead + kTag) {
      return Error(Code::kMalformed, "expected sealed keeper state");
    }
    // The first piece's: one of another sealing does not open under it.
    auto sealing = ByteView(pieces.front()).first(kSealing);
    auto part =
        ledger::open(key, piece.subspan(kSealing, kNonce),
                     place_of(sealing, index, pieces.size(), context), piece.subspan(kHead));
    if (!part) {
      return Error(Code::kUnauthentic,
                   "expected all of a state sealed by this program on this platform for this "
                   "market, in its order");
    }
    append(plain, *part);
  }
  if (pieces.empty()) return Error(Code::kMalformed, "expected sealed keeper state");
  return plain;
}

}  // namespace souk::trainer
