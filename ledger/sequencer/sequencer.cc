#include "ledger/sequencer/sequencer.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "ledger/crypto/hash.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/tlog_proof.h"

namespace souk::ledger {
namespace {

constexpr size_t kMaxBatchEntries = 4096;
constexpr size_t kMaxBatchBytes = 1 << 20;
constexpr size_t kMaxQueue = 16384;

using Key = std::pair<PublicKey, std::string>;  // author and nonce

struct Waiting {
  AuthenticEntry entry;
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
bool carries(ByteView leaf_bytes, const AuthenticEntry& entry) {
  auto leaf = decode_leaf(leaf_bytes);
  return leaf && leaf->envelope == entry.envelope_bytes();
}

// An entry and the place it has in the batch; several may have one place.
struct Placed {
  uint64_t seq = 0;
  Waiting waiting;
};

}  // namespace

struct Sequencer::Impl {
  // Set once in start().
  LedgerStore store;
  SigningKey log_key;
  NoteKey note_key;
  Clock& clock;

  // Guarded by queue_mutex.
  std::mutex queue_mutex;
  std::condition_variable queue_changed;
  std::vector<Waiting> queue;
  bool stopping = false;
  bool failed = false;
  std::optional<Error> trouble;  // of the last write

  std::atomic<uint64_t> batches = 0;

  // Owned by the sequencer thread.
  std::string market;  // hex; empty before the genesis

  std::thread thread;

  Impl(LedgerStore s, SigningKey k, NoteKey n, Clock& c)
      : store(std::move(s)), log_key(std::move(k)), note_key(std::move(n)), clock(c) {}

