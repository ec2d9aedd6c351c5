// Inside of the sandbox, shared by its files. The only door to Lua.
#pragma once

#include <lua.hpp>

#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/lua/sandbox.h"

namespace souk::policy {

// The account of one evaluation. Reached from the interpreter through its extra
// space; there are no coroutines, so one interpreter is one thread of Lua.
struct Confined {
  struct InputNode {
    const Json* value;
    std::string path;
  };

  explicit Confined(const Limits& limits_in) : limits(limits_in) {}

  const Limits limits;
  uint64_t gas = 0;
  uint64_t live_bytes = 0;
  // Bytes of tables, stacks and buffers that grew. Not in `gas`, because when a
  // table grows depends on the interpreter's random hash seed; limited on its own.
  uint64_t regrown_bytes = 0;
  const char* tripped = nullptr;  // sticky; what was exhausted
  bool metering = false;
  std::deque<InputNode> inputs;  // stable addresses
  std::vector<std::string> read_set;
  std::set<std::string> read_already;

  void trip(const char* what) {
    if (!tripped) tripped = what;
  }
  void note_read(std::string path) {
    if (read_already.insert(path).second) read_set.push_back(std::move(path));
  }
};

inline Confined& confined(lua_State* state) { return **static_cast<Confined**>(lua_getextraspace(state)); }

// Raises the fatal error when something has tripped. Never returns then.
void stop_if_tripped(lua_State* state);
// Pays for library work before it is done.
void charge(lua_State* state, uint64_t work);
// Raises an error with the position of the caller. Text is copied.
[[noreturn]] void raise(lua_State* state, const std::string& message);
void push_text(lua_State* state, std::string_view text);

// inputs.cc
void install_inputs(lua_State* state);
void push_input(lua_State* state, const Json& value, std::string path);
// The node behind the value at `index`, or null when it is not an input.
const Confined::InputNode* input_at(lua_State* state, int index);
int64_t input_length(lua_State* state, const Confined::InputNode& node);

// library.cc, text_library.cc, table_library.cc
void install_library(lua_State* state, Vocabulary vocabulary);
void install_text_library(lua_State* state);
void install_table_library(lua_State* state);
// Publishes the table on top of the stack under `name`, read-only. Pops it.
void publish_read_only(lua_State* state, const char* name);
// Sorted keys of a plain table: integers, then texts by bytes, then booleans.
int ordered_pairs(lua_State* state);
extern const std::string_view kPolicyPrelude;
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

}  // namespace souk::policy
