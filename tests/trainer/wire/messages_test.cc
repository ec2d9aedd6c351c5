#include "trainer/wire/messages.h"

#include <gtest/gtest.h>

namespace souk::trainer {
namespace {

const std::vector<Kind> kKinds = {
    Kind::kBegin,    Kind::kLeaves,    Kind::kConfirm,   Kind::kAttest,    Kind::kBoot,
    Kind::kDecide,   Kind::kQuote,     Kind::kStart,     Kind::kAbort,     Kind::kTick,
    Kind::kRelease,  Kind::kChallenge, Kind::kPrepare,   Kind::kDataset,   Kind::kTrain,
    Kind::kInitial,  Kind::kReady,     Kind::kDone,      Kind::kConfirmed, Kind::kEvidence,
    Kind::kEnvelope, Kind::kDecision,  Kind::kNonce,     Kind::kProgress,  Kind::kResult,
    Kind::kStopped,  Kind::kRefused,   Kind::kTryPolicy, Kind::kSealed,    Kind::kMissing,
    Kind::kTakeUp,   Kind::kResumed};

Bytes raw(uint32_t length, uint8_t kind, std::string_view body) {
  Bytes out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(length >> shift));
  out.push_back(kind);
  append(out, as_bytes(body));
  return out;
}

Code code_of(ByteView bytes) {
  auto out = decode(bytes);
  EXPECT_FALSE(out);
  return out ? Code::kBroken : out.error().code();
}

TEST(Wire, EveryKindComesBackAsItWasSent) {
  for (Kind kind : kKinds) {
    Frame sent = frame(kind, Json::Object{{"step", 7}, {"text", "\u00e4"}});
    auto got = decode(encode(sent));
    ASSERT_TRUE(got) << static_cast<int>(kind);
    EXPECT_EQ(got->kind, kind);
    EXPECT_EQ(got->body, sent.body);
  }
  Bytes any = {0, 255, 1, '{'};
  auto got = decode(encode(frame_of_bytes(any)));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->kind, Kind::kBytes);
  EXPECT_EQ(got->body, any);
}

TEST(Wire, AnEmptyPieceOfBytesIsAFrame) {
  Bytes bytes = encode(frame_of_bytes({}));
  EXPECT_EQ(bytes, (Bytes{0, 0, 0, 1, 96}));
  auto got = decode(bytes);
  ASSERT_TRUE(got);
  EXPECT_TRUE(got->body.empty());
}

TEST(Wire, TheLengthIsBigEndianAndCountsTheKind) {
  EXPECT_EQ(encode(frame(Kind::kTick, Json::Object{})), raw(3, 10, "{}"));
}

TEST(Wire, EveryOtherKindIsRefused) {
  for (int kind = 0; kind < 256; ++kind) {
    bool ours = kind == 96;
    for (Kind known : kKinds) ours = ours || kind == static_cast<int>(known);
    EXPECT_EQ(bool(decode(raw(3, static_cast<uint8_t>(kind), "{}"))), ours) << kind;
  }
}

TEST(Wire, EveryPrefixOfAFrameIsRefused) {
  Bytes whole = encode(frame(Kind::kNonce, Json::Object{{"nonce", "00"}}));
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_EQ(code_of(ByteView(whole).first(length)), Code::kMalformed) << length;
  }
}

TEST(Wire, AByteAfterTheFrameIsRefused) {
  Bytes more = encode(frame(Kind::kDone, Json::Object{}));
  more.push_back(0);
  EXPECT_EQ(code_of(more), Code::kMalformed);
}

TEST(Wire, ALengthOneOffIsRefused) {
  EXPECT_EQ(code_of(raw(2, 10, "{}")), Code::kMalformed);
  EXPECT_EQ(code_of(raw(4, 10, "{}")), Code::kMalformed);
}

TEST(Wire, ALengthOfNothingOrOfTooMuchIsRefused) {
  EXPECT_FALSE(frame_length(raw(0, 10, "")));
  EXPECT_FALSE(frame_length(raw(static_cast<uint32_t>(kMaxFrame) + 1, 96, "")));
  EXPECT_FALSE(frame_length(raw(0xffffffff, 96, "")));
  auto largest = frame_length(raw(static_cast<uint32_t>(kMaxFrame), 96, ""));
  ASSERT_TRUE(largest);
  EXPECT_EQ(*largest, kMaxFrame + 4);
}

TEST(Wire, TheLargestFrameFits) {
  Bytes body(kMaxFrame - 1, 0xa5);
  auto got = decode(encode(frame_of_bytes(body)));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->body, body);
}

TEST(Wire, OnlyCanonicalJsonIsABody) {
  for (const char* body :
       {"", "{", "{} ", "{\"b\":1,\"a\":1}", "{\"a\": 1}", "{\"a\":1.5}", "{\"a\":1,\"a\":1}"}) {
    EXPECT_EQ(code_of(raw(static_cast<uint32_t>(1 + std::string_view(body).size()), 10, body)),
              Code::kMalformed)
        << body;
  }
}

TEST(Wire, ARefusalCarriesItsCodeAndMessage) {
  for (Code code : {Code::kMalformed, Code::kUnauthentic, Code::kRefused, Code::kNotFound,
                    Code::kConflict, Code::kExhausted, Code::kTryAgain, Code::kBroken}) {
    auto got = expect(refusal(Error(code, "expected more")), Kind::kDone);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), code);
    EXPECT_EQ(got.error().expected(), "expected more");
  }
}

TEST(Wire, ARefusalThatIsNotOneIsMalformed) {
  for (const char* body : {"{}", "{\"code\":\"refused\"}", "{\"code\":1,\"message\":\"\"}",
                           "{\"code\":\"refused\",\"extra\":1,\"message\":\"\"}"}) {
    auto got = expect(Frame{Kind::kRefused, to_bytes(body)}, Kind::kDone);
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code(), Code::kMalformed) << body;
  }
}

TEST(Wire, AnUnknownCodeIsNeverGoodNews) {
  auto got =
      expect(frame(Kind::kRefused, Json::Object{{"code", "fine"}, {"message", ""}}), Kind::kDone);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kBroken);
}

TEST(Wire, AnotherKindThanExpectedIsMalformed) {
  auto got = expect(frame(Kind::kDone, Json::Object{}), Kind::kReady);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Code::kMalformed);
}

}  // namespace
}  // namespace souk::trainer
