// What guesses about who was in say about epsilon. trainer/SPEC.md, Audit.
//
// Each of m examples was in the data or not by a fair coin, and something that the run released
// scores it. The highest scores are guessed in, the lowest out, the rest not at all; too many right
// guesses contradict (epsilon, delta) (Steinke, Nasr, Jagielski 2023, 2305.08846, Theorem 5.2).
#pragma once

#include <cstdint>
#include <span>

#include "trainer/engine/canaries.h"

namespace souk::trainer {

// A correct trainer's lower bound passes its true epsilon with at most this chance.
inline constexpr double kAuditError = 0.01;

struct OneRunFigures {
  uint64_t examples = 0;
  double auc = 0.5;                 // chance that one that was in scores above one that was not
  double epsilon_lower = 0;         // holds but for kAuditError, whatever the mechanism is
  uint64_t guesses = 0, right = 0;  // those that prove it
  // The epsilon at delta of a Gaussian mechanism whose scores lie as far apart: no bound, closer
  // to the truth. Infinite where they do not overlap at all.
  double epsilon_gdp = 0;
  // Share of those that were in which a score above 99 % of the others recognises.
  double recognised_at_1_percent = 0;
};

// scores[i] of example i, inside[i] nonzero if it was in.
OneRunFigures one_run_figures(std::span<const double> scores, std::span<const uint8_t> inside,
                              double delta);
OneRunFigures one_run_figures(const Canaries& canaries, double delta);

// The chance of `right` or more right guesses of `guesses` about `examples` coins under any
// (epsilon, delta)-DP mechanism, bounded from above. right <= guesses <= examples.
double chance_of_guessing(uint64_t examples, uint64_t guesses, uint64_t right, double epsilon,
                          double delta);

}  // namespace souk::trainer
