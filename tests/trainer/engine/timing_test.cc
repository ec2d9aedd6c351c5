// Whether the time of what handles secrets tells two classes of them apart, after Reparaz, Balasch
// and Verbauwhede 2017 ("Dude, is my code constant time?"): measured in turn at random, compared by
// Welch's t. A machine at work shifts a round's t now and then, a leak each of them: only what most
// rounds see, in one direction and far beyond chance, counts. That the test sees leaks of a tenth
// of a microsecond is shown on leaks that are planted here.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "tests/trainer/engine/support.h"
#include "trainer/engine/noise.h"
#include "trainer/engine/normal_lanes.h"
#include "trainer/engine/release.h"
#include "trainer/engine/sampling.h"

namespace souk::trainer {
namespace {

constexpr double kFar = 10;  // deviations

// One of each class, side by side: what is picked says nothing by where in memory it was.
using Pair = std::array<uint64_t, 2>;

struct Measured {
  std::function<void(size_t which, uint64_t random)> prepare;  // not timed
  std::function<void()> run;
};

constexpr size_t kUsualCount = 20'000;

double welch_t(const Measured& measured, std::mt19937_64& random, size_t count_of_all) {
  std::array<std::vector<double>, 2> times;
  std::vector<double> all;
  for (size_t i = 0; i < count_of_all; ++i) {
    const size_t which = random() & 1;
    measured.prepare(which, random());
    const auto start = std::chrono::steady_clock::now();
    measured.run();
    const auto stop = std::chrono::steady_clock::now();
    all.push_back(std::chrono::duration<double, std::nano>(stop - start).count());
    times[which].push_back(all.back());
  }
  // Interruptions are cut away, at one limit for both classes.
  const size_t nine_tenths = count_of_all * 9 / 10;
  std::nth_element(all.begin(), all.begin() + static_cast<ptrdiff_t>(nine_tenths), all.end());
  const double limit = all[nine_tenths];
  double mean[2] = {}, spread[2] = {};
  for (size_t k = 0; k < 2; ++k) {
    double count = 0, square = 0;
    for (double t : times[k]) {
      if (t > limit) continue;
      ++count;
      const double off = t - mean[k];
      mean[k] += off / count;
      square += off * (t - mean[k]);
    }
    spread[k] = square / (count - 1) / count;
  }
  return (mean[0] - mean[1]) / std::sqrt(spread[0] + spread[1] + 1e-12);
}

// Whether four rounds of six find the classes apart in the same direction.
bool told_apart(const Measured& measured, size_t count = kUsualCount) {
  constexpr int kRounds = 6, kEnough = 4;
  std::mt19937_64 random(1);
  int slower = 0, faster = 0;
  for (int round = 0; round < kRounds; ++round) {
    const double t = welch_t(measured, random, count);
    slower += t < -kFar ? 1 : 0;
    faster += t > kFar ? 1 : 0;
    if (std::max(slower, faster) + kRounds - 1 - round < kEnough) return false;
  }
  return std::max(slower, faster) >= kEnough;
}

// Other work on the machine hides a leak: whoever looks for one that is there looks some times, and
// longer each time.
bool told_apart_at_last(const Measured& measured) {
  for (int attempt = 0; attempt < 6; ++attempt) {
    if (told_apart(measured, kUsualCount << std::min(attempt, 4))) return true;
  }
  return false;
}

// Something that compilers neither drop nor do without its branch: some nanoseconds.
void some_work(volatile double* sink, double x) {
  for (int i = 0; i < 4; ++i) *sink = std::sqrt(*sink * *sink + x * x);
}

class Timing : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef SOUK_SANITIZED
    GTEST_SKIP()
        << "sanitizers' own checks take time that depends on data; the plain build measures";
#endif
  }
  std::array<uint8_t, 32> key_{};
  volatile double sink_ = 1;
};

// ---- normals ------------------------------------------------------------------------

