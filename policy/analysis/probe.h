// A policy run for its analysis, not for a decision: a second interpreter of the Lua
// that policies may use, which notes what every condition compared. It has no gas and
// no hash; what it finds is shown to nobody before the engine itself has said the same.
// Memory safe whatever the policy does; bounded in steps, depth and memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "policy/analysis/chunk.h"
#include "policy/analysis/space.h"

namespace souk::policy::analysis {

// A value as it was when it was compared.
struct Seen {
  enum class Kind : uint8_t { kNone, kInteger, kReal, kText, kOther } kind = Kind::kNone;
  int64_t integer = 0;
  double real = 0;
  std::string_view text;  // valid until the next run
  bool is_number() const { return kind == Kind::kInteger || kind == Kind::kReal; }
  double number() const { return kind == Kind::kInteger ? static_cast<double>(integer) : real; }
};

struct Event {
  enum class Kind : uint8_t {
    kCompare,   // left op right
    kTruth,     // of something that is no comparison
    kLookup,    // a key (left) that a table has (right: one it has) or has not
    kContains,  // a value (right) that an item of a list (left) is or is not
    kFind,      // a text (left) that has another (right) in it or not
    kDivisor,   // left: came out true where it is not zero
  };
  uint32_t site = 0;
  Kind kind = Kind::kCompare;
  Op op = Op::kEq;
  bool outcome = false;
  Seen left, right;
};

// What one run said.
struct Answer {
  enum class End : uint8_t { kDecision, kError, kLimit } end = End::kError;
  bool allow = false;
  int64_t price = 0;
  // With an invariant: whether its two sides hold. kError: neither.
  bool antecedent = false, consequent = true;
};

class Probe {
 public:
  // kMalformed when the policy does not parse. `invariant`: "A implies B", or "B" alone,
  // over allow, price, request, dataset and ctx.
  static Result<std::unique_ptr<Probe>> make(const Space& space, const std::string& policy,
                                             const std::string& invariant = {});
  ~Probe();

  Answer run(const Point& point);
  const std::vector<Event>& events() const;  // of the last run, in order, at most 400
  uint32_t sites() const;                    // numbers of sites are below it
  // Sites of the policy itself (the rest belong to the vocabulary and the invariant)
  // that can come out two ways.
  const std::vector<uint32_t>& policy_branches() const;
  // Literals of policy and invariant.
  const std::vector<int64_t>& integers() const;
  const std::vector<std::string>& texts() const;
  uint32_t line_of(uint32_t site) const;

 private:
  class Machine;
  Probe();
  std::unique_ptr<Machine> machine_;
};

}  // namespace souk::policy::analysis
