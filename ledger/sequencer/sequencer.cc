#include "ledger/sequencer/sequencer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tlog_proof.h"

namespace souk::ledger {
namespace {

constexpr size_t kMaxBatchEntries = 4096;
constexpr size_t kMaxBatchBytes = 1 << 20;
constexpr size_t kMaxQueue = 16384;

// What is left of an entry once it has a place: all else is given back by the thread that
// brought it.
struct Waiting {
  Bytes envelope;
  Digest envelope_hash{};  // as it was when the signature was verified
  Digest payload_hash{};
  std::string market;
  NonceKey key{};
  NonceAnswer before;  // whether it was in the ledger when it was submitted
  std::promise<Result<uint64_t>> answer;
};

Error broken() {
  return Error(Code::kBroken,
               "expected to know whether the last write happened; the ledger takes entries again "
               "when it is reopened");
}

Error taken() {
  return Error(Code::kConflict, "expected a nonce this author has not used");
}

// Whether a stored leaf carries exactly this envelope.
bool carries(ByteView leaf_bytes, const Bytes& envelope) {
  auto leaf = decode_leaf(leaf_bytes);
  return leaf && leaf->envelope == envelope;
}

// An entry and the place it has; several may have one place.
struct Placed {
  uint64_t seq = 0;
  Waiting waiting;
};

// A batch while it waits for the one before it to be committed.
struct Prepared {
  Batch batch;
  size_t bytes = 0;
  std::deque<Placed> placed;

  bool full() const { return batch.entries.size() >= kMaxBatchEntries || bytes >= kMaxBatchBytes; }
};

// Where the next entry goes, if all that is prepared is committed.
struct Tip {
  TileTree tree;
  Digest last_leaf{};
  TimeMs time = 0;
  std::string market;  // hex; empty before the genesis
};

struct KeyHash {
  size_t operator()(const NonceKey& key) const {
    size_t hash = 0;
    std::memcpy(&hash, key.data(), sizeof hash);  // it is a hash already
    return hash;
  }
};

using SteadyClock = std::chrono::steady_clock;

}  // namespace

struct Sequencer::Impl {
  // Set once in start().
  LedgerStore store;
  SigningKey log_key;
  NoteKey note_key;
  Clock& clock;

  // Guarded by mutex. Whoever submits an entry gives it its place, so that a batch is made
  // ready while the one before it is committed.
  std::mutex mutex;
  std::condition_variable changed;
  Tip tip;
  std::deque<Prepared> prepared;                            // the last one may still grow
  std::shared_ptr<const Prepared> committing;               // what the sequencer thread has taken
  std::unordered_map<NonceKey, uint64_t, KeyHash> pending;  // places in those
  size_t waiting = 0;                                       // in `prepared`
  size_t wake_at = 1;
  bool stopping = false;
  bool failed = false;
  std::optional<Error> trouble;  // of the last write

  std::atomic<uint64_t> batches = 0;

  // Owned by the sequencer thread.
  SteadyClock::duration last_commit{};
  std::array<size_t, 2> last_batches{};

  std::thread thread;

  Impl(LedgerStore s, SigningKey k, NoteKey n, Clock& c)
      : store(std::move(s)), log_key(std::move(k)), note_key(std::move(n)), clock(c) {}

