#include "ledger/witness/witness.h"

#include <algorithm>
#include <mutex>

#include "ledger/proof/add_checkpoint.h"
#include "ledger/proof/merkle.h"

namespace souk::ledger {
namespace {

WitnessAnswer no(int status, const std::string& expected) {
  return {.status = status, .body = expected + "\n"};
}

WitnessAnswer conflict(uint64_t size) {
  return {.status = 409, .content_type = kTlogSizeType, .body = tlog_size_text(size)};
}

// The note with only the log signatures that were verified, and ours.
Note cosigned_note(const Note& note, std::span<const NoteKey> keys, NoteSignature ours) {
  Note out{.text = note.text, .signatures = {}};
  for (const auto& line : note.signatures) {
    bool of_log = std::any_of(keys.begin(), keys.end(), [&](const NoteKey& key) {
      return key.name() == line.name && key.id() == line.id;
    });
    if (of_log) out.signatures.push_back(line);
  }
  out.signatures.push_back(std::move(ours));
  return out;
}

}  // namespace

struct Witness::Impl {
  // Set once in start().
  CosignerKey name;
  SigningKey key;
  Clock& clock;
  // Guarded by mutex: checking the old size and persisting the new are one step.
  std::mutex mutex;
  WitnessStore store;
  CountGuard guard;
  bool broken = false;

  Impl(WitnessStore s, CosignerKey n, SigningKey k, CountGuard g, Clock& c)
      : name(std::move(n)), key(std::move(k)), clock(c), store(std::move(s)), guard(std::move(g)) {}

  Result<WitnessAnswer> judge(const AddCheckpoint& request);
  Result<WitnessAnswer> cosign_and_record(const Note& note, const Checkpoint& checkpoint,
                                          std::span<const NoteKey> keys,
                                          const WitnessStore::Latest& latest);
};

Witness::Witness(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Witness::~Witness() = default;

Result<std::unique_ptr<Witness>> Witness::start(WitnessStore store, CosignerKey name,
                                                SigningKey key, CountGuard guard, Clock& clock) {
  CHECK(name.public_key() == key.public_key());
  if (store.witness_vkey() != name.vkey()) {
    return Error(Code::kConflict, "expected the witness file of this key");
  }
  auto recorded = TRY(store.cosignatures());
  if (recorded < guard.count()) {
    return Error(Code::kRefused,
                 "expected a witness file with " + std::to_string(guard.count()) +
                     " cosignatures, this one has " + std::to_string(recorded) +
                     ": it is an old copy, and this witness must not go on with it");
  }
  return std::unique_ptr<Witness>(new Witness(std::make_unique<Impl>(
      std::move(store), std::move(name), std::move(key), std::move(guard), clock)));
}

WitnessAnswer Witness::add_checkpoint(std::string_view body) {
  auto request = parse_add_checkpoint(body);
  if (!request) return no(400, request.error().expected());
  std::lock_guard lock(impl_->mutex);
  if (impl_->broken) return no(500, "expected a disk that keeps what it is given");
  auto answer = impl_->judge(*request);
  if (answer) return *answer;
  if (answer.error().code() == Code::kTryAgain) return no(500, answer.error().expected());
  impl_->broken = true;  // what is on disk is unknown: no further word
  return no(500, answer.error().expected());
}

// tlog-witness, add-checkpoint, in the order of its text. Errors are those of our disk.
Result<WitnessAnswer> Witness::Impl::judge(const AddCheckpoint& request) {
  auto note = parse_note(request.checkpoint);
  auto checkpoint = note ? parse_checkpoint(note->text) : Result<Checkpoint>(note.error());
  CHECK(checkpoint);  // parse_add_checkpoint read both

  auto vkeys = TRY(store.keys_of(checkpoint->origin));
  if (vkeys.empty()) return no(404, "expected an origin this witness knows");
  std::vector<NoteKey> keys;
  for (const auto& vkey : vkeys) keys.push_back(TRY(NoteKey::parse(vkey)));
  auto is_signed = verify_note(*note, keys);
  if (!is_signed) return no(403, is_signed.error().expected());

  if (request.old_size > checkpoint->size) {
    return no(400, "expected an old size that is not above the checkpoint's");
  }
  auto stored = TRY(store.latest(checkpoint->origin));
  auto latest =
      stored.value_or(WitnessStore::Latest{.size = 0, .root = empty_root(), .time = 0, .note = ""});
  if (request.old_size != latest.size) return conflict(latest.size);

  auto contradiction = [&](const std::string& expected) -> Result<WitnessAnswer> {
    auto now = static_cast<uint64_t>(std::max<TimeMs>(clock.now(), 0) / 1000);
    TRY(store.keep_evidence(checkpoint->origin, now, request.text()));
    return no(422, expected);
  };
  if (checkpoint->size == 0 && checkpoint->root != empty_root()) {
    return contradiction("expected the root of the empty tree");
  }
  if (request.old_size == 0) {
    if (!request.proof.empty()) return contradiction("expected no proof from the empty tree");
  } else {
    auto consistent = verify_consistency(latest.size, checkpoint->size, request.proof, latest.root,
                                         checkpoint->root);
    if (!consistent) return contradiction(consistent.error().expected());
  }
  return cosign_and_record(*note, *checkpoint, keys, latest);
}

// Signed, then on disk, then counted, then told: a crash before the last leaves a
// cosignature that nobody has seen, of a tree we hold for the newest.
Result<WitnessAnswer> Witness::Impl::cosign_and_record(const Note& note,
                                                       const Checkpoint& checkpoint,
                                                       std::span<const NoteKey> keys,
                                                       const WitnessStore::Latest& latest) {
  // Never zero, and never before what we said last.
  auto now = static_cast<CosignTime>(std::max<TimeMs>(clock.now(), 1000) / 1000);
  CosignTime time = std::max<CosignTime>(now, latest.time);
  auto line = cosign(note.text, name, key, time);
  auto total = store.record(checkpoint.origin, latest.size, latest.root,
                            {.size = checkpoint.size,
                             .root = checkpoint.root,
                             .time = time,
                             .note = encode_note(cosigned_note(note, keys, line))});
  if (!total && total.error().code() == Code::kConflict) {
    // Another process writes to our file: the size it holds now is the answer.
    auto newer = TRY(store.latest(checkpoint.origin));
    return conflict(newer ? newer->size : 0);
  }
  if (!total) return std::move(total).take_error();
  TRY(guard.raise(*total));
  return WitnessAnswer{.body = signature_lines({&line, 1})};
}

WitnessAnswer Witness::checkpoint(std::string_view origin_hash) {
  std::lock_guard lock(impl_->mutex);
  auto latest = impl_->store.latest_by_hash(std::string(origin_hash));
  if (!latest) return no(500, latest.error().expected());
  if (!*latest) return no(404, "expected the origin hash of a log that was cosigned");
  return {.body = (*latest)->note};
}

}  // namespace souk::ledger
