#include "ledger/codec/gzip.h"

#include <zlib.h>

#include <algorithm>

namespace souk {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

// inflateEnd on every way out.
class Inflater {
 public:
  Inflater() { ready_ = inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK; }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() {
    if (ready_) inflateEnd(&stream_);
  }
  bool ready() const { return ready_; }
  z_stream& stream() { return stream_; }

 private:
  z_stream stream_{};
  bool ready_ = false;
};

}  // namespace

bool is_gzip(ByteView bytes) {
  return bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

Result<Bytes> gunzip(ByteView packed, size_t max_bytes) {
  Inflater inflater;
  if (!inflater.ready()) return Error(Code::kBroken, "gzip: expected zlib to start");
  auto& stream = inflater.stream();
  Bytes out;
  Bytes piece(kPieceBytes);
  size_t at = 0;
  while (true) {
    auto input = packed.subspan(at, std::min(packed.size() - at, kPieceBytes));
    stream.next_in = const_cast<Bytef*>(input.data());  // zlib does not write to it
    stream.avail_in = static_cast<uInt>(input.size());
    stream.next_out = piece.data();
    stream.avail_out = static_cast<uInt>(piece.size());
    int status = inflate(&stream, Z_NO_FLUSH);
    at += input.size() - stream.avail_in;
    size_t made = piece.size() - stream.avail_out;
    if (made > max_bytes - out.size()) {
      return Error(Code::kMalformed,
                   "gzip: expected at most " + std::to_string(max_bytes) + " bytes inside");
    }
    append(out, ByteView(piece).first(made));
    if (status == Z_STREAM_END) {
      if (at == packed.size()) return out;
      inflateReset(&stream);  // a gzip file may have several members
    } else if (status != Z_OK) {
      // Z_BUF_ERROR: no progress is possible, so the file ends early.
      return Error(Code::kMalformed,
                   "gzip, byte " + std::to_string(at) + ": expected " +
                       (status == Z_BUF_ERROR ? "more bytes" : "valid gzip data"));
    }
  }
}

}  // namespace souk