// The time of one piece: class 0 are those with the smallest largest normals, class 1 the largest.
class Normals {
 public:
  explicit Normals(const std::array<uint8_t, 32>& key) : source_(key, 3) {
    std::vector<std::pair<double, uint64_t>> sizes;
    for (uint64_t i = 0; i < 20'000; ++i) {
      normal_pieces(source_.state(), kBlocksPerPiece * i, normals_, lanes_of_this_cpu());
      double largest = 0;
      for (double x : normals_) largest = std::max(largest, std::abs(x));
      sizes.emplace_back(largest, kBlocksPerPiece * i);
    }
    std::sort(sizes.begin(), sizes.end());
    for (size_t i = 0; i < 500; ++i)
      pairs_.push_back({sizes[i].second, sizes[sizes.size() - 1 - i].second});
  }
  void prepare(size_t which, uint64_t random) { counter_ = pairs_[random % 500][which]; }
  void run() { normal_pieces(source_.state(), counter_, normals_, lanes_of_this_cpu()); }
  std::span<const double> normals() const { return normals_; }

 private:
  ChaCha20 source_;
  std::vector<double> normals_ = std::vector<double>(kNormalsPerPiece);
  std::vector<Pair> pairs_;
  uint64_t counter_ = 0;
};

TEST_F(Timing, OfNormalsDoesNotTellLargeOnesFromSmallOnes) {
  Normals normals(key_);
  EXPECT_FALSE(told_apart({[&](size_t which, uint64_t random) { normals.prepare(which, random); },
                           [&] { normals.run(); }}));
}

TEST_F(Timing, SeesABranchThatIsTakenForLargeNormalsOnly) {
  Normals normals(key_);
  EXPECT_TRUE(
      told_apart_at_last({[&](size_t which, uint64_t random) { normals.prepare(which, random); },
                          [&] {
                            normals.run();
                            for (double x : normals.normals()) {
                              if (std::abs(x) > 3) some_work(&sink_, x);
                            }
                          }}));
}

// ---- the release --------------------------------------------------------------------

// Class 0 are sums of nothing, class 1 sums of many clipped gradients; so are those behind.
class Releases {
 public:
  explicit Releases(const std::array<uint8_t, 32>& key) : key_(key) {
    std::mt19937_64 random(2);
    for (int64_t& sum : many_) sum = static_cast<int64_t>(random()) >> 26;
  }
  // Of the same memory for both classes, so that neither is nearer in the cache.
  void prepare(size_t which, uint64_t random) {
    const int64_t mask = -static_cast<int64_t>(which);
    for (size_t i = 0; i < kCount; ++i) sums_[i] = many_[(i + random) % kCount] & mask;
    for (size_t i = 0; i < kBehind; ++i) behind_[i] = sums_[i];
  }
  void run() {
    ChaCha20 stream(key_, 1);
    fixed_.release(stream, sums_, 1.0 / 64, out_, {behind_, out_behind_});
  }
  const std::vector<int64_t>& sums() const { return sums_; }

 private:
  static constexpr size_t kCount = 512, kBehind = 100;
  std::array<uint8_t, 32> key_;
  FixedPoint fixed_{*NoiseGrid::make(1.1, 1, 1e6)};
  std::vector<int64_t> many_ = std::vector<int64_t>(kCount), sums_ = many_;
  std::vector<float> out_ = std::vector<float>(kCount);
  std::vector<int64_t> behind_ = std::vector<int64_t>(kBehind);
  std::vector<float> out_behind_ = std::vector<float>(kBehind);
};

TEST_F(Timing, OfTheReleaseDoesNotTellSumsOfNothingFromLargeOnes) {
  Releases releases(key_);
  EXPECT_FALSE(told_apart({[&](size_t which, uint64_t random) { releases.prepare(which, random); },
                           [&] { releases.run(); }}));
}

TEST_F(Timing, SeesSumsOfNothingThatAreSkipped) {
  Releases releases(key_);
  EXPECT_TRUE(
      told_apart_at_last({[&](size_t which, uint64_t random) { releases.prepare(which, random); },
                          [&] {
                            for (size_t i = 0; i < 4; ++i) {
                              const int64_t sum = releases.sums()[64 * i];
                              if (sum != 0) some_work(&sink_, static_cast<double>(sum & 1));
                            }
                            releases.run();
                          }}));
}

