#include "ledger/sequencer/sequencer.h"

#include <algorithm>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <thread>

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
  std::promise<Result<Receipt>> answer;
};

Error broken() {
  return Error(Code::kBroken,
               "expected to know whether the last write happened; reopen the ledger");
}

Error taken() {
  return Error(Code::kConflict, "expected a nonce this author has not used");
}

// Whether a stored leaf carries exactly this envelope.
bool carries(ByteView leaf_bytes, const AuthenticEntry& entry) {
  auto leaf = decode_leaf(leaf_bytes);
  return leaf && leaf->envelope == entry.envelope_bytes();
}

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

  // Guarded by tree_mutex; the sequencer thread alone changes them. The tree may run
  // ahead of `committed` while a batch is on its way to the disk.
  mutable std::mutex tree_mutex;
  MerkleTree tree;
  uint64_t committed = 0;
  std::string checkpoint;

  // Owned by the sequencer thread.
  std::string market;  // hex; empty before the genesis

  std::thread thread;

  Impl(LedgerStore s, SigningKey k, NoteKey n, Clock& c)
      : store(std::move(s)), log_key(std::move(k)), note_key(std::move(n)), clock(c) {}

  void run();
  void fail(std::vector<Waiting>& waiting);
  void sequence(std::vector<Waiting> waiting);
  Result<std::optional<Receipt>> earlier(const AuthenticEntry& entry) const;
  Status belongs_here(const AuthenticEntry& entry, uint64_t seq) const;
  Status self_check(const Batch& batch) const;
  Status commit(Batch& batch);
  Receipt receipt(uint64_t seq) const;
};

