#define OPENSSL_SUPPRESS_DEPRECATED
#include "tests/bench/ledger_limits.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <filesystem>
#include <thread>
#include <vector>

#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger::bench {

namespace fs = std::filesystem;

double since(Steady::time_point start) {
  return std::chrono::duration<double>(Steady::now() - start).count();
}

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

double processor_seconds() {
  timespec used{};
  CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

Rate verify_rate(double seconds) {
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
Rate mean(const Rate& a, const Rate& b) {
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

Rate sqlite_rate(const Options& options, size_t leaf_bytes, uint64_t batch) {
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
  Rate out{count / since(start), count / (processor_seconds() - used)};
  sqlite3_finalize(insert);
  sqlite3_close(db);
  for (const char* part : {"", "-wal", "-shm"}) fs::remove(path + part);
  return out;
}

}  // namespace souk::ledger::bench
