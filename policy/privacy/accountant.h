// What a run of DP-SGD costs in (epsilon, delta), bounded from above.
//
// Mechanism: `steps` times, every record is included with probability q on its own
// (Poisson), vectors of L2 norm <= C are added up, and Gaussian noise of deviation
// sigma * C is put on the sum. Adjacency: one record added or removed.
//
// Every epsilon returned here already contains kSamplerSlack for the finite
// precision of the noise generator (trainer/engine/noise.h). policy/SPEC.md, Privacy.
#pragma once

#include <cstdint>
#include <span>

#include "ledger/base/result.h"
#include "policy/privacy/mechanism.h"

namespace souk::policy {

struct Event {
  double q = 0;        // sampling rate, 0 <= q <= 1
  double sigma = 1;    // noise multiplier, > 0
  uint64_t steps = 0;  // at most 2^32
  // How many rows the one who is added or removed has at most, 1 ... 4096. More than one: a
  // person, each of whose rows is drawn on its own (psgu), never a multiple of a row's epsilon.
  uint32_t records = 1;
  friend bool operator==(const Event&, const Event&) = default;
};

Mechanism mechanism_of(const Event& event);

inline constexpr double kSamplerSlack = 1e-4;

// The rate of "include iff u64 < threshold", rounded up to a double.
double rate_from_threshold(uint64_t threshold);

// Renyi divergence of integer order >= 2 of one step of `event`, the larger direction, never
// below the exact value. Infinity where it does not fit a double.
double rdp_of_step(const Event& event, uint32_t order);

// The same for records = 1: the larger of the two directions
// (Mironov, Talwar, Zhang 2019, 1908.10530, section 3.3: a finite sum).
double rdp_subsampled_gaussian(double q, double sigma, uint32_t order);

// A sound upper bound of epsilon at delta: the smaller of the Renyi bound
// (Canonne, Kamath, Steinke 2020, Proposition 12) and the privacy loss distribution
// (bounds.h). Events are fixed before the first of them runs; see budget.h for the rest.
// kMalformed: parameters out of range. kExhausted: no finite bound.
Result<double> epsilon_upper(const Event& event, double delta);
Result<double> epsilon_upper(std::span<const Event> events, double delta);

// The Renyi bound alone; cheap, a few per cent above the other.
Result<double> epsilon_by_renyi(std::span<const Event> events, double delta);

// Millionths, rounded up. Saturates at 2^53 - 1.
int64_t epsilon_micro_up(double epsilon);
// Millionths, rounded down: of lower bounds.
int64_t epsilon_micro_down(double epsilon);

// The smallest noise multiplier whose epsilon_upper does not exceed epsilon: never under
// it, at most 1e-4 above it, relatively (for `records` above 1: 5e-4). kRefused: no sigma <= 1e4 is
// enough.
Result<double> calibrate_noise(double epsilon, double delta, double q, uint64_t steps,
                               uint32_t records = 1);

}  // namespace souk::policy
