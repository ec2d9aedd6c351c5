// How long the questions of `souk privacy` take, each in its own CPU time: median, 95th percentile
// and worst of the repetitions, beside the limit; status 1 where a median is above its own. With
// the program, whole calls of it as well, in wall time, beside a process that does nothing. Not a
// test; run it on an idle machine.
//   privacy_bench [REPETITIONS [PATH-OF-SOUK]]
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "policy/privacy/bounds.h"
#include "policy/privacy/filter.h"

namespace souk::policy {
namespace {

double cpu_ms() {
  return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

// Of one question, in ms, by its steps; of a search for noise; and in MiB.
constexpr double kShort = 20, kLong = 100, kInverse = 500;
constexpr long kMostMemory = 64;
int above = 0;

void time(const std::string& name, double limit, int repetitions,
          const std::function<void()>& question) {
  std::vector<double> ms;
  for (int i = 0; i < repetitions; ++i) {
    double start = cpu_ms();
    question();
    ms.push_back(cpu_ms() - start);
  }
  std::sort(ms.begin(), ms.end());
  const bool over = ms[ms.size() / 2] > limit;
  above += over;
  std::printf("%-74s %8.1f %8.1f %8.1f %8.0f%s\n", name.c_str(), ms[ms.size() / 2],
              ms[ms.size() * 95 / 100], ms.back(), limit, over ? "  ABOVE" : "");
}

double limit_of(const std::vector<Mechanism>& list) {
  uint64_t steps = 0;
  for (const auto& m : list) steps += m.steps;
  return steps <= 10'000 ? kShort : kLong;
}

// Wall time of a whole process, in ms: the least of so many.
double call_ms(std::vector<std::string> words, int repetitions) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
  double least = 1e9;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pid_t child = 0;
    int status = -1;
    if (posix_spawnp(&child, argv[0], &quiet, nullptr, argv.data(), environ) != 0 ||
        waitpid(child, &status, 0) != child || status != 0) {
      std::fprintf(stderr, "expected to run %s\n", words[0].c_str());
      std::exit(3);
    }
    const auto took = std::chrono::steady_clock::now() - start;
    least = std::min(least, std::chrono::duration<double, std::milli>(took).count());
  }
  posix_spawn_file_actions_destroy(&quiet);
  return least;
}

// Whole calls, where rare losses decide and where they do not.
void time_calls(const std::string& souk, int repetitions) {
  const double nothing = call_ms({"true"}, repetitions),
               start = call_ms({souk, "privacy", "explain", "--epsilon", "1"}, repetitions);
  std::vector<double> ms;
  for (const char* q : {"1e-4", "1e-3", "0.01", "0.05", "0.2"}) {
    for (const char* sigma : {"0.5", "0.7", "1", "2", "4", "8"}) {
      for (const char* steps : {"1", "10", "100", "1000", "10000"}) {
        for (const char* delta : {"1e-5", "1e-8"}) {
          for (const char* adjacency : {"add-remove", "replace-one"}) {
            ms.push_back(
                call_ms({souk, "privacy", "epsilon", "--sample-rate", q, "--noise-multiplier",
                         sigma, "--steps", steps, "--delta", delta, "--adjacency", adjacency},
                        3));
          }
        }
      }
    }
  }
  std::sort(ms.begin(), ms.end());
  const auto within =
      static_cast<double>(std::upper_bound(ms.begin(), ms.end(), kShort) - ms.begin());
  std::printf(
      "whole calls, ms of wall time: a process that does nothing %.1f, souk privacy explain %.1f\n"
      "%zu of souk privacy epsilon, at most 10,000 steps: median %.1f, 90 %% %.1f, worst %.1f; "
      "%.0f %% within %.0f\n",
      nothing, start, ms.size(), ms[ms.size() / 2], ms[ms.size() * 9 / 10], ms.back(),
      100 * within / static_cast<double>(ms.size()), kShort);
}

int run(int repetitions, const char* souk) {
  std::printf("%-74s %8s %8s %8s %8s  ms of CPU\n", "", "median", "95 %", "worst", "limit");
  struct Question {
    const char* events;
    double delta;
  };
  for (auto question :
       {Question{"psg:q=0.01,sigma=4,T=10000", 1e-5},
        Question{"psg:q=0.004266666666666667,sigma=1.1,T=14062", 1e-5},
        Question{"psg:q=0.04,sigma=1.5,T=2250", 1e-5}, Question{"psg:q=0.2,sigma=0.8,T=100", 1e-6},
        Question{"psg:q=0.001,sigma=0.8,T=20000", 1e-6},
        Question{"psg:q=0.0001,sigma=0.6,T=100000", 1e-8},
        Question{"psg:q=0.005,sigma=2,T=1000000", 1e-7},
        Question{"psg:q=0.00002,sigma=0.4,T=1000000", 1e-10},
        Question{"psg:q=0.00001,sigma=0.5,T=1000000", 1e-6},
        Question{"psg:q=0.0001,sigma=0.6,T=10000", 1e-6},
        Question{"psg:q=0.0001,sigma=0.4,T=10000", 1e-6},
        Question{"psg:q=0.00001,sigma=0.5,T=10000", 1e-7}, Question{"pure:eps=0.1,T=300", 1e-6},
        Question{"pure:eps=2,T=10000", 1e-6}, Question{"lap:b=1,T=10000", 1e-6},
        Question{"tpsg:N=60000,q=0.004,B=300,sigma=1,T=1000", 1e-6},
        Question{"psgu:q=0.01,sigma=2,T=2000,k=4", 1e-5},
        Question{"psg:q=0.01,sigma=1.1,T=3000;lap:b=4,T=3", 1e-6}}) {
    auto list = parse_mechanisms(question.events)->all;
    time(std::string("epsilon ") + question.events, limit_of(list), repetitions,
         [&] { (void)epsilon_bounds(list, Adjacency::kAddRemove, question.delta); });
    time("  upper bound alone", limit_of(list), repetitions, [&] {
      (void)epsilon_bounds(list, Adjacency::kAddRemove, question.delta, Effort::kUsual);
    });
  }
  auto known = parse_mechanisms("psg:q=0.01,sigma=1.1,T=6000")->all;
  time("delta psg:q=0.01,sigma=1.1,T=6000 at 3", kShort, repetitions,
       [&] { (void)delta_bounds(known, Adjacency::kAddRemove, 3); });
  for (const char* events : {"psg:q=0.01,sigma=?,T=10000", "psg:q=0.001,sigma=?,T=50000",
                             "psg:q=0.005,sigma=?,T=1000000"}) {
    auto list = parse_mechanisms(events)->all;
    time(std::string("noise ") + events, kInverse, repetitions,
         [&] { (void)least_noise(list, 0, Adjacency::kAddRemove, 3, 1e-6); });
  }
  auto stream = *parse_stream("0.3,30,300");
  time("filter renyi-mixture8", kShort, repetitions,
       [&] { (void)admitted(stream, *parse_rule("renyi-mixture8"), 8, 1e-6); });
  time("filter pld-static", kInverse, repetitions,
       [&] { (void)admitted(stream, *parse_rule("pld-static"), 8, 1e-6); });
  if (souk != nullptr) time_calls(souk, repetitions);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const long memory = usage.ru_maxrss / 1024;
  std::printf("most memory: %ld MiB, limit %ld\n%d above their limit\n", memory, kMostMemory,
              above);
  return above == 0 && memory <= kMostMemory ? 0 : 1;
}

}  // namespace
}  // namespace souk::policy

int main(int argc, char** argv) {
  return souk::policy::run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 9,
                           argc > 2 ? argv[2] : nullptr);
}
