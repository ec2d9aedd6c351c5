// Confined evaluation of Lua source text: inputs in, one value out, nothing else.
// What is removed, what replaces it and what is charged: policy/SPEC.md, Sandbox.
// Memory safety of the interpreter itself is not assumed: run this inside
// policy/jail.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"
#include "policy/lua/facts.h"

namespace souk::policy {

// All sticky: once one is reached nothing in the program runs any more.
struct Limits {
  uint64_t gas = 5'000'000;          // VM instructions + bytes allocated / 16 + library work
  uint64_t memory_bytes = 32 << 20;  // everything ever allocated: there is no garbage collection
  uint64_t output_bytes = 16 << 10;  // names and texts of the result
};

inline constexpr uint64_t kMaxSandboxTextBytes = 16 << 10;  // any one string inside
inline constexpr size_t kMaxErrorBytes = 4096;
inline constexpr int kMaxResultDepth = 8;
inline constexpr size_t kMaxAbsentMembers = 256;  // different ones that one run may ask for

// The name of what a program means here and what it costs, and of the accounting that gives a
// decision its epsilon and its charges: any change of one of them changes it.
inline constexpr std::string_view kEngineSemantics = "souk-policy/8 Lua 5.4.4 costs/3";
// Those before it, whose decisions are on ledgers.
inline constexpr std::string_view kEarlierSemantics[] = {
    "souk-policy/5 Lua 5.4.4 costs/3", "souk-policy/4 Lua 5.4.4 costs/3",
    "souk-policy/3 Lua 5.4.4 costs/3", "souk-policy/2 Lua 5.4.4 costs/3",
    "souk-policy/2 Lua 5.4.4 costs/2"};

// What a policy finds in this engine: the globals, the inputs not among them, and the members of
// those that are libraries.
const std::set<std::string>& global_names();
const std::map<std::string, std::set<std::string>>& library_members();
// The Lua text of `contains` and `rules`, which are policies' own words.
extern const std::string_view kPolicyPrelude;

// kPolicy: integers out only; a function as the answer is called with the inputs.
// kContract: adds the vocabulary of training contracts, sqrt/exp/log/cos, and reals in
// the result (as decimal strings).
enum class Vocabulary : uint8_t { kPolicy, kContract };

// What ran, for coverage. Of a text that policy/lint/instrument.h has prepared.
struct Trace {
  std::map<int, uint64_t> lines;                    // times a line was entered
  std::vector<std::array<uint64_t, 2>> conditions;  // times each came out false, true
};

struct Evaluation {
  enum class Outcome : uint8_t { kValue, kError, kLimit, kSyntax } outcome = Outcome::kError;
  Json value;         // with kValue
  std::string error;  // otherwise: never empty, <= kMaxErrorBytes, printable, no addresses
  // Paths of what was asked of the inputs, there or not, in order of first asking. policy/SPEC.md,
  // Sandbox.
  std::vector<std::string> read_set;
  uint64_t gas = 0;  // the same for the same program and inputs in every process
};

class Account;

// One interpreter, used again and again. Each run starts from the byte-identical state
// that loading left, whatever ran before it. Not thread safe.
class Machine {
 public:
  // kTryAgain when there is no memory for one.
  static Result<std::unique_ptr<Machine>> boot(Vocabulary vocabulary);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // A text that is ready to run on this machine, or why it is not. `inputs` are the
  // globals it will see. kObserved: it may call souk_condition (policy/lint).
  enum class Observed : uint8_t { kNo, kYes };
  class Loaded;
  std::shared_ptr<const Loaded> load(std::string_view source,
                                     const std::vector<std::string>& inputs,
                                     Observed observed = Observed::kNo);

  // `steps_of` (kContract): how many steps `train.learning_rate` is asked for when it
  // is a function; receives the result with "function" in its place.
  using StepsOf = std::function<Result<uint32_t>(const Json& result)>;
  // `inputs` in the order and under the names of load, borrowed during the call.
  // Never throws, never runs program code while reporting.
  Evaluation run(const Loaded& loaded, std::span<const Facts* const> inputs, const Limits& limits,
                 const StepsOf& steps_of = {}, Trace* trace = nullptr);

 private:
  struct Parts;
  explicit Machine(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// A read-only value the program sees under a global name. Asking an object for a
// member it has not got is an error (a misspelt rule must not fall silent).
struct Input {
  std::string name;
  const Json* value;
};

// One run on a machine of its own.
struct Program {
  std::string_view source;  // text only; bytecode is refused
  Vocabulary vocabulary = Vocabulary::kPolicy;
  std::vector<Input> inputs;  // borrowed during the call
  Machine::StepsOf steps_of;
};
Evaluation run_confined(const Program& program, const Limits& limits);

// kRefused with the line when the text is not a Lua chunk.
Status check_syntax(std::string_view source);

}  // namespace souk::policy
