// What an accountant counts: releases about one dataset, each a mechanism and how often
// it ran. The one-line notation is that of `souk privacy --events` (policy/SPEC.md, Privacy).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"

namespace souk::policy {

enum class Adjacency : uint8_t {
  kAddRemove,   // one record (or user) more or less
  kReplaceOne,  // one record (or user) becomes another
};

struct Mechanism {
  enum class Kind : uint8_t {
    kSampledGaussian,    // psg: q, sigma, T
    kGaussian,           // gauss: sigma, T; sensitivity 1
    kLaplace,            // lap: b, T; sensitivity 1
    kPure,               // pure, rr: eps, T; the worst case is randomised response
    kSampledUser,        // psgu: q, sigma, T, k; a user owns k records, each drawn on its own
    kTruncatedGaussian,  // tpsg: N, q, B, sigma, T; a Poisson batch past B keeps a random B
  };
  Kind kind = Kind::kSampledGaussian;
  double q = 1;             // sampling rate, 0 ... 1
  double scale = 1;         // sigma (in units of the clipping norm), b or eps
  uint64_t steps = 1;       // T, 0 ... 2^53
  uint32_t records = 1;     // k, 1 ... 4096
  uint64_t population = 0;  // N, public
  uint64_t batch = 0;       // B, 1 ... N
  friend bool operator==(const Mechanism&, const Mechanism&) = default;
};

// kMalformed says which number is out of range.
Status check(const Mechanism& mechanism);
Status check(std::span<const Mechanism> mechanisms);
// 0 < delta < 1, else kMalformed.
Status check_delta(double delta);

// The same list, shorter: nothing that spends nothing, Gaussians as one, equals as one.
std::vector<Mechanism> normalised(std::span<const Mechanism> mechanisms);
// Whether both directions of adjacency cost the same, of each in the list.
bool symmetric(std::span<const Mechanism> mechanisms, Adjacency adjacency);

struct MechanismList {
  std::vector<Mechanism> all;
  std::optional<size_t> unknown;  // the one written sigma=? (or b=?), if any
};
// "psg:q=0.01,sigma=4,T=1000;lap:b=8": names once each, T is 1 where it is not given. At
// most 8192 parts. kMalformed for everything else.
Result<MechanismList> parse_mechanisms(std::string_view text);

// A finite decimal number, all of it. kMalformed names `what`.
Result<double> parse_number(std::string_view text, const std::string& what);
// The same, an integer in 0 ... 2^53; 1e6 is one.
Result<uint64_t> parse_count(std::string_view text, const std::string& what);

}  // namespace souk::policy