  void run();
  std::shared_ptr<Prepared> next();
  void finish(const std::shared_ptr<Prepared>& done, Status committed);
  void fail(std::deque<Placed> placed);
  Tip tip_of_store(std::string market) const;
  void place(Waiting one);
  ByteView prepared_leaf(uint64_t seq) const;
  Prepared& open_batch();
  void close(Prepared& batch) const;
  Result<std::optional<uint64_t>> earlier(const Waiting& one) const;
  Status belongs_here(const std::string& market, uint64_t seq) const;
  Status self_check(const Prepared& prepared, const Extension& extension) const;
  Status commit(Prepared& prepared);
  Result<Receipt> receipt(uint64_t seq) const;
};

Sequencer::Sequencer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Sequencer>> Sequencer::start(LedgerStore store, SigningKey log_key,
                                                    std::string origin, Clock& clock) {
  auto note_key = TRY(NoteKey::of(std::move(origin), log_key.public_key()));
  TRY(store.bind_log_key(note_key.vkey()));
  auto impl =
      std::make_unique<Impl>(std::move(store), std::move(log_key), std::move(note_key), clock);

  std::string market;
  if (impl->store.size() > 0) {
    auto bytes = TRY(impl->store.leaf(0));
    auto leaf = TRY(decode_leaf(bytes));
    auto signed_entry = TRY(SignedEntry::decode(leaf.envelope));
    auto genesis = TRY(authenticate(std::move(signed_entry)));
    market = to_hex(ByteView(genesis.payload_hash()));
  }

  if (impl->store.checkpoint().empty()) {
    // A new ledger gets a checkpoint over nothing, so that there always is one.
    Batch nothing{
        .old_root = empty_root(), .entries = {}, .new_root = empty_root(), .checkpoint = {}};
    nothing.checkpoint =
        sign_checkpoint({.origin = impl->note_key.name(), .size = 0, .root = empty_root()},
                        impl->note_key, impl->log_key);
    TRY(impl->store.append_batch(nothing));
  }
  TRY(open_checkpoint(impl->store.checkpoint(), impl->note_key));
  impl->tip = impl->tip_of_store(std::move(market));

  std::unique_ptr<Sequencer> sequencer(new Sequencer(std::move(impl)));
  sequencer->impl_->thread = std::thread([state = sequencer->impl_.get()] { state->run(); });
  return sequencer;
}

Sequencer::~Sequencer() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<Receipt> Sequencer::append(AuthenticEntry entry) {
  auto seq = TRY(submit(std::move(entry)).get());
  return impl_->receipt(seq);
}

std::future<Result<uint64_t>> Sequencer::submit(AuthenticEntry entry) {
  std::promise<Result<uint64_t>> refused;
  auto answered = [&](Error error) {
    refused.set_value(std::move(error));
    return refused.get_future();
  };
  // The search in the index is done here, by the caller's thread.
  auto key = nonce_key(entry.author(), entry.nonce());
  auto before = impl_->store.ask_nonce(key);
  if (!before) return answered(before.error());
  Waiting one{.envelope = {},
              .envelope_hash = entry.envelope_hash(),
              .payload_hash = entry.payload_hash(),
              .market = entry.market(),
              .key = key,
              .before = *before,
              .answer = {}};
  one.envelope = std::move(entry).take_envelope();
  auto answer = one.answer.get_future();
  bool wake = false;
  {
    std::lock_guard lock(impl_->mutex);
    if (impl_->failed) return answered(broken());
    if (impl_->stopping || impl_->waiting >= kMaxQueue) {
      return answered(Error(Code::kTryAgain, "expected room in the ledger's queue"));
    }
    impl_->place(std::move(one));
    wake = impl_->waiting >= impl_->wake_at;
  }
  if (wake) impl_->changed.notify_one();
  return answer;
}

// ---- places, under the mutex

Tip Sequencer::Impl::tip_of_store(std::string market) const {
  return {*store.snapshot().tree, store.last_leaf(), store.last_time(), std::move(market)};
}

// The leaf of a place that is prepared or being committed.
ByteView Sequencer::Impl::prepared_leaf(uint64_t seq) const {
  auto in = [&](const Prepared& one) {
    return seq >= one.batch.old_size && seq < one.batch.old_size + one.batch.entries.size();
  };
  if (committing && in(*committing)) {
    return committing->batch.entries[seq - committing->batch.old_size].leaf;
  }
  for (const auto& one : prepared) {
    if (in(one)) return one.batch.entries[seq - one.batch.old_size].leaf;
  }
  return {};
}

Prepared& Sequencer::Impl::open_batch() {
  if (!prepared.empty() && !prepared.back().full()) return prepared.back();
  if (!prepared.empty()) close(prepared.back());
  Prepared next;
  next.batch.old_size = tip.tree.size();
  next.batch.old_root = tip.tree.root();
  next.batch.time = tip.time = std::clamp<TimeMs>(clock.now(), tip.time, kMaxJsonInteger);
  prepared.push_back(std::move(next));
  return prepared.back();
}

// Nothing more is added to it: the tip is its end.
void Sequencer::Impl::close(Prepared& one) const {
  one.batch.new_size = tip.tree.size();
  one.batch.new_root = tip.tree.root();
}

void Sequencer::Impl::place(Waiting one) {
  // First what has its place and is not served yet: the index knows it a moment before readers do.
  if (auto there = pending.find(one.key); there != pending.end()) {
    if (!carries(prepared_leaf(there->second), one.envelope)) return one.answer.set_value(taken());
    open_batch().placed.push_back({there->second, std::move(one)});
    ++waiting;
    return;
  }
  auto before = earlier(one);
  if (!before || *before) {
    one.answer.set_value(before ? Result<uint64_t>(**before) : Result<uint64_t>(before.error()));
    return;
  }
  uint64_t seq = tip.tree.size();
  auto belongs = belongs_here(one.market, seq);
  if (!belongs) return one.answer.set_value(belongs.error());
  auto& into = open_batch();
  auto leaf =
      encode_leaf({.seq = seq, .prev = tip.last_leaf, .time = into.batch.time}, one.envelope);
  tip.last_leaf = leaf_hash(leaf);
  std::vector<FilledTile> filled;  // the store fills its own
  tip.tree.append(tip.last_leaf, filled);
  if (seq == 0) tip.market = to_hex(ByteView(one.payload_hash));
  into.bytes += leaf.size();
  pending.emplace(one.key, seq);
  into.batch.entries.emplace_back(std::move(leaf), one.key);
  into.placed.push_back({seq, std::move(one)});
  ++waiting;
}

// ---- the sequencer thread

// What has come together during the last commit. There is no timer; only that those who
// waited for that commit and send again at once come into this batch together, and not each
// after another's fsync: for as many as there were last time it waits an eighth of a commit.
std::shared_ptr<Prepared> Sequencer::Impl::next() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return stopping || !prepared.empty(); });
  if (prepared.empty()) return nullptr;
  wake_at = std::max(last_batches[0], last_batches[1]);
  changed.wait_for(lock, last_commit / 8,
                   [&] { return stopping || waiting >= wake_at || prepared.size() > 1; });
  wake_at = 1;
  if (prepared.size() == 1) close(prepared.front());
  auto taken = std::make_shared<Prepared>(std::move(prepared.front()));
  prepared.pop_front();
  waiting -= taken->placed.size();
  last_batches = {taken->placed.size(), last_batches[0]};
  committing = taken;
  return taken;
}

