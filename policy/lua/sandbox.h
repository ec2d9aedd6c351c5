// Confined evaluation of Lua source text: inputs in, one value out, nothing else.
// What is removed, what replaces it and what is charged: policy/SPEC.md, Sandbox.
// Memory safety of the interpreter itself is not assumed: run this inside
// policy/jail. Not thread-bound: each call makes and drops its own interpreter.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

// All sticky: once one is reached nothing in the program runs any more.
struct Limits {
  uint64_t gas = 5'000'000;            // VM instructions + bytes allocated / 16 + library work
  uint64_t memory_bytes = 32 << 20;    // everything ever allocated: there is no garbage collection
  uint64_t output_bytes = 16 << 10;    // names and texts of the result
};

inline constexpr uint64_t kMaxSandboxTextBytes = 16 << 10;  // any one string inside
inline constexpr size_t kMaxErrorBytes = 4096;
inline constexpr int kMaxResultDepth = 8;

// kPolicy: integers out only. kContract: adds the vocabulary of training
// contracts, sqrt/exp/log/cos, and reals in the result (as decimal strings).
// The name of what a program means here and what it costs: any change of either changes it.
inline constexpr std::string_view kEngineSemantics = "souk-policy/2 Lua 5.4.4 costs/2";

enum class Vocabulary : uint8_t { kPolicy, kContract };

// A read-only value the program sees under a global name. Asking an object for a
// member it has not got is an error (a misspelt rule must not fall silent).
struct Input {
  std::string name;
  const Json* value;
};

// A policy may return, instead of its answer, a function that is then called with
// the inputs in their order.
struct Program {
  std::string_view source;  // text only; bytecode is refused
  Vocabulary vocabulary = Vocabulary::kPolicy;
  std::vector<Input> inputs;  // borrowed during the call
  // kContract: how many steps `train.learning_rate` is asked for when it is a
  // function; receives the result with "function" in its place.
  std::function<Result<uint32_t>(const Json& result)> steps_of;
};

struct Evaluation {
  enum class Outcome : uint8_t { kValue, kError, kLimit, kSyntax } outcome = Outcome::kError;
  Json value;                         // with kValue
  std::string error;                  // otherwise: never empty, <= kMaxErrorBytes, printable, no addresses
  std::vector<std::string> read_set;  // paths of input leaves and lengths read, in order of first reading
  uint64_t gas = 0;                   // the same for the same program and inputs in every process
};

// Never throws, never runs program code while reporting.
Evaluation run_confined(const Program& program, const Limits& limits);

// kRefused with the line when the text is not a Lua chunk.
Status check_syntax(std::string_view source);

}  // namespace souk::policy
