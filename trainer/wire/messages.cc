#include "trainer/wire/messages.h"

namespace souk::trainer {
namespace {

bool known(uint8_t kind) {
  return (kind >= 1 && kind <= 14) || (kind >= 32 && kind <= 37) || (kind >= 64 && kind <= 75) ||
         kind == 96;
}

Code code_named(const std::string& name) {
  for (Code code : {Code::kMalformed, Code::kUnauthentic, Code::kRefused, Code::kNotFound,
                    Code::kConflict, Code::kExhausted, Code::kTryAgain}) {
    if (name == code_name(code)) return code;
  }
  return Code::kBroken;
}

}  // namespace

Frame frame(Kind kind, const Json& body) {
  return Frame{kind, to_bytes(canonical(body))};
}

Frame frame_of_bytes(ByteView bytes) {
  return Frame{Kind::kBytes, Bytes(bytes.begin(), bytes.end())};
}

Frame refusal(const Error& error) {
  return frame(Kind::kRefused,
               Json::Object{{"code", code_name(error.code())}, {"message", error.expected()}});
}

Result<Json> expect(const Frame& frame, Kind kind) {
  if (frame.kind == Kind::kRefused && kind != Kind::kRefused) {
    auto json = TRY(parse_canonical(as_text(frame.body), kMaxFrame));
    auto fields = TRY(Fields::of(json, "refused"));
    auto code = TRY(fields.text("code", 32));
    auto message = TRY(fields.text("message", 1 << 16));
    TRY(fields.done());
    return Error(code_named(code), message);
  }
  if (frame.kind != kind) return Error(Code::kMalformed, "wire: expected another kind of frame");
  return parse_canonical(as_text(frame.body), kMaxFrame);
}

Bytes encode(const Frame& frame) {
  size_t length = frame.body.size() + 1;
  CHECK(length <= kMaxFrame);
  Bytes out;
  out.reserve(length + 4);
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(length >> shift));
  out.push_back(static_cast<uint8_t>(frame.kind));
  append(out, frame.body);
  return out;
}

Result<size_t> frame_length(ByteView bytes) {
  CHECK(bytes.size() >= 4);
  size_t length = 0;
  for (size_t i = 0; i < 4; ++i) length = length << 8 | bytes[i];
  if (length < 1 || length > kMaxFrame) {
    return Error(Code::kMalformed,
                 "wire: expected a frame of 1 to " + std::to_string(kMaxFrame) + " bytes");
  }
  return length + 4;
}

Result<Frame> decode(ByteView bytes) {
  if (bytes.size() < 5) return Error(Code::kMalformed, "wire: expected a whole frame");
  size_t length = TRY(frame_length(bytes));
  if (bytes.size() != length) return Error(Code::kMalformed, "wire: expected one whole frame");
  if (!known(bytes[4])) return Error(Code::kMalformed, "wire: expected a known kind of frame");
  Frame out{static_cast<Kind>(bytes[4]), Bytes(bytes.begin() + 5, bytes.end())};
  if (out.kind != Kind::kBytes) TRY(parse_canonical(as_text(out.body), kMaxFrame));
  return out;
}

}  // namespace souk::trainer
