// How near the ledger comes to what this machine can do. Every limit is measured in the
// same run, as the same bytes through the bare disk, SQLite, libsodium and OpenSSL.
//
//   ledger_bench [--json] [--dir DIR] [--seconds S] [--entries N] [--only NAME]
//
// N is the size of the long ledger (10,000,000 is what the targets speak of; 50,000 is
// what runs when nothing is said). Not for a busy machine.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <fcntl.h>
#include <openssl/sha.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <thread>

#include "ledger/audit/audit.h"
#include "ledger/proof/tlog_proof.h"
#include "ledger/sequencer/sequencer.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger {
namespace {

namespace fs = std::filesystem;
using Seconds = std::chrono::duration<double>;
using Steady = std::chrono::steady_clock;

constexpr uint64_t kShort = 10'000;

struct Options {
  bool json = false;
  std::string dir = fs::temp_directory_path().string();
  double seconds = 3;
  uint64_t entries = 50'000;
  std::string only;
};

double since(Steady::time_point start) {
  return Seconds(Steady::now() - start).count();
}

// Calls of `work` a second, for about `seconds`.
template <class Work>
double rate(double seconds, uint64_t step, Work work) {
  auto start = Steady::now();
  uint64_t done = 0;
  while (since(start) < seconds) {
    for (uint64_t i = 0; i < step; ++i) work(done + i);
    done += step;
  }
  return static_cast<double>(done) / since(start);
}

class Report {
 public:
  explicit Report(const Options& options) : options_(options) {}
  bool wants(const std::string& name) const {
    return options_.only.empty() || name.find(options_.only) != std::string::npos;
  }
  // Good when value / limit is at least (or, for costs, at most) the target.
  void add(const std::string& name, double limit, double value, double target, bool cost = false) {
    double ratio = limit > 0 ? value / limit : 0;
    bool met = cost ? ratio <= target : ratio >= target;
    rows_.push_back(Json::Object{{"name", name},
                                 {"limit", Json::real(limit)},
                                 {"value", Json::real(value)},
                                 {"ratio", Json::real(ratio)},
                                 {"target", Json::real(target)},
                                 {"at_most", cost},
                                 {"met", met}});
    if (options_.json) return;
    std::printf("%-46s limit %14.2f  value %14.2f  ratio %7.3f  target %s %5.2f  %s\n",
                name.c_str(), limit, value, ratio, cost ? "<=" : ">=", target,
                met ? "met" : "MISSED");
    std::fflush(stdout);
  }
  void finish() const {
    if (!options_.json) return;
    Json::Object out{{"cores", std::thread::hardware_concurrency()}, {"results", rows_}};
    std::printf("%s\n", answer_json(Json(std::move(out))).c_str());
  }

 private:
  const Options& options_;
  Json::Array rows_;
};

// ---- limits

// The faster of two ways: onto the end of a file, where each sync also records its new
// length, and over blocks that are there already. A limit that can be passed is none.
double fdatasync_rate(const Options& options) {
  std::string path = options.dir + "/limit";
  std::vector<char> block(4096, 'x');
  constexpr off_t kBlocks = 256;
  double best = 0;
  for (bool over : {false, true}) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    auto put = [&](off_t at) {
      CHECK(::pwrite(fd, block.data(), block.size(), at) == static_cast<ssize_t>(block.size()));
    };
    auto bytes = static_cast<off_t>(block.size());
    for (off_t i = 0; over && i < kBlocks; ++i) put(i * bytes);
    CHECK(::fsync(fd) == 0);
    off_t next = 0;
    double measured = rate(options.seconds / 2, 1, [&](uint64_t) {
      put((over ? next % kBlocks : next) * bytes);
      ++next;
      CHECK(::fdatasync(fd) == 0);
    });
    best = std::max(best, measured);
    ::close(fd);
    fs::remove(path);
  }
  return best;
}