TEST_F(Timing, OfTheReleaseDoesNotTellLargeNoiseFromSmallNoise) {
  constexpr size_t kCount = kNormalsPerPiece;
  std::vector<std::pair<double, uint64_t>> sizes;
  std::vector<double> normals(kCount);
  for (uint64_t stream = 0; stream < 20'000; ++stream) {
    ChaCha20 random(key_, stream);
    standard_normals(random, normals);
    double largest = 0;
    for (double x : normals) largest = std::max(largest, std::abs(x));
    sizes.emplace_back(largest, stream);
  }
  std::sort(sizes.begin(), sizes.end());
  std::vector<Pair> pairs;
  for (size_t i = 0; i < 500; ++i)
    pairs.push_back({sizes[i].second, sizes[sizes.size() - 1 - i].second});
  const FixedPoint fixed(*NoiseGrid::make(1.1, 1, 1e6));
  std::vector<int64_t> sums(kCount);
  std::vector<float> out(kCount);
  uint64_t stream = 0;
  EXPECT_FALSE(
      told_apart({[&](size_t which, uint64_t random) { stream = pairs[random % 500][which]; },
                  [&] {
                    ChaCha20 noise(key_, stream);
                    fixed.release(noise, sums, 1.0 / 64, out);
                  }}));
}

TEST_F(Timing, OfRoundingToUnitsDoesNotTellGradientsOfNothingFromLargeOnes) {
  constexpr size_t kCount = 4096;
  const FixedPoint fixed(*NoiseGrid::make(1.1, 1, 1e6));
  std::vector<float> large(kCount), values(kCount);
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 30);
  for (float& x : large) x = normal(random);
  std::vector<int64_t> sums(kCount);
  EXPECT_FALSE(told_apart({[&](size_t which, uint64_t word) {
                             const auto factor = static_cast<float>(which);
                             for (size_t i = 0; i < kCount; ++i)
                               values[i] = large[(i + word) % kCount] * factor;
                           },
                           [&] { fixed.add(values, sums); }}));
}

// ---- who is drawn -------------------------------------------------------------------

// Steps in which one row is drawn (class 1) or not (class 0), in batches of one size: sizes are
// seen from outside.
class Draws {
 public:
  static constexpr uint64_t kRows = 512, kRow = 100, kSize = kRows / 4;
  Draws() {
    std::array<std::vector<uint64_t>, 2> steps;
    for (uint64_t step = 0; steps[0].size() < 200 || steps[1].size() < 200; ++step) {
      key_ = &keys_.derive("sample", step);
      run();
      if (batch_.size() == kSize) steps[drawn() ? 1 : 0].push_back(step);
    }
    for (size_t i = 0; i < 200; ++i) pairs_.push_back({steps[0][i], steps[1][i]});
  }
  void prepare(size_t which, uint64_t random) {
    key_ = &keys_.derive("sample", pairs_[random % 200][which]);
  }
  void run() { poisson_batch(*key_, kRows, uint64_t{1} << 62, batch_); }
  bool drawn() const { return std::binary_search(batch_.begin(), batch_.end(), kRow); }

 private:
  KeySchedule keys_{testing::root_of(5)};
  const Secret<32>* key_ = nullptr;
  std::vector<uint64_t> batch_;
  std::vector<Pair> pairs_;
};

TEST_F(Timing, OfADrawDoesNotTellWhoIsDrawn) {
  Draws draws;
  EXPECT_FALSE(told_apart({[&](size_t which, uint64_t random) { draws.prepare(which, random); },
                           [&] { draws.run(); }}));
}

TEST_F(Timing, SeesWorkThatIsDoneForOneRowIfItIsDrawn) {
  Draws draws;
  EXPECT_TRUE(
      told_apart_at_last({[&](size_t which, uint64_t random) { draws.prepare(which, random); },
                          [&] {
                            draws.run();
                            if (draws.drawn()) {
                              for (int i = 0; i < 4; ++i) some_work(&sink_, i);
                            }
                          }}));
}

}  // namespace
}  // namespace souk::trainer
