#include "trainer/wire/pieces.h"

namespace souk::trainer {

Bytes framed_piece(ByteView piece) {
  Bytes out;
  out.reserve(piece.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<uint8_t>(piece.size() >> shift));
  }
  append(out, piece);
  return out;
}

Result<std::vector<Bytes>> split_pieces(ByteView file) {
  std::vector<Bytes> out;
  while (!file.empty()) {
    size_t length = 0;
    for (size_t i = 0; i < 4 && i < file.size(); ++i) length = length << 8 | file[i];
    bool whole = file.size() >= 4 && length > 0 && length <= kMaxInlineSealed &&
                 length <= file.size() - 4 && out.size() < kMaxSealedPieces;
    if (!whole) return Error(Code::kMalformed, "sealed state: expected whole pieces");
    auto piece = file.subspan(4, length);
    out.emplace_back(piece.begin(), piece.end());
    file = file.subspan(4 + length);
  }
  if (out.empty()) return Error(Code::kMalformed, "sealed state: expected at least one piece");
  return out;
}

}  // namespace souk::trainer
