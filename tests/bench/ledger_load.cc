#include "tests/bench/ledger_load.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

namespace souk::ledger::bench {

namespace fs = std::filesystem;

Ledger::Ledger(const Options& options, const std::string& name)
    : folder(options.dir + "/bench-" + name) {
  fs::remove_all(folder);
  fs::create_directories(folder);
}

Ledger::~Ledger() {
  sequencer.reset();
  fs::remove_all(folder);
}

void Ledger::start(LedgerStore store) {
  sequencer = Sequencer::start(std::move(store), test::key_of(9), test::kOrigin, clock).take();
  if (sequencer->size() == 0) CHECK(sequencer->append(test::genesis()));
}

double append_rate(Ledger& ledger, Entries& entries, double seconds, unsigned clients) {
  std::atomic<uint64_t> done = 0;
  // Made beforehand, so that clients wait for the disk alone.
  std::vector<std::vector<AuthenticEntry>> ready(clients);
  auto per_client = static_cast<uint64_t>(seconds * 600) + 8;
  for (auto& list : ready) {
    for (uint64_t i = 0; i < per_client; ++i) list.push_back(entries.take());
  }
  std::vector<std::thread> threads;
  auto start = Steady::now();
  for (auto& list : ready) {
    threads.emplace_back([&] {
      for (auto& entry : list) {
        if (since(start) >= seconds) return;
        CHECK(ledger.sequencer->append(std::move(entry)));
        ++done;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return static_cast<double>(done) / since(start);
}

Took saturated_rate(Ledger& ledger, Entries& entries, uint64_t count) {
  std::vector<AuthenticEntry> ready;
  for (uint64_t i = 0; i < count; ++i) ready.push_back(entries.take());
  std::vector<std::future<Result<uint64_t>>> answers;
  answers.reserve(count);
  double used = processor_seconds();
  auto start = Steady::now();
  size_t answered = 0;
  for (auto& entry : ready) {
    answers.push_back(ledger.sequencer->submit(std::move(entry)));
    // Never more than half the queue, or it would say no.
    if (answers.size() - answered > 8192) CHECK(answers[answered++].get());
  }
  for (; answered < answers.size(); ++answered) CHECK(answers[answered].get());
  return {since(start), processor_seconds() - used};
}

Took signed_rate(Ledger& ledger, Entries& entries, uint64_t count) {
  unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  std::vector<Bytes> ready;
  for (uint64_t i = 0; i < count; ++i) ready.push_back(entries.take_envelope());
  std::atomic<uint64_t> next = 0;
  std::vector<std::thread> threads;
  double used = processor_seconds();
  auto start = Steady::now();
  for (unsigned i = 0; i < cores; ++i) {
    threads.emplace_back([&] {
      std::vector<std::future<Result<uint64_t>>> answers;
      size_t answered = 0;
      for (uint64_t at = next++; at < count; at = next++) {
        auto entry = authenticate(SignedEntry::decode(ready[at]).take());
        answers.push_back(ledger.sequencer->submit(std::move(entry).take()));
        if (answers.size() - answered > 4096) CHECK(answers[answered++].get());
      }
      for (; answered < answers.size(); ++answered) CHECK(answers[answered].get());
    });
  }
  for (auto& thread : threads) thread.join();
  return {since(start), processor_seconds() - used};
}

void make_long_file(const std::string& path, uint64_t count) {
  auto template_envelope = to_text(test::envelope_of(test::key_of(2), test::market(), 1));
  auto log = test::log_note_key();
  std::string payload = canonical(test::body_of(test::key_of(2), test::market(), 1));
  size_t nonce_at = payload.find(test::nonce_of(1));
  size_t payload_at = template_envelope.find(to_base64(as_bytes(payload)));
  CHECK(nonce_at != std::string::npos && payload_at != std::string::npos);
  TileTree tree;
  const Bytes first = test::genesis().envelope_bytes();
  auto each = [&](auto visit) -> Status {
    Digest prev{};
    std::vector<FilledTile> filled;
    for (uint64_t seq = 0; seq < count; ++seq) {
      Bytes envelope = first;
      if (seq > 0) {
        char nonce[33];
        std::snprintf(nonce, sizeof nonce, "%032llx",
                      static_cast<unsigned long long>(seq * 0x9e3779b97f4a7c15));
        std::memcpy(payload.data() + nonce_at, nonce, 32);
        auto text = to_base64(as_bytes(payload));
        std::memcpy(template_envelope.data() + payload_at, text.data(), text.size());
        envelope = to_bytes(template_envelope);
      }
      auto leaf = encode_leaf({.seq = seq, .prev = prev, .time = 1'000, .envelope = envelope});
      prev = leaf_hash(leaf);
      TRY(visit(seq, leaf, prev, filled));
      filled.clear();
    }
    return Done{};
  };
  // Twice: the checkpoint must be there before the file.
  CHECK(each(
      [&](uint64_t, const Bytes&, const Digest& hash, std::vector<FilledTile>& filled) -> Status {
        tree.append(hash, filled);
        return Done{};
      }));
  auto note = sign_checkpoint({.origin = test::kOrigin, .size = count, .root = tree.root()}, log,
                              test::key_of(9));
  auto restored = LedgerStore::restore(path, log, note, [&](const LedgerStore::VisitLeaf& visit) {
    return each([&](uint64_t seq, const Bytes& leaf, const Digest&, std::vector<FilledTile>&) {
      return visit(seq, leaf);
    });
  });
  CHECK(restored);
}

double cold_start_ms(const std::string& path, uint64_t seq) {
  double best = 1e9;
  for (int i = 0; i < 9; ++i) {
    auto start = Steady::now();
    auto store = LedgerStore::open(path).take();
    auto snapshot = store.snapshot();
    auto proof = store.inclusion_proof(snapshot, seq, snapshot.tree->size()).take();
    auto checkpoint = open_checkpoint(snapshot.checkpoint, test::log_note_key()).take();
    auto leaf = store.leaf(seq).take();
    CHECK(verify_inclusion(leaf_hash(leaf), seq, checkpoint.size, proof, checkpoint.root));
    best = std::min(best, since(start) * 1000);
  }
  return best;
}

uint64_t bytes_of(const std::string& path) {
  uint64_t bytes = 0;
  for (const char* part : {"", "-wal"}) {
    std::error_code none;
    auto size = fs::file_size(path + part, none);
    if (!none) bytes += size;
  }
  return bytes;
}

}  // namespace souk::ledger::bench