void Sequencer::Impl::run() {
  while (auto taken = next()) {
    auto start = SteadyClock::now();
    auto committed = commit(*taken);
    last_commit = SteadyClock::now() - start;
    finish(taken, std::move(committed));
    if (failed) return;
  }
}

// Only "nothing was written" leaves us where we were, and what was prepared behind it is
// prepared anew. Another writer, or a batch that does not add up, is as final as an unknown
// outcome.
void Sequencer::Impl::finish(const std::shared_ptr<Prepared>& done, Status committed) {
  if (!committed && committed.error().code() != Code::kTryAgain) {
    return fail(std::move(done->placed));
  }
  {
    std::lock_guard lock(mutex);
    committing.reset();
    trouble.reset();
    if (!committed) trouble = committed.error();
    if (committed) {
      for (const auto& entry : done->batch.entries) pending.erase(entry.key);
    } else {
      auto behind = std::exchange(prepared, {});
      pending.clear();
      waiting = 0;
      tip = tip_of_store(done->batch.old_size == 0 ? "" : tip.market);
      for (auto& one : behind) {
        for (auto& entry : one.placed) place(std::move(entry.waiting));
      }
    }
  }
  if (committed && !done->batch.entries.empty()) ++batches;
  for (auto& one : done->placed) {
    one.waiting.answer.set_value(committed ? Result<uint64_t>(one.seq)
                                           : Result<uint64_t>(committed.error()));
  }
}

// After an ambiguous write: nobody learns anything any more, until a reopening has
// found out what is on disk.
void Sequencer::Impl::fail(std::deque<Placed> placed) {
  std::deque<Prepared> rest;
  {
    std::lock_guard lock(mutex);
    failed = true;
    trouble = broken();
    committing.reset();
    rest = std::exchange(prepared, {});
    waiting = 0;
  }
  for (auto& one : placed) one.waiting.answer.set_value(broken());
  for (auto& batch : rest) {
    for (auto& one : batch.placed) one.waiting.answer.set_value(broken());
  }
}

// The place of the same entry, appended before; kConflict when another has its nonce.
Result<std::optional<uint64_t>> Sequencer::Impl::earlier(const Waiting& one) const {
  auto seq = TRY(store.ask_nonce_again(one.key, one.before));
  if (!seq) return seq;
  auto leaf = TRY(store.leaf(*seq));
  if (!carries(leaf, one.envelope)) return taken();
  return seq;
}

Status Sequencer::Impl::belongs_here(const std::string& market, uint64_t seq) const {
  if (seq == 0 && !market.empty()) {
    return Error(Code::kRefused, "expected a genesis, which names no market, as the first entry");
  }
  if (seq != 0 && market != tip.market) {
    return Error(Code::kRefused, "expected an entry for the market of this ledger");
  }
  return Done{};
}

