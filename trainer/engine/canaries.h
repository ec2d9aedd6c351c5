// Canaries of a one-run audit: artificial examples that the trainer mixes into a private run to
// measure its own noise. trainer/SPEC.md, Audit.
//
// The run's sum of gradients gets `count` more coordinates behind the model's. Canary i is an
// example whose gradient is zero but on coordinate i of them, and far too long; whether it is in
// the dataset is a fair coin. Those that are in are drawn at the run's sampling rate, clipped by
// its rule, rounded, summed, and noised with the step's noise like everything else, by normals that
// the model leaves over. Real examples are zero there, canaries are zero in the model: the model is
// the same to the bit without them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ledger/base/secret.h"
#include "trainer/engine/chacha.h"
#include "trainer/engine/release.h"
#include "trainer/engine/strategy.h"

namespace souk::trainer {

inline constexpr uint32_t kMostCanaries = 4096;

// How many a run of this size can carry for about 2 % of its time; 32 ... kMostCanaries. That there
// are any costs 0.5 us a step beside.
uint32_t canaries_for(uint64_t rows, uint64_t parameters, uint64_t batch);

class Canaries {
 public:
  // Coins are tossed with a key of their own, and with another it is drawn who is in a step, one
  // word after the other for the whole run. `length` is that of a clipped canary,
  // clipped_length().
  Canaries(const Secret<32>& coins, const Secret<32>& draws, uint32_t count, float length);

  // What the run's rule leaves of a canary's gradient of 16 C, spread evenly over all layers.
  using Clip = std::function<void(const ExampleNorms& norms, std::span<float> factors,
                                  std::span<uint8_t> present)>;  // of one example
  static float clipped_length(const Clip& rule, size_t layers, uint32_t shard, double clip);

  // One step: who is drawn; the audit coordinates, to be released behind the model's last; and what
  // came of it.
  void draw(uint64_t threshold, const FixedPoint& fixed);
  FixedPoint::Behind coordinates() { return {sums_, released_}; }
  void score();

  // As after so many steps, by which scores() had become `scores`. Before the first.
  void restore(uint32_t steps, std::span<const double> scores);

  // The sum of canary i's coordinate over all steps so far, and whether it was in.
  std::span<const double> scores() const { return scores_; }
  std::span<const uint8_t> inside() const { return inside_; }

 private:
  float length_;
  ChaCha20 draws_;
  std::vector<double> scores_;
  std::vector<uint8_t> inside_;
  std::vector<uint32_t> members_;  // those that are in
  std::vector<uint64_t> words_;    // of a step, one for each of them
  std::vector<float> gradient_, released_;
  std::vector<int64_t> sums_;
};

}  // namespace souk::trainer
