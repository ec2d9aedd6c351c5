// Random programs against the sandbox, in this process.
//   policy_fuzz [--seed N] [--programs N]
// One line: a digest of all decisions, how many of each status, the longest CPU time of
// one evaluation, how far memory grew. The digest is the same in every process. Exit
// status 1 when a limit did not hold.
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "ledger/crypto/hash.h"
#include "policy/decide/evaluator.h"
#include "tests/policy/hardening/programs.h"

namespace souk::policy {
namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long resident_kib() {
  long pages = 0, resident = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int run(uint64_t seed, uint64_t programs) {
  auto evaluator = Evaluator::make().take();
  hardening::ProgramMaker maker(seed);
  auto dataset = Checked::of("dataset", samples::sample_dataset()).take();
  auto ctx = Checked::of("ctx", samples::sample_context()).take();
  std::map<std::string, uint64_t> statuses;
  Digest all{};
  double longest = 0;
  long early = 0, grown = 0;
  bool held = true;
  for (uint64_t i = 0; i < programs; ++i) {
    const std::string source = maker.next();
    auto request = Checked::of("request", maker.request()).take();
    double begin = cpu_seconds();
    PolicyDecision decision =
        evaluator->decide(*evaluator->prepare(source), *request, *dataset, *ctx);
    double spent = cpu_seconds() - begin;
    longest = std::max(longest, spent);
    ++statuses[status_name(decision.status)];
    bool fine = spent < 1 && decision.gas <= Limits{}.gas + 1 &&
                (decision.allowed() || !decision.reasons.empty());
    if (!fine) {
      held = false;
      std::fprintf(stderr, "program %llu of seed %llu: %.3f s, %llu gas\n%s\n",
                   static_cast<unsigned long long>(i), static_cast<unsigned long long>(seed), spent,
                   static_cast<unsigned long long>(decision.gas), source.c_str());
    }
    const Digest hash = decision.hash();
    std::array<uint8_t, 64> both{};
    std::copy(all.begin(), all.end(), both.begin());
    std::copy(hash.begin(), hash.end(), both.begin() + 32);
    all = ledger::sha256(both);
    if (i == programs / 10) early = resident_kib();
  }
  grown = resident_kib() - early;
  std::printf("%s", to_hex(ByteView(all)).c_str());
  for (const auto& [status, count] : statuses)
    std::printf(" %s=%llu", status.c_str(), static_cast<unsigned long long>(count));
  std::printf(" longest_ms=%.1f grown_kib=%ld\n", longest * 1000, grown);
  return held && grown < 64 * 1024 ? 0 : 1;
}

}  // namespace
}  // namespace souk::policy

int main(int argc, char** argv) {
  uint64_t seed = 1, programs = 1000;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seed") == 0) seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--programs") == 0) programs = std::strtoull(argv[i + 1], nullptr, 10);
  }
  return souk::policy::run(seed, programs);
}
