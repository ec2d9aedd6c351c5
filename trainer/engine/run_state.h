// What a run has become between two steps, as bytes: the number of steps, then every list of
// numbers that a step moves, each in the memory's own order (little endian, IEEE 754). With the
// specification, the rows and the noise root that is all there is of a run.
// trainer/SPEC.md, Engine, Taken up again.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"

namespace souk::trainer {

struct RunState {
  uint32_t steps = 0;
  std::vector<std::span<float>> numbers;  // borrowed from the run
  std::span<double> scores;               // of an audit's canaries; empty without
};

uint64_t length_of(const RunState& state);
// Behind what `out` holds; the same length for every step of one specification.
void append_state(Bytes& out, const RunState& state);
// Writes steps and numbers from bytes that append_state() made of such lists. kMalformed, and
// nothing written, when they have another length.
Status read_into(RunState& state, ByteView bytes);

}  // namespace souk::trainer