// The bytes about to be written, compared and hashed once more by the store, must extend the
// tree we signed last: one flipped bit would otherwise be signed for ever.
Status Sequencer::Impl::self_check(const Prepared& prepared_batch,
                                   const Extension& extension) const {
  const Batch& batch = prepared_batch.batch;
  Digest prev = store.last_leaf();
  uint64_t seq = batch.old_size;
  for (const auto& one : prepared_batch.placed) {
    if (one.seq < seq) continue;  // the same entry twice
    const auto& envelope = one.waiting.envelope;
    const Bytes& leaf = batch.entries[seq - batch.old_size].leaf;
    // What was verified is what is written: its author's signature holds for these bytes.
    bool same = sha256(envelope) == one.waiting.envelope_hash &&
                is_leaf_of(leaf, {seq, prev, batch.time}, envelope);
    if (!same) return Error(Code::kBroken, "self-check: expected the next link of the chain");
    prev = extension.leaf_hashes()[seq - batch.old_size];
    ++seq;
  }
  if (batch.time < store.last_time() || seq != batch.new_size ||
      extension.root() != batch.new_root || extension.tree().size() != batch.new_size) {
    return Error(Code::kBroken, "self-check: expected the same tree twice");
  }
  if (batch.old_size == 0) return Done{};
  FetchTile fetch = [&](uint8_t level, uint64_t index) -> Result<SharedTile> {
    for (const auto& one : extension.filled()) {
      if (one.level == level && one.index == index) return one.tile;
    }
    return store.full_tile(level, index);
  };
  auto proof = TRY(TileProver(extension.tree(), fetch).consistency(batch.old_size, batch.new_size));
  return verify_consistency(batch.old_size, batch.new_size, proof, batch.old_root, batch.new_root);
}

// One batch: self-check, signature, commit; in this order.
Status Sequencer::Impl::commit(Prepared& taken) {
  Batch& batch = taken.batch;
  if (batch.entries.empty()) return Done{};  // all of them were in the batch before
  auto extension = store.extend(batch);
  if (!extension) return Error(Code::kBroken, extension.error().expected());
  auto checked = self_check(taken, *extension);
  if (!checked) return Error(Code::kBroken, checked.error().expected());
  batch.checkpoint =
      sign_checkpoint({.origin = note_key.name(), .size = batch.new_size, .root = batch.new_root},
                      note_key, log_key);
  // A crash here: the checkpoint is signed but nobody has seen it, and the next start
  // signs another over what is then on disk.
  return store.append_batch(batch, std::move(*extension));
}

Result<Receipt> Sequencer::Impl::receipt(uint64_t seq) const {
  auto now = store.snapshot();
  auto path = TRY(store.inclusion_proof(now, seq, now.tree->size()));
  auto hash = TRY(store.leaf_hashes(seq, 1));
  TlogProof proof{.index = seq, .path = std::move(path), .checkpoint = now.checkpoint};
  return Receipt{.seq = seq,
                 .leaf_hash = hash.front(),
                 .checkpoint = now.checkpoint,
                 .tlog_proof = proof.text()};
}

Result<Receipt> Sequencer::prove(uint64_t seq) const {
  if (seq >= size()) return Error(Code::kNotFound, "expected an entry of this ledger");
  return impl_->receipt(seq);
}

Result<std::vector<Digest>> Sequencer::inclusion(uint64_t seq, uint64_t size) const {
  if (seq >= size || size > this->size()) {
    return Error(Code::kMalformed, "expected an entry below a size of the ledger");
  }
  return impl_->store.inclusion_proof(impl_->store.snapshot(), seq, size);
}

Result<std::vector<Digest>> Sequencer::consistency(uint64_t old_size, uint64_t new_size) const {
  return impl_->store.consistency_proof(impl_->store.snapshot(), old_size, new_size);
}

Result<Bytes> Sequencer::tile(const TilePath& path) const {
  return impl_->store.tile(path);
}

Status Sequencer::health() const {
  std::lock_guard lock(impl_->mutex);
  if (impl_->trouble) return *impl_->trouble;
  return Done{};
}

uint64_t Sequencer::batches() const {
  return impl_->batches;
}

uint64_t Sequencer::size() const {
  return impl_->store.size();
}

Digest Sequencer::root() const {
  return impl_->store.root();
}

std::string Sequencer::checkpoint() const {
  return impl_->store.checkpoint();
}

const NoteKey& Sequencer::log_key() const {
  return impl_->note_key;
}
Result<Bytes> Sequencer::leaf(uint64_t seq) const {
  return impl_->store.leaf(seq);
}
Result<std::vector<Bytes>> Sequencer::leaves(uint64_t from, size_t max) const {
  return impl_->store.leaves(from, max);
}

}  // namespace souk::ledger
