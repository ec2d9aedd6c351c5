// Networks in Darknet's .cfg: sections in brackets with key=value lines. Sections known: net or
// network, convolutional, connected, maxpool, avgpool, dropout, batchnorm, activation, shortcut,
// route, softmax, cost. market_api/SPEC.md, Architecture files.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/result.h"

namespace souk::market {

// What batch_normalize becomes: batch norm mixes examples, so privacy wants groups.
enum class DarknetNorm : uint8_t { kBatch, kGroup };

struct Darknet {
  // Everything but what the data say: sampling is shuffled epochs, and the schedule is that of
  // [net]: learning_rate, policy (constant, poly, step, steps, exp, sig), burn_in, max_batches.
  contracts::TrainingSpec spec;
  // Settings of [net] that say how pictures are loaded and have no counterpart here.
  std::vector<std::string> ignored;
};

// kMalformed names the line. kRefused names the first section, by its number, or the value that
// has no counterpart here.
Result<Darknet> parse_darknet(std::string_view text, DarknetNorm norm);

}  // namespace souk::market
