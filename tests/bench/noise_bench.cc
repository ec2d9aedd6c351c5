// Speed of the noise generator for each kind of CPU this one can be, and a timing test after
// Reparaz, Balasch, Verbauwhede 2017 ("Dude, is my code constant time?"): pieces whose normals
// are large against pieces whose are small, interleaved, compared by Welch's t. Not part of
// ctest; run it on an idle machine.
//   noise_bench                 speed and timing
//   noise_bench --draws 1e8     mean, variance and fourth moment of so many draws; status 1 where
//                               one is farther off than five deviations of a Gaussian's
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <vector>

#include "trainer/engine/noise.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/release.h"

namespace souk::trainer {
namespace {

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
double best_rate(double items, Work&& work) {
  double best = 0;
  for (int i = 0; i < 15; ++i) {
    double start = cpu_seconds();
    work();
    best = std::max(best, items / (cpu_seconds() - start) / 1e6);
  }
  return best;
}

void speed() {
  std::array<uint8_t, 32> key{};
  ChaCha20 source(key, 1);
  std::vector<double> normals(16 * kNormalsPerPiece);
  for (auto [lanes, name] :
       {std::pair{Lanes::kAvx512, "AVX-512"}, {Lanes::kAvx2, "AVX2"}, {Lanes::kPlain, "plain"}}) {
    if (lanes > lanes_of_this_cpu()) continue;
    double rate = best_rate(500.0 * static_cast<double>(normals.size()), [&, chosen = lanes] {
      for (int i = 0; i < 500; ++i) normal_pieces(source.state(), 0, normals, chosen);
    });
    const int limit = lanes == Lanes::kAvx512 ? 200 : lanes == Lanes::kAvx2 ? 60 : 0;
    std::printf("%-8s %7.1f M normals/s", name, rate);
    if (limit > 0) std::printf(", limit %d%s", limit, rate < limit ? "  BELOW" : "");
    std::printf("\n");
  }
  const FixedPoint fixed(*NoiseGrid::make(1.1, 1, 1e6));
  std::vector<int64_t> sums(1 << 12);
  std::vector<float> out(sums.size());
  double rate = best_rate(500.0 * static_cast<double>(sums.size()), [&] {
    for (uint64_t i = 0; i < 500; ++i) {
      ChaCha20 random(key, i);
      fixed.release(random, sums, 1.0, out);
    }
  });
  std::printf("sums released with it: %.1f M/s\n", rate);
}

// Welch's t between the times of the pieces in `classes`, taken in turn at random.
void compare(const char* name, const ChaCha20& source,
             const std::array<std::vector<uint64_t>, 2>& classes) {
  constexpr size_t kMeasured = 300000;
  std::vector<double> normals(kNormalsPerPiece), all;
  std::array<std::vector<double>, 2> times;
  all.reserve(kMeasured);
  for (auto& own : times) own.reserve(kMeasured);
  // Which class and which piece, drawn before anything is measured.
  std::vector<std::pair<size_t, uint64_t>> order;
  uint64_t random = 88172645463325252ULL;
  for (size_t i = 0; i < kMeasured; ++i) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    const auto& own = classes[(random >> 20) & 1];
    order.emplace_back((random >> 20) & 1, own[(random >> 32) % own.size()]);
  }
  for (auto [which, counter] : order) {
    auto start = std::chrono::steady_clock::now();
    normal_pieces(source.state(), counter, normals, lanes_of_this_cpu());
    auto stop = std::chrono::steady_clock::now();
    times[which].push_back(std::chrono::duration<double, std::nano>(stop - start).count());
    all.push_back(times[which].back());
  }
  // Interruptions are cut away, at one limit for both classes.
  std::nth_element(all.begin(), all.begin() + kMeasured * 9 / 10, all.end());
  double limit = all[kMeasured * 9 / 10], mean[2] = {}, variance[2] = {}, count[2] = {};
  for (size_t k = 0; k < 2; ++k) {
    for (double t : times[k]) {
      if (t > limit) continue;
      ++count[k];
      double off = t - mean[k];
      mean[k] += off / count[k];
      variance[k] += off * (t - mean[k]);
    }
    variance[k] /= count[k] - 1;
  }
  double t = (mean[0] - mean[1]) / std::sqrt(variance[0] / count[0] + variance[1] / count[1]);
  std::printf("%s: %.2f ns and %.2f ns, t = %.2f\n", name, mean[0], mean[1], t);
}

void timing() {
  std::array<uint8_t, 32> key{};
  ChaCha20 source(key, 3);
  // Counters of pieces by the size of their largest normal.
  std::vector<double> normals(kNormalsPerPiece);
  std::vector<std::pair<double, uint64_t>> sizes;
  for (uint64_t i = 0; i < 20000; ++i) {
    normal_pieces(source.state(), kBlocksPerPiece * i, normals, lanes_of_this_cpu());
    double largest = 0;
    for (double x : normals) largest = std::max(largest, std::abs(x));
    sizes.emplace_back(largest, kBlocksPerPiece * i);
  }
  std::sort(sizes.begin(), sizes.end());
  std::array<std::vector<uint64_t>, 2> by_size, by_chance;
  for (size_t i = 0; i < 500; ++i) {
    by_size[0].push_back(sizes[i].second);
    by_size[1].push_back(sizes[sizes.size() - 1 - i].second);
    by_chance[i % 2].push_back(kBlocksPerPiece * i);
    by_chance[i % 2].push_back(kBlocksPerPiece * (10000 + i));
  }
  std::printf("time of a piece; |t| above 4.5 tells two classes apart:\n");
  for (int round = 0; round < 3; ++round) {
    compare("  small normals, large normals", source, by_size);
    compare("  two classes alike           ", source, by_chance);
  }
}

int moments(double draws) {
  // A key of its own for each piece of 2^20, as each step of a run has; sums of pieces are added
  // up in long double, so that 1e8 terms lose nothing that matters here.
  std::vector<double> normals(1 << 20);
  long double sums[4] = {};
  double count = 0;
  for (uint64_t piece = 0; count < draws; ++piece) {
    std::array<uint8_t, 32> key{};
    for (size_t i = 0; i < 8; ++i) key[i] = static_cast<uint8_t>(piece >> (8 * i));
    ChaCha20 random(key, 0);
    standard_normals(random, normals);
    double own[4] = {};
    for (double x : normals) {
      own[0] += x;
      own[1] += x * x;
      own[2] += x * x * x;
      own[3] += x * x * x * x;
    }
    for (size_t k = 0; k < 4; ++k) sums[k] += own[k];
    count += static_cast<double>(normals.size());
  }
  // E and variance of x, x^2, x^3, x^4.
  const double expected[] = {0, 1, 0, 3}, variance[] = {1, 2, 15, 96};
  bool good = true;
  for (size_t k = 0; k < 4; ++k) {
    const double mean = static_cast<double>(sums[k]) / count,
                 off = (mean - expected[k]) / std::sqrt(variance[k] / count);
    good = good && std::abs(off) < 5;
    std::printf("moment %zu of %.0f draws: %.7f, %.2f deviations off, limit 5\n", k + 1, count,
                mean, off);
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace souk::trainer

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--draws") {
    const double draws = std::strtod(argv[2], nullptr);
    if (draws >= 1 && draws <= 1e12) return souk::trainer::moments(draws);
  }
  if (argc != 1) {
    std::fprintf(stderr, "expected no argument, or --draws with a number from 1 to 1e12\n");
    return 2;
  }
  souk::trainer::speed();
  souk::trainer::timing();
  return 0;
}