Sequencer::Sequencer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Sequencer>> Sequencer::start(LedgerStore store, SigningKey log_key,
                                                    std::string origin, Clock& clock) {
  auto note_key = TRY(NoteKey::of(std::move(origin), log_key.public_key()));
  TRY(store.bind_log_key(note_key.vkey()));
  auto impl =
      std::make_unique<Impl>(std::move(store), std::move(log_key), std::move(note_key), clock);

  auto hashes = TRY(impl->store.leaf_hashes(0, impl->store.size()));
  for (const auto& hash : hashes) impl->tree.append(hash);
  if (impl->tree.root() != impl->store.root()) {
    return Error(Code::kBroken, "expected the stored hashes to add up to the stored root");
  }
  impl->committed = impl->store.size();
  if (impl->committed > 0) {
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
  impl->checkpoint = impl->store.checkpoint();
  TRY(open_checkpoint(impl->checkpoint, impl->note_key));

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
  std::future<Result<Receipt>> answer;
  {
    std::lock_guard lock(impl_->queue_mutex);
    if (impl_->failed) return broken();
    if (impl_->stopping || impl_->queue.size() >= kMaxQueue) {
      return Error(Code::kTryAgain, "expected room in the ledger's queue");
    }
    impl_->queue.push_back({std::move(entry), {}});
    answer = impl_->queue.back().answer.get_future();
  }
  impl_->queue_changed.notify_one();
  return answer.get();
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
void Sequencer::Impl::fail(std::vector<Waiting>& waiting) {
  std::vector<Waiting> rest;
  {
    std::lock_guard lock(queue_mutex);
    failed = true;
    rest = std::exchange(queue, {});
  }
  for (auto& one : waiting) one.answer.set_value(broken());
  for (auto& one : rest) one.answer.set_value(broken());
}

// The receipt of the same entry, appended before; kConflict when another has its nonce.
Result<std::optional<Receipt>> Sequencer::Impl::earlier(const AuthenticEntry& entry) const {
  auto seq = TRY(store.find_nonce(entry.author(), entry.nonce()));
  if (!seq) return std::optional<Receipt>();
  auto leaf = TRY(store.leaf(*seq));
  if (!carries(leaf, entry)) return taken();
  return std::optional<Receipt>(receipt(*seq));
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
  TimeMs time = std::clamp<TimeMs>(clock.now(), store.last_time(), kMaxJsonInteger);
  Digest prev = store.last_leaf();
  std::map<Key, size_t> places;  // of this batch
  std::vector<std::pair<uint64_t, Waiting>> placed;

  for (auto& one : waiting) {
    auto before = earlier(one.entry);
    if (!before || *before) {
      one.answer.set_value(before ? Result<Receipt>(std::move(**before))
                                  : Result<Receipt>(before.error()));
      continue;
    }
    auto [place, is_new] =
        places.try_emplace(Key(one.entry.author(), one.entry.nonce()), batch.entries.size());
    if (!is_new) {
      if (!carries(batch.entries[place->second].leaf, one.entry)) {
        one.answer.set_value(taken());
      } else {
        placed.emplace_back(batch.old_size + place->second, std::move(one));
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
        {.seq = seq, .prev = prev, .time = time, .envelope = one.entry.envelope_bytes()});
    prev = leaf_hash(leaf);
    if (seq == 0) market = to_hex(ByteView(one.entry.payload_hash()));
    {
      std::lock_guard lock(tree_mutex);
      tree.append(prev);
    }
    batch.entries.push_back({std::move(leaf), one.entry.author(), one.entry.nonce()});
    placed.emplace_back(seq, std::move(one));
  }
  if (batch.entries.empty()) return;

  batch.time = time;
  batch.new_size = batch.old_size + batch.entries.size();
  {
    std::lock_guard lock(tree_mutex);
    batch.new_root = tree.root();
  }
  auto committed_now = commit(batch);
  if (!committed_now) {
    {
      std::lock_guard lock(tree_mutex);
      tree.truncate(batch.old_size);
    }
    if (batch.old_size == 0) market.clear();
    bool doubtful = committed_now.error().code() != Code::kTryAgain;
    std::vector<Waiting> unanswered;
    for (auto& [seq, one] : placed) unanswered.push_back(std::move(one));
    // Only "nothing was written" leaves us where we were. Another writer, or a batch
    // that does not add up, is as final as an unknown outcome.
    if (doubtful) return fail(unanswered);
    for (auto& one : unanswered) one.answer.set_value(committed_now.error());
    return;
  }
  {
    std::lock_guard lock(tree_mutex);
    committed = batch.new_size;
    checkpoint = batch.checkpoint;
  }
  for (auto& [seq, one] : placed) one.answer.set_value(receipt(seq));
}

// The bytes about to be written, hashed once more, must extend the tree we signed
// last: one flipped bit would otherwise be signed for ever.
Status Sequencer::Impl::self_check(const Batch& batch) const {
  auto rebuilt = store.tree();
  Digest prev = store.last_leaf();
  uint64_t seq = batch.old_size;
  TimeMs last = store.last_time();
  for (const auto& entry : batch.entries) {
    auto leaf = TRY(decode_leaf(entry.leaf));
    auto signed_entry = TRY(SignedEntry::decode(leaf.envelope));
    TRY(authenticate(std::move(signed_entry)));
    if (leaf.seq != seq || leaf.prev != prev || leaf.time < last) {
      return Error(Code::kBroken, "self-check: expected the next link of the chain");
    }
    prev = leaf_hash(entry.leaf);
    rebuilt.append(prev);
    last = leaf.time;
    ++seq;
  }
  if (rebuilt.root() != batch.new_root || rebuilt.size() != batch.new_size) {
    return Error(Code::kBroken, "self-check: expected the same tree twice");
  }
  if (batch.old_size == 0) return Done{};
  std::vector<Digest> proof;
  {
    std::lock_guard lock(tree_mutex);
    proof = tree.consistency_proof(batch.old_size, batch.new_size);
  }
  return verify_consistency(batch.old_size, batch.new_size, proof, batch.old_root, batch.new_root);
}

Status Sequencer::Impl::commit(Batch& batch) {
  auto checked = self_check(batch);
  if (!checked) return Error(Code::kBroken, checked.error().expected());
  batch.checkpoint =
      sign_checkpoint({.origin = note_key.name(), .size = batch.new_size, .root = batch.new_root},
                      note_key, log_key);
  // A crash here: the checkpoint is signed but nobody has seen it, and the next start
  // signs another over what is then on disk.
  return store.append_batch(batch);
}

Receipt Sequencer::Impl::receipt(uint64_t seq) const {
  std::lock_guard lock(tree_mutex);
  TlogProof proof{
      .index = seq, .path = tree.inclusion_proof(seq, committed), .checkpoint = checkpoint};
  return {.seq = seq,
          .leaf_hash = tree.leaf(seq),
          .checkpoint = checkpoint,
          .tlog_proof = proof.text()};
}

Result<Receipt> Sequencer::prove(uint64_t seq) const {
  if (seq >= size()) return Error(Code::kNotFound, "expected an entry of this ledger");
  return impl_->receipt(seq);
}

Result<std::vector<Digest>> Sequencer::consistency(uint64_t old_size, uint64_t new_size) const {
  std::lock_guard lock(impl_->tree_mutex);
  if (old_size == 0 || old_size > new_size || new_size > impl_->committed) {
    return Error(Code::kMalformed, "expected 0 < old size <= new size <= size of the ledger");
  }
  return impl_->tree.consistency_proof(old_size, new_size);
}

uint64_t Sequencer::size() const {
  std::lock_guard lock(impl_->tree_mutex);
  return impl_->committed;
}

Digest Sequencer::root() const {
  std::lock_guard lock(impl_->tree_mutex);
  return impl_->tree.root(impl_->committed);
}

std::string Sequencer::checkpoint() const {
  std::lock_guard lock(impl_->tree_mutex);
  return impl_->checkpoint;
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
