// Inside of the sandbox, shared by its files. The only door to Lua.
#pragma once

#include <lua.hpp>

#include <array>
#include <cstring>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/lua/arena.h"
#include "policy/lua/facts.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {

// What can be exhausted, as "limit reached: …" tells it.
namespace limit {
inline constexpr const char* kGas = "gas";
inline constexpr const char* kMemory = "memory";
inline constexpr const char* kText = "text of more than 16384 bytes";
inline constexpr const char* kStack = "stack";
inline constexpr const char* kValues = "values at once";
inline constexpr const char* kOutput = "output";
inline constexpr const char* kAbsent = "members that are not there";
}  // namespace limit

// Thrown through the interpreter, which is C++ and catches everything: nothing of the
// program runs any more.
struct Exhausted {};

// The account of one evaluation. Reached from the interpreter through its extra
// space; there are no coroutines, so one interpreter is one thread of Lua.
class Account {
 public:
  void begin(const Limits& limits, uint64_t gas, std::span<const Facts* const> facts);

  // Pays and goes on, or does not return.
  void pay(uint64_t gas) {
    gas_ = gas > UINT64_MAX - gas_ ? UINT64_MAX : gas_ + gas;
    if (gas_ > limits_.gas) stop(limit::kGas);
  }
  // A new or grown piece of memory. `text`: a string; `object`: of a fixed size.
  void pay_bytes(uint64_t bytes, bool object, bool text, uint64_t used);
  [[noreturn]] void stop(const char* what) {
    if (!tripped) tripped = what;
    throw Exhausted{};
  }

  // Instructions since the last time, at the present price of one.
  void settle() {
    if (!countdown) return;
    int now = 0;
    std::memcpy(&now, countdown, sizeof now);
    gas_ += static_cast<uint64_t>(armed - now) * rate_;
    armed = now;
  }
  // From the hook, which comes after `armed` instructions.
  void run_down() {
    gas_ += static_cast<uint64_t>(armed) * rate_;
    armed = 0;
  }
  // How many instructions may run before the hook must look again.
  int next_look() const;
  bool over() const { return gas_ > limits_.gas; }
  uint64_t gas() const { return gas_; }
  const Limits& limits() const { return limits_; }

  // What of the inputs was asked for. kBlock: an object or list, whatever of it is read then.
  // kLength: how many items a list has, or which members an object.
  enum class Asked : uint8_t { kValue = 1, kLength = 2, kBlock = 4 };
  void note_read(uint32_t which, uint32_t node, Asked asked) {
    const auto bit = static_cast<uint8_t>(asked);
    uint8_t& seen = read_already_[first_node[which] + node];
    if (seen & bit) return;
    seen = static_cast<uint8_t>(seen | bit);
    reads_.push_back({which, node, asked, true, nullptr});
  }
  // A member that the object has not got; ends the evaluation where there are too many.
  void note_absent(uint32_t which, uint32_t object, std::string_view name);
  std::vector<std::string> read_set();  // once, at the end

  // Set once when the interpreter starts; null when its counter was not found, and
  // then the hook looks at every instruction.
  const void* countdown = nullptr;
  Arena* arena = nullptr;

  const char* tripped = nullptr;  // sticky; what was exhausted
  const char* refused =
      nullptr;  // an error is on its way that pcall must not catch: of which limit
  bool metering = false;
  int armed = 0;
  uint64_t slope = 512;  // bytes of the largest block for one more gas each instruction
  Trace* trace = nullptr;
  std::span<const Facts* const> facts;
  std::vector<uint32_t> first_view, first_node;  // of each of the facts, in one numbering

 private:
  struct Read {
    uint32_t facts, node;
    Asked asked;
    bool stands;                // in the read set, as read_set() finds
    const std::string* absent;  // of absent_: a member that `node` has not got
  };
  Limits limits_;
  uint64_t gas_ = 0;
  uint64_t rate_ = 1;
  uint64_t largest_block_ = 0, largest_text_ = 0;
  std::vector<Read> reads_;
  std::vector<uint8_t> read_already_;
  std::set<std::string> absent_;
};

inline Account& account_of(lua_State* state) {
  return **static_cast<Account**>(lua_getextraspace(state));
}

// Slots of the registry.
enum RegistrySlot : int { kViewsSlot = 3, kViewMetatableSlot, kMainSlot };

// Pays for library work before it is done.
inline void charge(lua_State* state, uint64_t work) {
  Account& account = account_of(state);
  if (account.metering) account.pay(work);
}
// Room for `count` more values on the stack, or the end of the evaluation.
inline void make_room(lua_State* state, int count) {
  if (!lua_checkstack(state, count)) account_of(state).stop(limit::kStack);
}
// Raises an error with the position of the caller, which a program may catch: for what a call
// does not take, never for a limit. Text is copied.
[[noreturn]] void raise(lua_State* state, const std::string& message);
// An error for a call that asks for more than `which` limit gives, before any of it is made.
// Nothing catches it: where pcall would, the evaluation is over.
[[noreturn]] void refuse(lua_State* state, const char* which, const std::string& message);
void push_text(lua_State* state, std::string_view text);

// inputs.cc
struct View {
  uint32_t facts, node;
};
void install_inputs(lua_State* state);
void push_input(lua_State* state, View view);
// The view at `index`, or null when it is not one.
const View* input_at(lua_State* state, int index);
const Facts::Node& node_of(lua_State* state, View view);
// Of a list; of an object, how many members it has. Notes that it was asked for.
int64_t input_length(lua_State* state, View view);

// library.cc, text_library.cc, table_library.cc
void install_library(lua_State* state, Vocabulary vocabulary);
void install_text_library(lua_State* state);
void install_table_library(lua_State* state);
// Publishes the table on top of the stack under `name`, read-only. Pops it.
void publish_read_only(lua_State* state, const char* name);
// Sorted keys of a plain table: integers, then texts by bytes, then booleans.
int ordered_pairs(lua_State* state);
// By name, an empty one at the end.
extern const luaL_Reg kTextFunctions[], kTableFunctions[];
// What is there only to say that it is not.
int no_patterns(lua_State* state);
extern const std::string_view kContractPrelude;

// result.cc
struct ResultReader {
  lua_State* state;
  Vocabulary vocabulary;
  uint64_t bytes = 0;

  // Raw access only; kExhausted when too large, kMalformed otherwise.
  Result<Json> read(int index, int depth, const std::string& path);

 private:
  Result<Json> read_number(int index, const std::string& path);
  Result<Json> read_table(int index, int depth, const std::string& path);
  Result<std::vector<std::string_view>> names_of(int index, size_t length, const std::string& path);
  Status spend(uint64_t count, const std::string& path);
};

// interpreter_calls.cc: from here on this thread's interpreter pays into `account`.
void meter_library_calls(Account* account);

}  // namespace souk::policy
