// The whole conversation between host and enclave. One frame is
//   length (4 bytes, big endian, of what follows) | kind (1 byte) | body
// with a canonical JSON body, or raw bytes for kBytes. Frames are at most
// kMaxFrame; the host speaks first and every request has one answer, except the
// progress of a running job. What leaves an enclave is declared here and nowhere
// else. trainer/SPEC.md, Wire.
#pragma once

#include <cstdint>
#include <string>

#include "contracts/records/records.h"
#include "ledger/base/bytes.h"
#include "ledger/codec/json.h"

namespace souk::trainer {

inline constexpr size_t kMaxFrame = 4 << 20;
inline constexpr size_t kPieceBytes = 1 << 20;  // of ciphertext in one kBytes frame

enum class Kind : uint8_t {
  // host -> keeper
  kBegin = 1,       // {genesis: b64 leaf, sealed: b64 or ""}          -> kReady
  kLeaves = 2,      // {leaves: [b64]}                                  -> kDone
  kConfirm = 3,     // {checkpoint}                                     -> kConfirmed
  kAttest = 4,      // {nonce}                                          -> kEvidence
  kBoot = 5,        // {}                                               -> kEnvelope
  kDecide = 6,      // {contract}, {unavailable: [dataset]}             -> kEnvelope
  kQuote = 7,       // {consumer, submit}, {unavailable}                -> kDecision
  kStart = 8,       // {contract, evidence}                             -> kEnvelope
  kAbort = 9,       // {contract, reason}, {dataset}                    -> kEnvelope
  kTick = 10,       // {}                                               -> kEnvelope
  kRelease = 11,    // {contract}                                       -> kBytes
  kChallenge = 12,  // {contract}                                       -> kNonce
  kTryPolicy = 13,  // {source, parameters}: whether it answers at all  -> kDone
  kSealed = 14,     // {index}: of the state sealed last                -> kBytes
                    // kBytes before kBegin: pieces of it, in order, where it is more than one
                    // frame can carry                                  -> kDone
  // host -> trainer (kLeaves and kConfirm too)
  kPrepare = 32,  // {genesis, contract, nonce}                       -> kEvidence
  kDataset = 33,  // {dataset}; then kBytes frames; the last is empty -> kDone, or kStopped where
                  // they are not the ciphertext that job.start names
  kMissing = 36,  // {dataset}, before its last kBytes: there is no more of it -> kStopped
  kTrain = 34,    // {}                 -> kProgress ..., kBytes ..., kResult; after each
                  // kProgress, and whenever the host likes, the ledger as it stands: kLeaves ...,
                  // kConfirm, answered between two steps
  kTakeUp = 37,   // {genesis, contract}: instead of kPrepare, for a run whose sealed state is in
                  // the shared file -> kEvidence, that of its job.start. Its first kConfirm is
                  // answered by kResumed, and the next one shows that recorded -> kConfirmed
  kInitial = 35,  // {}, where the spec names initial weights, before the first dataset; then
                  // kBytes frames; the last is empty                 -> kDone
  // enclave -> host
  kReady = 64,      // {measurement, sandbox}
  kDone = 65,       // {}
  kConfirmed = 66,  // {size, sealed}; where that is "": pieces, how many to ask for
  kEvidence = 67,   // {evidence}
  kEnvelope = 68,   // {envelope, sealed}, likewise
  kDecision = 69,   // {decision}
  kNonce = 70,      // {nonce}
  kProgress = 71,   // {step, epsilon_micro}: on a schedule fixed by the spec
  kResult = 72,     // {envelope}
  kStopped = 74,    // {envelope}: job.stop, for the kConfirm that shows the run revoked, and for
                    // a ciphertext that is not there
  kResumed = 75,    // {envelope}: job.resume
  kRefused = 73,    // {code, message}; a trainer's message is always ""
  // both ways
  kBytes = 96,
};

struct Frame {
  Kind kind = Kind::kRefused;
  Bytes body;
};

Frame frame(Kind kind, const Json& body);
Frame frame_of_bytes(ByteView bytes);
Frame refusal(const Error& error);
// The body of `frame` as JSON when it has this kind; the error it carries when it
// is kRefused; kMalformed otherwise.
Result<Json> expect(const Frame& frame, Kind kind);

Bytes encode(const Frame& frame);
// How many bytes the header at the start of `bytes` (>= 4) announces in all;
// kMalformed for a length outside 1 ... kMaxFrame.
Result<size_t> frame_length(ByteView bytes);
// Exactly one frame: length, a known kind, canonical JSON where JSON belongs.
Result<Frame> decode(ByteView bytes);

}  // namespace souk::trainer
