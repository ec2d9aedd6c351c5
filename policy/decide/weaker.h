// Inside of policy/decide: what a run is, seen by obligations, and where it is
// weaker than obliged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/decide/obligations.h"

namespace souk::policy {

struct RunFacts {
  bool private_run = false;
  int64_t epsilon_micro = 0, delta_pico = 0, noise_micro = 0;
  int64_t steps = 0, parameters = 0;
  std::string algorithm;
  std::optional<int64_t> co_providers;  // where the request is known
};

struct Weakness {
  std::string obligation;  // "max_epsilon_micro", ...
  std::string path;        // in the request
  std::string got, need;
};

std::vector<Weakness> weaknesses(const RunFacts& run, const Obligations& obligations);

}  // namespace souk::policy
