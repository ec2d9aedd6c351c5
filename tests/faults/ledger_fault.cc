// A ledger to be killed, and the outside client that holds its receipts.
//   ledger_fault append DIR COUNT    appends COUNT entries one by one; prints "SEQ HASH" for each
//                                    once it is acknowledged
//   ledger_fault check DIR [FILE]    audits the ledger and looks for every receipt in FILE
//   ledger_fault kill DIR ROUNDS     ROUNDS times: a process appends with eight threads and is
//                                    killed at a random moment; then every receipt is looked for
// Exit 0: nothing acknowledged is lost and the audit is clean; 1: not so; 3: append refused.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include "ledger/audit/audit.h"
#include "ledger/crypto/random.h"
#include "ledger/proof/recorded.h"
#include "ledger/sequencer/sequencer.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::faults {
namespace {

using namespace ledger;  // NOLINT: the whole room is under test
using ledger::test::key_of;
using ledger::test::kOrigin;
using Receipts = std::map<uint64_t, std::string>;

std::string path_in(const std::string& directory) {
  return directory + "/ledger.db";
}

Result<std::unique_ptr<Sequencer>> open(const std::string& directory, Clock& clock) {
  auto path = path_in(directory);
  auto store =
      std::filesystem::exists(path) ? TRY(LedgerStore::open(path)) : TRY(LedgerStore::create(path));
  auto log = TRY(Sequencer::start(std::move(store), key_of(9), kOrigin, clock));
  if (log->size() == 0) TRY(log->append(test::genesis()));
  return log;
}

// Entries that no other process makes.
AuthenticEntry fresh_entry() {
  uint64_t number = 0;
  random_bytes(std::span(reinterpret_cast<uint8_t*>(&number), sizeof number));
  return test::entry(number >> 12 | 1, 2);
}

// One line in one write: whole or not at all.
void acknowledge(int fd, const Receipt& receipt) {
  auto line = std::to_string(receipt.seq) + " " + to_hex(ByteView(receipt.leaf_hash)) + "\n";
  if (write(fd, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(5);
}

int append_some(const std::string& directory, uint64_t count) {
  SystemClock clock;
  auto log = open(directory, clock);
  if (!log) {
    std::fprintf(stderr, "not opened: %s\n", log.error().expected().c_str());
    return 3;
  }
  for (uint64_t i = 0; i < count; ++i) {
    auto receipt = (*log)->append(fresh_entry());
    if (!receipt) {
      std::fprintf(stderr, "refused: %s\n", receipt.error().expected().c_str());
      return 3;
    }
    acknowledge(STDOUT_FILENO, *receipt);
  }
  return 0;
}

void collect(std::istream& lines, Receipts& receipts) {
  uint64_t seq = 0;
  std::string hash;
  while (lines >> seq >> hash) receipts[seq] = hash;
}

int check(const std::string& directory, const Receipts& receipts) {
  auto report = audit_file(path_in(directory), test::log_note_key());
  if (!report.ok) {
    std::printf("audit: %s\n", report.reason.c_str());
    return 1;
  }
  SystemClock clock;
  auto log = open(directory, clock);
  if (!log) {
    std::printf("not opened: %s\n", log.error().expected().c_str());
    return 1;
  }
  uint64_t lost = 0;
  for (const auto& [seq, hash] : receipts) {
    auto receipt = (*log)->prove(seq);
    auto leaf = (*log)->leaf(seq);
    bool there = receipt && leaf && to_hex(ByteView(receipt->leaf_hash)) == hash &&
                 confirm_one(*leaf, receipt->tlog_proof, test::log_note_key(), kOrigin);
    if (!there) ++lost;
  }
  std::printf("%llu entries, %llu acknowledged, %llu lost\n",
              static_cast<unsigned long long>(report.entries),
              static_cast<unsigned long long>(receipts.size()),
              static_cast<unsigned long long>(lost));
  return lost == 0 ? 0 : 1;
}

// In the child: appends until it is killed.
[[noreturn]] void load(const std::string& directory, int fd) {
  SystemClock clock;
  auto log = open(directory, clock);
  if (!log) {
    std::fprintf(stderr, "not opened: %s\n", log.error().expected().c_str());
    _exit(3);
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (true) {
        auto receipt = (*log)->append(fresh_entry());
        if (receipt) acknowledge(fd, *receipt);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  _exit(5);
}

int kill_often(const std::string& directory, uint64_t rounds) {
  std::mt19937_64 random(rounds);
  Receipts receipts;
  uint64_t silent = 0;
  for (uint64_t round = 0; round < rounds; ++round) {
    int ends[2];
    if (pipe(ends) != 0) return 4;
    pid_t child = fork();
    if (child < 0) return 4;
    if (child == 0) {
      close(ends[0]);
      load(directory, ends[1]);
    }
    close(ends[1]);
    // Every fourth time at any moment of its life; else while it acknowledges.
    if (round % 4 != 0) {
      pollfd acknowledged{.fd = ends[0], .events = POLLIN, .revents = 0};
      poll(&acknowledged, 1, 30'000);
    }
    usleep(static_cast<useconds_t>(random() % (round % 4 == 0 ? 200'000 : 40'000)));
    int status = 0;
    if (waitpid(child, &status, WNOHANG) == child) {
      std::printf("round %llu: it ended by itself\n", static_cast<unsigned long long>(round));
      return 1;
    }
    kill(child, SIGKILL);
    std::string text;
    char buffer[65536];
    for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<size_t>(n));
    }
    close(ends[0]);
    waitpid(child, &status, 0);
    size_t before = receipts.size();
    std::istringstream lines(text);
    collect(lines, receipts);
    silent += receipts.size() == before;
    // Every hundredth time, and at the end, everything is read again.
    bool now = round % 100 == 99 || round + 1 == rounds;
    if (now && check(directory, receipts) != 0) return 1;
  }
  std::printf("%llu kills (%llu before the first acknowledgement)\n",
              static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(silent));
  return receipts.empty() ? 1 : 0;
}

int run(int argc, char** argv) {
  std::string verb = argc > 2 ? argv[1] : "";
  std::string directory = argc > 2 ? argv[2] : "";
  if (verb == "append" && argc == 4)
    return append_some(directory, std::strtoull(argv[3], nullptr, 10));
  if (verb == "kill" && argc == 4)
    return kill_often(directory, std::strtoull(argv[3], nullptr, 10));
  if (verb == "check" && (argc == 3 || argc == 4)) {
    Receipts receipts;
    if (argc == 4) {
      std::ifstream file(argv[3]);
      collect(file, receipts);
    }
    return check(directory, receipts);
  }
  std::fputs("ledger_fault append DIR COUNT | check DIR [FILE] | kill DIR ROUNDS\n", stderr);
  return 2;
}

}  // namespace
}  // namespace souk::faults

int main(int argc, char** argv) {
  return souk::faults::run(argc, argv);
}
