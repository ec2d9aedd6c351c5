// Looks for a question that breaks an invariant of a policy: a counterexample, or a
// certificate of how hard it looked. policy/SPEC.md, Analysis.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "policy/analysis/space.h"
#include "policy/decide/decide.h"

namespace souk::policy::analysis {

// The engine itself. Called from one thread at a time.
using AskEngine = std::function<PolicyDecision(const std::string& source, const Json& request,
                                               const Json& dataset, const Json& ctx)>;

struct Effort {
  uint64_t seed = 1;
  double seconds = 10;
  uint64_t evaluations = UINT64_MAX;  // of each thread
  unsigned threads = 2;               // thread k searches from seed + k
};

struct Certificate {
  uint64_t seed = 0;
  unsigned threads = 0;
  uint64_t evaluations = 0;
  double seconds = 0;
  uint32_t branches = 0,
           branches_covered = 0;          // each condition of the policy counts twice: false, true
  std::vector<uint32_t> unreached_lines;  // with a condition that never came out one of its ways
  // Evaluations in which the policy allowed, before its obligations were looked at; and which ended
  // in an error or a limit.
  uint64_t allowed = 0, failed = 0;
  // Of an invariant alone: in which the left side held.
  uint64_t applied = 0;
  // It held of nothing: of no decision of the engine did the left side hold, or, where there is
  // none, the engine allowed nothing.
  bool vacuous = false;
};

struct Proof {
  struct Counterexample {
    Space::Question question;
    PolicyDecision decision;  // the engine's
  };
  std::optional<Counterexample> counterexample;
  Certificate certificate;
  uint64_t refuted = 0;  // found by the search, not confirmed by the engine
};

// `invariant`: "A implies B", or "B" alone: conditions in Lua over allow, price, request, dataset
// and ctx (policy/analysis/invariant.h). kMalformed when policy or invariant cannot be read.
Result<Proof> prove(const std::string& policy, const std::string& invariant, const AskEngine& ask,
                    const Effort& effort = {});

// Whether the invariant holds of this decision, by the engine's own interpreter. An
// invariant that fails to evaluate is kMalformed.
Result<bool> holds(const std::string& invariant, const Space::Question& question,
                   const PolicyDecision& decision);

struct Difference {
  struct Witness {
    Space::Question question;
    PolicyDecision a, b;
  };
  // Of B, seen from A.
  enum class Relation : uint8_t {
    kEquivalent,
    kStricter,
    kLooser,
    kIncomparable
  } relation = Relation::kEquivalent;
  std::optional<Witness> stricter, looser;  // where B asks for more than A; where for less
  bool vacuous = false;  // the engine was shown no question that either of them allows
  Certificate of_a, of_b;
};
const char* relation_name(Difference::Relation relation);

// B is stricter where it denies what A allows, or allows it under more obligations or
// for a higher price. Equivalent means: no difference was found.
Result<Difference> compare_policies(const std::string& a, const std::string& b,
                                    const AskEngine& ask, const Effort& effort = {});

}  // namespace souk::policy::analysis
