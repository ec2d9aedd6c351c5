// How near the ledger comes to what this machine can do. Every limit is measured in the
// same run, as the same bytes through the bare disk, SQLite, libsodium and OpenSSL.
//
//   ledger_bench [--json] [--dir DIR] [--seconds S] [--entries N] [--only NAME] [--keep FOLDER]
//                [--sync-ms T]
//
// N is the size of the long ledger (10,000,000 is what the targets speak of; 50,000 is
// what runs when nothing is said); with --keep it is made once. With --sync-ms every sync lasts at
// least T milliseconds, for the limits too: 4 is a disk that writes through. Not for a busy
// machine.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "ledger/audit/audit.h"
#include "ledger/proof/tlog_proof.h"
#include "tests/bench/ledger_load.h"
#include "tests/bench/slow_disk.h"

namespace souk::ledger::bench {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kShort = 10'000;

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
  limit = mean(limit, sqlite_rate(options, leaf_bytes, batch));
  report.add("saturated appends/s, verified before", limit.all, n / saturated.wall, 0.50);
  report.add("the same by processor time", limit.by_processor, n / saturated.processor, 0.50);

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
  if (!options.keep.empty()) {
    // A long file takes long to make: it is used as it is, and what this run appends stays.
    fs::create_directories(options.keep);
    fs::remove_all(large.folder);
    fs::create_directory_symlink(fs::absolute(options.keep), large.folder);
  }
  if (!fs::exists(large.path())) make_long_file(large.path(), options.entries);
  std::string n = std::to_string(options.entries);
  double short_ms = 1e9;
  double long_ms = 1e9;
  for (int i = 0; i < 3; ++i) {
    short_ms = std::min(short_ms, cold_start_ms(small.path(), kShort / 3));
    long_ms = std::min(long_ms, cold_start_ms(large.path(), options.entries / 3));
  }
  report.add("cold start to a verified proof, ms, " + n, 50, long_ms, 1.0, true);
  report.add("the same against 10000 entries", short_ms, long_ms, 1.2, true);
  small.start(LedgerStore::open(small.path()).take());
  large.start(LedgerStore::open(large.path()).take());
  Entries entries(1'000'000'000 + large.sequencer->size());
  auto count = static_cast<uint64_t>(options.seconds * 5'000);
  // The first append opens the index of nonces, and makes it where there is none.
  CHECK(small.sequencer->append(entries.take()) && large.sequencer->append(entries.take()));
  Rate on_small, on_large;
  constexpr int kRounds = 5;
  auto n_each = static_cast<double>(count);
  for (int i = 0; i < kRounds; ++i) {
    for (auto [ledger, sum] : {std::pair(&small, &on_small), std::pair(&large, &on_large)}) {
      auto took = saturated_rate(*ledger, entries, count);
      sum->all += n_each / took.wall / kRounds;
      sum->by_processor += n_each / took.processor / kRounds;
    }
  }
  report.add("appends/s at " + n + " against 10000", on_small.all, on_large.all, 0.90);
  report.add("the same by processor time", on_small.by_processor, on_large.by_processor, 0.90);
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
  options.dir = fs::temp_directory_path().string();
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
    else if (word == "--keep")
      options.keep = value();
    else if (word == "--sync-ms")
      make_syncs_last(std::stod(value()));
    else {
      std::fprintf(stderr,
                   "ledger_bench [--json] [--dir DIR] [--seconds S] [--entries N] [--only NAME] "
                   "[--keep FOLDER] [--sync-ms T]\n");
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
}  // namespace souk::ledger::bench

int main(int argc, char** argv) {
  return souk::ledger::bench::run(argc, argv);
}