// Of this process, all threads: what a busy machine gives to others is not in it.
double processor_seconds() {
  timespec used{};
  CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

// Signatures a second of all cores at once, and a second of one core's time.
struct VerifyRate {
  double all = 0;
  double by_processor = 0;
};
VerifyRate verify_rate(double seconds) {
  auto key = test::key_of(1);
  Bytes message(400, 7);
  auto signature = key.sign(message);
  std::atomic<uint64_t> done = 0;
  std::vector<std::thread> threads;
  double used = processor_seconds();
  auto start = Steady::now();
  for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i) {
    threads.emplace_back([&] {
      while (since(start) < seconds) {
        for (int j = 0; j < 16; ++j) CHECK(verify(key.public_key(), message, signature));
        done += 16;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  auto count = static_cast<double>(done);
  return {count / since(start), count / (processor_seconds() - used)};
}
VerifyRate mean(const VerifyRate& a, const VerifyRate& b) {
  return {(a.all + b.all) / 2, (a.by_processor + b.by_processor) / 2};
}

double node_hash_limit(double seconds) {
  std::array<uint8_t, 65> bytes{};
  return rate(seconds, 4096, [&](uint64_t) {
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, bytes.data(), bytes.size());
    SHA256_Final(bytes.data(), &context);
  });
}

// The same leaves into a bare table, so many a transaction.
struct InsertRate {
  double all = 0;
  double by_processor = 0;
};
InsertRate sqlite_rate(const Options& options, size_t leaf_bytes, uint64_t batch) {
  std::string path = options.dir + "/limit.db";
  for (const char* part : {"", "-wal", "-shm"}) fs::remove(path + part);
  sqlite3* db = nullptr;
  CHECK(sqlite3_open(path.c_str(), &db) == SQLITE_OK);
  auto run = [&](const char* sql) {
    CHECK(sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK);
  };
  run("PRAGMA page_size = 32768");
  run("PRAGMA journal_mode = WAL");
  run("PRAGMA synchronous = FULL");
  run("CREATE TABLE entry(seq INTEGER PRIMARY KEY, leaf BLOB NOT NULL)");
  sqlite3_stmt* insert = nullptr;
  CHECK(sqlite3_prepare_v2(db, "INSERT INTO entry VALUES(?1, ?2)", -1, &insert, nullptr) ==
        SQLITE_OK);
  Bytes leaf(leaf_bytes, 'x');
  double used = processor_seconds();
  auto start = Steady::now();
  int64_t seq = 0;
  while (since(start) < options.seconds) {
    run("BEGIN IMMEDIATE");
    for (uint64_t i = 0; i < batch; ++i) {
      sqlite3_bind_int64(insert, 1, seq++);
      sqlite3_bind_blob(insert, 2, leaf.data(), static_cast<int>(leaf.size()), SQLITE_STATIC);
      CHECK(sqlite3_step(insert) == SQLITE_DONE);
      sqlite3_reset(insert);
    }
    run("COMMIT");
  }
  auto count = static_cast<double>(seq);
  InsertRate out{count / since(start), count / (processor_seconds() - used)};
  sqlite3_finalize(insert);
  sqlite3_close(db);
  for (const char* part : {"", "-wal", "-shm"}) fs::remove(path + part);
  return out;
}

// ---- ledgers

struct Ledger {
  fs::path folder;
  SystemClock clock;
  std::unique_ptr<Sequencer> sequencer;

  Ledger(const Options& options, const std::string& name) : folder(options.dir + "/bench-" + name) {
    fs::remove_all(folder);
    fs::create_directories(folder);
  }
  ~Ledger() {
    sequencer.reset();
    fs::remove_all(folder);
  }
  std::string path() const { return (folder / "ledger.db").string(); }
  void start(LedgerStore store) {
    sequencer = Sequencer::start(std::move(store), test::key_of(9), test::kOrigin, clock).take();
    if (sequencer->size() == 0) CHECK(sequencer->append(test::genesis()));
  }
};

// What a client sends: enough and never twice.
class Entries {
 public:
  explicit Entries(uint64_t first) : next_(first) {}
  AuthenticEntry take() { return test::entry(next_++); }
  Bytes take_envelope() { return test::envelope_of(test::key_of(2), test::market(), next_++); }

 private:
  std::atomic<uint64_t> next_;
};

// Durable appends a second of so many clients, each waiting for its answer.
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

struct Took {
  double wall = 0;       // seconds
  double processor = 0;  // of all threads
};

// Entries that are verified already, as many as the queue takes.
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

// The same from the bytes that come over the network: read and verified by all cores.
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

// A ledger file of `count` entries without the time that real signatures take: all but
// the first bear a signature that does not hold.
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

// Milliseconds from nothing to the first verified proof; the best of several, because
// others' work is not ours.
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

// ---- what is measured

void measure_appends(const Options& options, Report& report) {
  double before = fdatasync_rate(options);
  Ledger ledger(options, "appends");
  ledger.start(LedgerStore::create(ledger.path()).take());
  Entries entries(1);
  double one = append_rate(ledger, entries, options.seconds, 1);
  double between = fdatasync_rate(options);
  double many = append_rate(ledger, entries, options.seconds, 64);
  double after = fdatasync_rate(options);
  report.add("durable appends/s, 1 client", (before + between) / 2, one, 0.85);
  report.add("durable appends/s, 64 clients", 64 * (between + after) / 2, many, 0.80);
}

void measure_saturated(const Options& options, Report& report) {
  Ledger ledger(options, "saturated");
  ledger.start(LedgerStore::create(ledger.path()).take());
  Entries entries(1);
  auto count = static_cast<uint64_t>(options.seconds * 10'000);
  auto leaf = ledger.sequencer->leaf(0).take();
  size_t leaf_bytes = leaf.size() + 64;  // later ones name their market
  uint64_t batch = (size_t{1} << 20) / leaf_bytes;
  auto limit = sqlite_rate(options, leaf_bytes, batch);
  auto n = static_cast<double>(count);
  auto saturated = saturated_rate(ledger, entries, count);
  auto after = sqlite_rate(options, leaf_bytes, batch);
  report.add("saturated appends/s, verified before", (limit.all + after.all) / 2,
             n / saturated.wall, 0.50);
  report.add("the same by processor time", (limit.by_processor + after.by_processor) / 2,
             n / saturated.processor, 0.50);

  auto v = verify_rate(1);
  auto with_signatures = signed_rate(ledger, entries, count);
  v = mean(v, verify_rate(1));
  report.add("saturated appends/s, signatures verified", v.all, n / with_signatures.wall, 0.75);
  report.add("the same by processor time", v.by_processor, n / with_signatures.processor, 0.75);

  uint64_t size = ledger.sequencer->size();
  ledger.sequencer.reset();
  uint64_t leaves = 0;
  auto store = LedgerStore::open(ledger.path()).take();
  for (uint64_t from = 0; from < size; from += 4096) {
    auto page = store.leaves(from, 4096).take();
    for (const auto& bytes : page) leaves += bytes.size();
  }
  report.add("disk beyond leaf bytes, bytes an entry", 60,
             (static_cast<double>(bytes_of(ledger.path())) - static_cast<double>(leaves)) /
                 static_cast<double>(size),
             1.0, true);

  v = verify_rate(1);
  double used = processor_seconds();
  auto start = Steady::now();
  auto outcome = audit_file(ledger.path(), test::log_note_key());
  CHECK(outcome.ok);
  double took = since(start);
  used = processor_seconds() - used;
  v = mean(v, verify_rate(1));
  auto signatures = static_cast<double>(outcome.signatures);
  report.add("audit, signatures/s", v.all, signatures / took, 0.90);
  report.add("the same by processor time", v.by_processor, signatures / used, 0.90);
}

void measure_proofs(const Options& options, Report& report) {
  constexpr uint64_t kLeaves = 1'000'000;
  TileTree tree;
  std::vector<FilledTile> filled;
  for (uint64_t i = 0; i < kLeaves; ++i) {
    tree.append(leaf_hash(as_bytes(std::to_string(i))), filled);
  }
  std::vector<std::vector<SharedTile>> levels(8);
  for (auto& one : filled) levels[one.level].push_back(one.tile);
  FetchTile fetch = [&](uint8_t level, uint64_t index) -> Result<SharedTile> {
    return levels[level][index];
  };
  auto root = tree.root();
  uint64_t at = 1;
  auto next = [&] {
    return at = (at * 6364136223846793005u + 1442695040888963407u), (at >> 20) % kLeaves;
  };
  uint64_t hashes = 0;
  double made = rate(options.seconds, 256, [&](uint64_t) {
    hashes += TileProver(tree, fetch).inclusion(next(), kLeaves)->size();
  });
  CHECK(hashes > 0);
  report.add("inclusion proofs/s from memory, 1 M", 500'000, made, 1.0);

  std::vector<std::pair<uint64_t, std::vector<Digest>>> proofs;
  for (int i = 0; i < 4096; ++i) {
    uint64_t index = next();
    proofs.emplace_back(index, TileProver(tree, fetch).inclusion(index, kLeaves).take());
  }
  double h = node_hash_limit(1);
  double verified = rate(options.seconds, 64, [&](uint64_t i) {
    const auto& [index, proof] = proofs[i % proofs.size()];
    auto leaf = leaf_hash(as_bytes(std::to_string(index)));
    CHECK(verify_inclusion(leaf, index, kLeaves, proof, root));
  });
  h = (h + node_hash_limit(1)) / 2;
  report.add("inclusion verifications/s, 1 M", h / 21, verified, 0.60);

  auto note = sign_checkpoint({.origin = test::kOrigin, .size = kLeaves, .root = root},
                              test::log_note_key(), test::key_of(9));
  TlogProof proof{.index = 123'456,
                  .path = TileProver(tree, fetch).inclusion(123'456, kLeaves).take(),
                  .checkpoint = note};
  report.add("bytes of a proof file, 1 M", 1150, static_cast<double>(proof.text().size()), 1.0,
             true);
}

void measure_length(const Options& options, Report& report) {
  Ledger small(options, "short");
  Ledger large(options, "long");
  make_long_file(small.path(), kShort);
  make_long_file(large.path(), options.entries);
  std::string n = std::to_string(options.entries);
  double short_ms = cold_start_ms(small.path(), kShort / 3);
  double long_ms = cold_start_ms(large.path(), options.entries / 3);
  short_ms = std::min(short_ms, cold_start_ms(small.path(), kShort / 3));
  report.add("cold start to a verified proof, ms, " + n, 50, long_ms, 1.0, true);
  report.add("the same against 10000 entries", short_ms, long_ms, 1.2, true);
  Entries entries(1'000'000'000);
  auto count = static_cast<uint64_t>(options.seconds * 5'000);
  small.start(LedgerStore::open(small.path()).take());
  large.start(LedgerStore::open(large.path()).take());
  CHECK(small.sequencer->append(entries.take()) && large.sequencer->append(entries.take()));
  double on_small = 0;
  double on_large = 0;
  double processor_small = 0;
  double processor_large = 0;
  for (int i = 0; i < 3; ++i) {
    auto one = saturated_rate(small, entries, count);
    auto other = saturated_rate(large, entries, count);
    on_small += static_cast<double>(count) / one.wall;
    on_large += static_cast<double>(count) / other.wall;
    processor_small += static_cast<double>(count) / one.processor;
    processor_large += static_cast<double>(count) / other.processor;
  }
  report.add("appends/s at " + n + " against 10000", on_small / 3, on_large / 3, 0.90);
  report.add("the same by processor time", processor_small / 3, processor_large / 3, 0.90);
}

// Runs itself under strace and counts.
void measure_fsyncs(const Options& options, Report& report, const char* self) {
  std::string trace = options.dir + "/fsyncs";
  std::string command = "strace -f -qq -e trace=fsync,fdatasync -o " + trace + " " + self +
                        " --dir " + options.dir + " --only child-appends --seconds " +
                        std::to_string(options.seconds);
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) return;
  unsigned long long batches = 0;
  bool told = std::fscanf(pipe, "batches %llu", &batches) == 1;
  bool ended = ::pclose(pipe) == 0;
  if (!told || !ended || batches == 0) {
    std::fprintf(stderr, "fsyncs a batch: not measured, no strace\n");
    return;
  }
  std::ifstream in(trace);
  uint64_t syncs = 0;
  bool counting = false;
  for (std::string line; std::getline(in, line);) {
    // A sync that was interrupted by another thread's is told twice.
    if (line.find("resumed") != std::string::npos) continue;
    // The child's own mark: the appends stand between two syncs of the number -1.
    if (line.find("(-1)") != std::string::npos) {
      counting = !counting;
      continue;
    }
    syncs += counting ? 1 : 0;
  }
  fs::remove(trace);
  report.add("fsyncs a batch, 64 clients", 1,
             static_cast<double>(syncs) / static_cast<double>(batches), 1.02, true);
}

int child_appends(const Options& options) {
  Ledger ledger(options, "child");
  ledger.start(LedgerStore::create(ledger.path()).take());
  Entries entries(1);
  uint64_t before = ledger.sequencer->batches();
  (void)::fsync(-1);
  append_rate(ledger, entries, options.seconds, 64);
  (void)::fsync(-1);
  std::printf("batches %llu\n",
              static_cast<unsigned long long>(ledger.sequencer->batches() - before));
  return 0;
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (word == "--json")
      options.json = true;
    else if (word == "--dir")
      options.dir = value();
    else if (word == "--seconds")
      options.seconds = std::stod(value());
    else if (word == "--entries")
      options.entries = std::stoull(value());
    else if (word == "--only")
      options.only = value();
    else {
      std::fprintf(stderr,
                   "ledger_bench [--json] [--dir DIR] [--seconds S] [--entries N] [--only NAME]\n");
      return 2;
    }
  }
  if (options.only == "child-appends") return child_appends(options);
  Report report(options);
  if (report.wants("appends")) measure_appends(options, report);
  if (report.wants("fsyncs")) measure_fsyncs(options, report, argv[0]);
  if (report.wants("saturated")) measure_saturated(options, report);
  if (report.wants("proofs")) measure_proofs(options, report);
  if (report.wants("length")) measure_length(options, report);
  report.finish();
  return 0;
}

}  // namespace
}  // namespace souk::ledger

int main(int argc, char** argv) {
  return souk::ledger::run(argc, argv);
}