  void run();
  void fail(std::vector<Placed> placed);
  void sequence(std::vector<Waiting> waiting);
  Result<std::optional<uint64_t>> earlier(const Waiting& one) const;
  Status belongs_here(const AuthenticEntry& entry, uint64_t seq) const;
  Status self_check(const Batch& batch, const std::vector<Placed>& placed) const;
  Status commit(Batch& batch, const std::vector<Placed>& placed);
  Result<Receipt> receipt(uint64_t seq) const;
};

Sequencer::Sequencer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Sequencer>> Sequencer::start(LedgerStore store, SigningKey log_key,
                                                    std::string origin, Clock& clock) {
  auto note_key = TRY(NoteKey::of(std::move(origin), log_key.public_key()));
  TRY(store.bind_log_key(note_key.vkey()));
  auto impl =
      std::make_unique<Impl>(std::move(store), std::move(log_key), std::move(note_key), clock);

  if (impl->store.size() > 0) {
    auto bytes = TRY(impl->store.leaf(0));
    auto leaf = TRY(decode_leaf(bytes));
    auto signed_entry = TRY(SignedEntry::decode(leaf.envelope));
    auto genesis = TRY(authenticate(std::move(signed_entry)));
    impl->market = to_hex(ByteView(genesis.payload_hash()));
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

  std::unique_ptr<Sequencer> sequencer(new Sequencer(std::move(impl)));
  sequencer->impl_->thread = std::thread([state = sequencer->impl_.get()] { state->run(); });
  return sequencer;
}

Sequencer::~Sequencer() {
  {
    std::lock_guard lock(impl_->queue_mutex);
    impl_->stopping = true;
  }
  impl_->queue_changed.notify_all();
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
  auto before = impl_->store.ask_nonce(entry.author(), entry.nonce());
  if (!before) return answered(before.error());
  std::future<Result<uint64_t>> answer;
  {
    std::lock_guard lock(impl_->queue_mutex);
    if (impl_->failed) return answered(broken());
    if (impl_->stopping || impl_->queue.size() >= kMaxQueue) {
      return answered(Error(Code::kTryAgain, "expected room in the ledger's queue"));
    }
    impl_->queue.push_back({std::move(entry), *before, {}});
    answer = impl_->queue.back().answer.get_future();
  }
  impl_->queue_changed.notify_one();
  return answer;
}

// Takes what queued up during the last commit; there is no timer.
void Sequencer::Impl::run() {
  while (true) {
    std::vector<Waiting> waiting;
    {
      std::unique_lock lock(queue_mutex);
      queue_changed.wait(lock, [&] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      size_t count = 0;
      size_t bytes = 0;
      while (count < queue.size() && count < kMaxBatchEntries && bytes < kMaxBatchBytes) {
        bytes += queue[count].entry.envelope_bytes().size();
        ++count;
      }
      auto end = queue.begin() + static_cast<std::ptrdiff_t>(count);
      waiting.assign(std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
      queue.erase(queue.begin(), end);
    }
    sequence(std::move(waiting));
  }
}

// After an ambiguous write: nobody learns anything any more, until a reopening has
// found out what is on disk.
void Sequencer::Impl::fail(std::vector<Placed> placed) {
  std::vector<Waiting> rest;
  {
    std::lock_guard lock(queue_mutex);
    failed = true;
    trouble = broken();
    rest = std::exchange(queue, {});
  }
  for (auto& one : placed) one.waiting.answer.set_value(broken());
  for (auto& one : rest) one.answer.set_value(broken());
}

// The place of the same entry, appended before; kConflict when another has its nonce.
Result<std::optional<uint64_t>> Sequencer::Impl::earlier(const Waiting& one) const {
  auto seq = TRY(store.ask_nonce_again(one.entry.author(), one.entry.nonce(), one.before));
  if (!seq) return seq;
  auto leaf = TRY(store.leaf(*seq));
  if (!carries(leaf, one.entry)) return taken();
  return seq;
}

Status Sequencer::Impl::belongs_here(const AuthenticEntry& entry, uint64_t seq) const {
  if (seq == 0 && !entry.market().empty()) {
    return Error(Code::kRefused, "expected a genesis, which names no market, as the first entry");
  }
  if (seq != 0 && entry.market() != market) {
    return Error(Code::kRefused, "expected an entry for the market of this ledger");
  }
  return Done{};
}

// One batch: places, self-check, signature, commit, answers; in this order.
void Sequencer::Impl::sequence(std::vector<Waiting> waiting) {
  Batch batch{.old_size = store.size(), .old_root = store.root(), .entries = {}, .checkpoint = {}};
  batch.time = std::clamp<TimeMs>(clock.now(), store.last_time(), kMaxJsonInteger);
  Digest prev = store.last_leaf();
  TileTree tree = *store.snapshot().tree;
  std::vector<FilledTile> filled;
  std::map<Key, size_t> places;  // of this batch
  std::vector<Placed> placed;

  for (auto& one : waiting) {
    auto before = earlier(one);
    if (!before || *before) {
      one.answer.set_value(before ? Result<uint64_t>(**before) : Result<uint64_t>(before.error()));
      continue;
    }
    auto [place, is_new] =
        places.try_emplace(Key(one.entry.author(), one.entry.nonce()), batch.entries.size());
    if (!is_new) {
      if (!carries(batch.entries[place->second].leaf, one.entry)) {
        one.answer.set_value(taken());
      } else {
        placed.push_back({batch.old_size + place->second, std::move(one)});
      }
      continue;
    }
    uint64_t seq = batch.old_size + batch.entries.size();
    auto belongs = belongs_here(one.entry, seq);
    if (!belongs) {
      places.erase(place);
      one.answer.set_value(belongs.error());
      continue;
    }
    auto leaf = encode_leaf(
        {.seq = seq, .prev = prev, .time = batch.time, .envelope = one.entry.envelope_bytes()});
    prev = leaf_hash(leaf);
    tree.append(prev, filled);
    if (seq == 0) market = to_hex(ByteView(one.entry.payload_hash()));
    batch.entries.push_back({std::move(leaf), one.entry.author(), one.entry.nonce()});
    placed.push_back({seq, std::move(one)});
  }
  if (batch.entries.empty()) return;

  batch.new_size = tree.size();
  batch.new_root = tree.root();
  auto committed = commit(batch, placed);
  {
    std::lock_guard lock(queue_mutex);
    trouble.reset();
    if (!committed) trouble = committed.error();
  }
  if (!committed) {
    if (batch.old_size == 0) market.clear();
    // Only "nothing was written" leaves us where we were. Another writer, or a batch
    // that does not add up, is as final as an unknown outcome.
    if (committed.error().code() != Code::kTryAgain) return fail(std::move(placed));
    for (auto& one : placed) one.waiting.answer.set_value(committed.error());
    return;
  }
  ++batches;
  for (auto& one : placed) one.waiting.answer.set_value(one.seq);
}

// The bytes about to be written, made and hashed once more, must extend the tree we
// signed last: one flipped bit would otherwise be signed for ever.
Status Sequencer::Impl::self_check(const Batch& batch, const std::vector<Placed>& placed) const {
  auto before = store.snapshot();
  TileTree rebuilt = *before.tree;
  std::vector<FilledTile> filled;
  Digest prev = store.last_leaf();
  uint64_t seq = batch.old_size;
  for (const auto& one : placed) {
    if (one.seq < seq) continue;  // the same entry twice
    const auto& entry = one.waiting.entry;
    const Bytes& leaf = batch.entries[seq - batch.old_size].leaf;
    // What was verified is what is written: its author's signature holds for these bytes.
    bool same =
        sha256(entry.envelope_bytes()) == entry.envelope_hash() &&
        leaf ==
            encode_leaf(
                {.seq = seq, .prev = prev, .time = batch.time, .envelope = entry.envelope_bytes()});
    if (!same) return Error(Code::kBroken, "self-check: expected the next link of the chain");
    prev = leaf_hash(leaf);
    rebuilt.append(prev, filled);
    ++seq;
  }
  if (batch.time < store.last_time() || seq != batch.new_size || rebuilt.root() != batch.new_root ||
      rebuilt.size() != batch.new_size) {
    return Error(Code::kBroken, "self-check: expected the same tree twice");
  }
  if (batch.old_size == 0) return Done{};
  FetchTile fetch = [&](uint8_t level, uint64_t index) -> Result<SharedTile> {
    for (const auto& one : filled) {
      if (one.level == level && one.index == index) return one.tile;
    }
    return store.full_tile(level, index);
  };
  auto proof = TRY(TileProver(rebuilt, fetch).consistency(batch.old_size, batch.new_size));
  return verify_consistency(batch.old_size, batch.new_size, proof, batch.old_root, batch.new_root);
}

Status Sequencer::Impl::commit(Batch& batch, const std::vector<Placed>& placed) {
  auto checked = self_check(batch, placed);
  if (!checked) return Error(Code::kBroken, checked.error().expected());
  batch.checkpoint =
      sign_checkpoint({.origin = note_key.name(), .size = batch.new_size, .root = batch.new_root},
                      note_key, log_key);
  // A crash here: the checkpoint is signed but nobody has seen it, and the next start
  // signs another over what is then on disk.
  return store.append_batch(batch);
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
  std::lock_guard lock(impl_->queue_mutex);
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
