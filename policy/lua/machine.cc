#include <algorithm>
#include <cstdlib>
#include <exception>
#include <optional>

#include "policy/lua/confined.h"
#include "policy/lua/sandbox.h"
#include "policy/lua/utf8.h"

namespace souk::policy {

class Machine::Loaded {
 public:
  std::shared_ptr<const Arena::Picture> picture;  // with the main function in its slot
  uint64_t gas = 0;
  std::optional<Evaluation> refused;  // it does not parse, or may not run
};

namespace {

constexpr size_t kMaxProgramBytes = 256 << 10;
// What the interpreter's stack moves to when it is full, so that there is room to say so (ldo.c,
// luaD_growstack). Tables grow by powers of two; a list of exactly as many keys would end here too.
constexpr size_t kOverflownStackBytes = (LUAI_MAXSTACK + 200 + 5) * size_t{16};
constexpr Limits kLoadLimits{.gas = UINT64_MAX, .memory_bytes = 128 << 20, .output_bytes = 0};

// Lua asks with `old` = kind of object when `block` is null, else its old size.
void* allocate(void* context, void* block, size_t old, size_t wanted) {
  auto& account = *static_cast<Account*>(context);
  size_t had = block ? old : 0;
  if (wanted == 0) {
    account.arena->give_back(block, had);
    return nullptr;
  }
  if (wanted > had) {
    if (!block && old == 0 && wanted == kOverflownStackBytes && account.metering &&
        !account.tripped)
      account.stop(limit::kStack);
    bool object = !block && old != 0;
    account.pay_bytes(object ? wanted : wanted - had, object, object && old == LUA_TSTRING,
                      account.arena->used());
  }
  if (block && Arena::same_block(had, wanted)) return block;
  void* moved = account.arena->take(wanted);
  if (!moved) {
    if (wanted <= had) return block;
    account.stop(limit::kMemory);
  }
  if (block) {
    std::memcpy(moved, block, std::min(had, wanted));
    account.arena->give_back(block, had);
  }
  return moved;
}

// After so many instructions, or each when their counter was not found.
void look(lua_State* state, lua_Debug* event) {
  Account& account = account_of(state);
  if (event->event == LUA_HOOKLINE) {
    if (account.trace && lua_getinfo(state, "S", event) &&
        std::strcmp(event->source, "=line") == 0) {
      ++account.trace->lines[event->currentline];
    }
    return;
  }
  account.run_down();
  if (account.over()) account.stop(limit::kGas);
  account.armed = account.next_look();
  lua_sethook(state, look, lua_gethookmask(state), account.armed);
}

void watch(lua_State* state) {
  Account& account = account_of(state);
  account.armed = account.next_look();
  lua_sethook(state, look, account.trace ? LUA_MASKCOUNT | LUA_MASKLINE : LUA_MASKCOUNT,
              account.armed);
}

int load_text(lua_State* state, std::string_view text, const char* name) {
  return luaL_loadbufferx(state, text.data(), text.size(), name, "t");
}

// A to-be-closed variable may run code after a limit was reached, so a program
// with one is over its limit before it starts.
bool has_close_attribute(std::string_view source) {
  auto skip_space = [&](size_t at) {
    while (at < source.size() && (source[at] == ' ' || (source[at] >= '\t' && source[at] <= '\r')))
      ++at;
    return at;
  };
  for (size_t at = source.find('<'); at != std::string_view::npos; at = source.find('<', at + 1)) {
    size_t word = skip_space(at + 1);
    if (source.substr(word, 5) != "close") continue;
    size_t end = skip_space(word + 5);
    if (end < source.size() && source[end] == '>') return true;
  }
  return false;
}

std::string error_text(lua_State* state) {
  size_t size = 0;
  const char* text = lua_type(state, -1) == LUA_TSTRING ? lua_tolstring(state, -1, &size) : nullptr;
  std::string line =
      one_line(text ? std::string_view(text, size) : std::string_view(), kMaxErrorBytes);
  return line.empty() ? "the program raised an error without a text" : line;
}

Evaluation stopped(Evaluation::Outcome outcome, std::string text) {
  Evaluation evaluation;
  evaluation.outcome = outcome;
  evaluation.error = std::move(text);
  return evaluation;
}

// Where a schedule may stand. result.cc reads "function" there.
struct SchedulePlace {
  const char* path;
  std::vector<const char*> members;
};
const SchedulePlace kSchedulePlaces[] = {
    {"train.learning_rate", {"train", "learning_rate"}},
    {"train.optimizer.lr", {"train", "optimizer", "lr"}},
};

// The JSON at a place, or null.
Json* json_at(Json& value, const SchedulePlace& place) {
  Json* at = &value;
  for (const char* member : place.members) {
    auto* object = at->object();
    auto it = object ? object->find(member) : Json::Object::iterator();
    if (!object || it == object->end()) return nullptr;
    at = &it->second;
  }
  return at;
}

// Replaces "function" by run lengths of what the function says of each step.
void expand_schedule(lua_State* state, int table, const Machine::StepsOf& steps_of,
                     const SchedulePlace& place, Json& value) {
  auto steps = steps_of(value);
  if (!steps) raise(state, steps.error().expected());
  lua_pushvalue(state, table);
  for (const char* member : place.members) {
    lua_pushstring(state, member);
    lua_rawget(state, -2);
    lua_remove(state, -2);
  }
  const std::string name = std::string(place.path) + ": ";
  Json::Array runs;
  double last = 0;
  int64_t length = 0;
  auto flush = [&] {
    if (length == 0) return;
    Json::Object run_length;
    run_length["steps"] = length;
    run_length["value"] = real_text(last);
    runs.emplace_back(std::move(run_length));
  };
  for (uint32_t step = 1; step <= *steps; ++step) {
    lua_pushvalue(state, -1);
    lua_pushinteger(state, step);
    lua_pushinteger(state, *steps);
    lua_call(state, 2, 1);
    if (lua_type(state, -1) != LUA_TNUMBER)
      raise(state, name + "expected a number for step " + std::to_string(step));
    double rate = lua_tonumber(state, -1);
    lua_pop(state, 1);
    if (!(rate >= 0 && rate <= 1e6))
      raise(state, name + "expected 0 to 1000000 at step " + std::to_string(step));
    if (length > 0 && rate == last) {
      ++length;
      continue;
    }
    flush();
    if (runs.size() >= 65536) raise(state, name + "expected at most 65536 different runs");
    last = rate;
    length = 1;
  }
  flush();
  lua_pop(state, 1);
  *json_at(value, place) = Json(std::move(runs));
}

// A text "function" is a text: the program's own value is asked.
bool is_function(lua_State* state, int table, const SchedulePlace& place) {
  lua_pushvalue(state, table);
  for (const char* member : place.members) {
    if (lua_type(state, -1) == LUA_TTABLE) {
      lua_pushstring(state, member);
      lua_rawget(state, -2);
    } else {
      lua_pushnil(state);
    }
    lua_remove(state, -2);
  }
  bool yes = lua_type(state, -1) == LUA_TFUNCTION;
  lua_pop(state, 1);
  return yes;
}

// --- what runs inside lua_pcall -------------------------------------------------

int prepare_library(lua_State* state) {
  auto vocabulary = static_cast<Vocabulary>(lua_tointeger(state, 1));
  install_inputs(state);
  install_library(state, vocabulary);
  auto prelude = vocabulary == Vocabulary::kPolicy ? kPolicyPrelude : kContractPrelude;
  CHECK(load_text(state, prelude, "=library") == LUA_OK);
  lua_call(state, 0, 0);
  return 0;
}

// souk_condition(number, value): value, and a note of which way it went.
int note_condition(lua_State* state) {
  lua_Integer number = lua_tointeger(state, 1);
  Trace* trace = account_of(state).trace;
  if (trace && number >= 0 && static_cast<size_t>(number) < trace->conditions.size()) {
    ++trace->conditions[static_cast<size_t>(number)][lua_toboolean(state, 2) ? 1 : 0];
  }
  lua_settop(state, 2);
  return 1;
}

struct Loading {
  std::string_view source;
  const std::vector<std::string>& inputs;
  Machine::Observed observed;
  bool parsed = false;
};

int load_program(lua_State* state) {
  auto& loading = *static_cast<Loading*>(lua_touserdata(state, 1));
  for (uint32_t i = 0; i < loading.inputs.size(); ++i) {
    push_input(state, View{i, 0});
    lua_setglobal(state, loading.inputs[i].c_str());
  }
  if (loading.observed == Machine::Observed::kYes) {
    lua_pushcfunction(state, note_condition);
    lua_setglobal(state, "souk_condition");
  }
  account_of(state).metering = true;
  account_of(state).pay(loading.source.size() / 16);
  if (load_text(state, loading.source, "=line") != LUA_OK) return lua_error(state);
  lua_rawseti(state, LUA_REGISTRYINDEX, kMainSlot);
  loading.parsed = true;
  return 0;
}

struct Running {
  Vocabulary vocabulary;
  const Machine::StepsOf& steps_of;
  Evaluation& evaluation;
};

int run_program(lua_State* state) {
  Running& running = *static_cast<Running*>(lua_touserdata(state, 1));
  Account& account = account_of(state);
  lua_settop(state, 0);
  lua_rawgeti(state, LUA_REGISTRYINDEX, kMainSlot);
  account.metering = true;
  watch(state);
  lua_call(state, 0, 1);
  if (running.vocabulary == Vocabulary::kPolicy && lua_type(state, 1) == LUA_TFUNCTION) {
    auto count = static_cast<uint32_t>(account.facts.size());
    for (uint32_t i = 0; i < count; ++i) push_input(state, View{i, 0});
    lua_call(state, static_cast<int>(count), 1);
  }
  ResultReader reader{state, running.vocabulary};
  auto value = reader.read(1, 0, "");
  if (!value) {
    if (value.error().code() == Code::kExhausted) account.stop(limit::kOutput);
    raise(state, value.error().expected());
  }
  for (const SchedulePlace& place : kSchedulePlaces) {
    if (running.steps_of && is_function(state, 1, place))
      expand_schedule(state, 1, running.steps_of, place, *value);
  }
  running.evaluation.value = std::move(*value);
  running.evaluation.outcome = Evaluation::Outcome::kValue;
  return 0;
}

// The interpreter allocates also after it has caught an error, where nothing of its own
// catches what the account throws.
int protect(lua_State* state, lua_CFunction function, void* argument) {
  try {
    lua_pushcfunction(state, function);
    lua_pushlightuserdata(state, argument);
    return lua_pcall(state, 1, 0, 0);
  } catch (const Exhausted&) {
    return LUA_ERRMEM;
  }
}

// --- the interpreter's own count of instructions ----------------------------------

// lua_sethook's count is kept by the interpreter as an int that goes down by one for
// each instruction. It has no name in the interface, so it is found by looking: of the
// two ints that hold a value just set (the count and what it restarts from), the one
// that is less after some instructions. Null when that is not plain to see.
const void* find_countdown(lua_State* state, size_t bytes) {
  constexpr int kMark = 0x3c5a1700;
  CHECK(load_text(state, "local a = 1 return a", "=probe") == LUA_OK);
  lua_sethook(
      state, [](lua_State*, lua_Debug*) {}, LUA_MASKCOUNT, kMark);
  auto* from = reinterpret_cast<const std::byte*>(state);
  std::vector<const std::byte*> marked;
  for (size_t at = 0; at + sizeof(int) <= bytes; at += alignof(int)) {
    int value = 0;
    std::memcpy(&value, from + at, sizeof value);
    if (value == kMark) marked.push_back(from + at);
  }
  lua_call(state, 0, 0);
  const void* found = nullptr;
  size_t lower = 0;
  for (const std::byte* place : marked) {
    int value = 0;
    std::memcpy(&value, place, sizeof value);
    if (value < kMark && value > kMark - 16) {
      found = place;
      ++lower;
    }
  }
  lua_sethook(state, nullptr, 0, 0);
  return marked.size() == 2 && lower == 1 ? found : nullptr;
}

constexpr size_t kStateBytes = 224;  // of a lua_State, at the least

}  // namespace

void push_text(lua_State* state, std::string_view text) {
  lua_pushlstring(state, text.data(), text.size());
}

void raise(lua_State* state, const std::string& message) {
  luaL_where(state, 1);
  push_text(state, message);
  lua_concat(state, 2);
  lua_error(state);
  std::abort();  // lua_error does not return
}

void refuse(lua_State* state, const char* which, const std::string& message) {
  account_of(state).refused = which;
  raise(state, message);
}

struct Machine::Parts {
  Vocabulary vocabulary = Vocabulary::kPolicy;
  std::unique_ptr<Arena> arena;
  Account account;
  lua_State* state = nullptr;  // inside of the arena; never closed, only forgotten
  std::shared_ptr<const Arena::Picture> base;
};

Machine::Machine(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Machine::~Machine() = default;

Result<std::unique_ptr<Machine>> Machine::boot(Vocabulary vocabulary) {
  auto parts = std::make_unique<Parts>();
  parts->vocabulary = vocabulary;
  parts->arena = Arena::reserve();
  if (!parts->arena)
    return Error(Code::kTryAgain, "expected 256 MiB of addresses for the interpreter");
  Account& account = parts->account;
  account.arena = parts->arena.get();
  account.slope = vocabulary == Vocabulary::kPolicy ? 512 : 16384;
  account.begin(kLoadLimits, 0, {});
  parts->state = lua_newstate(allocate, &account);
  if (!parts->state) return Error(Code::kTryAgain, "expected memory for the interpreter");
  lua_State* state = parts->state;
  lua_gc(state, LUA_GCSTOP, 0);
  *static_cast<Account**>(lua_getextraspace(state)) = &account;
  lua_pushcfunction(state, prepare_library);
  lua_pushinteger(state, static_cast<lua_Integer>(vocabulary));
  if (lua_pcall(state, 1, 0, 0) != LUA_OK)
    return Error(Code::kBroken, "expected the library to load");
  account.countdown = find_countdown(state, kStateBytes);
  parts->base = parts->arena->keep();
  return std::unique_ptr<Machine>(new Machine(std::move(parts)));
}

std::shared_ptr<const Machine::Loaded> Machine::load(std::string_view source,
                                                     const std::vector<std::string>& inputs,
                                                     Observed observed) {
  using Outcome = Evaluation::Outcome;
  auto loaded = std::make_shared<Loaded>();
  if (source.size() > kMaxProgramBytes) {
    loaded->refused = stopped(Outcome::kSyntax, "expected a program of at most 262144 bytes");
    return loaded;
  }
  if (has_close_attribute(source)) {
    loaded->refused =
        stopped(Outcome::kLimit, "limit reached: <close> runs code beyond the limits");
    return loaded;
  }
  parts_->arena->restore(*parts_->base);
  std::vector<std::unique_ptr<Facts>> stand_ins;  // their roots are all that is looked at
  std::vector<const Facts*> facts;
  for (const std::string& name : inputs) {
    stand_ins.push_back(std::make_unique<Facts>(name, Json(Json::Object{})));
    facts.push_back(stand_ins.back().get());
  }
  Account& account = parts_->account;
  account.begin(kLoadLimits, 0, facts);
  Loading loading{source, inputs, observed, false};
  meter_library_calls(&account);
  int status = protect(parts_->state, load_program, &loading);
  meter_library_calls(nullptr);
  loaded->gas = account.gas();
  if (account.tripped) {
    loaded->refused = stopped(Outcome::kLimit, std::string("limit reached: ") + account.tripped);
  } else if (status != LUA_OK || !loading.parsed) {
    loaded->refused = stopped(Outcome::kSyntax, error_text(parts_->state));
  } else {
    loaded->picture = parts_->arena->keep();
  }
  return loaded;
}

Evaluation Machine::run(const Loaded& loaded, std::span<const Facts* const> inputs,
                        const Limits& limits, const StepsOf& steps_of, Trace* trace) {
  using Outcome = Evaluation::Outcome;
  if (loaded.refused) return *loaded.refused;
  Evaluation evaluation;
  Account& account = parts_->account;
  lua_State* state = parts_->state;
  try {
    parts_->arena->restore(*loaded.picture);
    account.begin(limits, loaded.gas, inputs);
    account.trace = trace;
    if (account.over()) account.tripped = limit::kGas;
    if (parts_->arena->used() > limits.memory_bytes) account.tripped = limit::kMemory;
    Running running{parts_->vocabulary, steps_of, evaluation};
    meter_library_calls(&account);
    int status = account.tripped ? LUA_OK : protect(state, run_program, &running);
    meter_library_calls(nullptr);
    account.metering = false;
    if (account.armed > 0) account.settle();
    if (!account.tripped && account.over()) account.tripped = limit::kGas;
    if (!account.tripped && status != LUA_OK && status != LUA_ERRRUN)
      account.tripped = limit::kMemory;  // not one of Lua's own errors: the host had no more
    if (!account.tripped && status != LUA_OK) {
      evaluation.outcome = Outcome::kError;
      evaluation.error = error_text(state);
    }
  } catch (const std::exception&) {
    meter_library_calls(nullptr);
    evaluation = stopped(Outcome::kError, "the evaluation failed");
  }
  if (account.tripped) {
    evaluation.outcome = Outcome::kLimit;
    evaluation.value = Json();
    evaluation.error = std::string("limit reached: ") + account.tripped;
  }
  evaluation.gas = std::min(account.gas(), limits.gas == UINT64_MAX ? limits.gas : limits.gas + 1);
  evaluation.read_set = account.read_set();
  account.trace = nullptr;
  return evaluation;
}

Evaluation run_confined(const Program& program, const Limits& limits) {
  auto machine = Machine::boot(program.vocabulary);
  if (!machine) return stopped(Evaluation::Outcome::kError, machine.error().expected());
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Facts>> owned;
  std::vector<const Facts*> facts;
  for (const Input& input : program.inputs) {
    names.push_back(input.name);
    owned.push_back(std::make_unique<Facts>(input.name, *input.value));
    facts.push_back(owned.back().get());
  }
  return (*machine)->run(*(*machine)->load(program.source, names), facts, limits, program.steps_of);
}

Status check_syntax(std::string_view source) {
  auto machine = TRY(Machine::boot(Vocabulary::kPolicy));
  auto loaded = machine->load(source, {});
  if (!loaded->refused || loaded->refused->outcome == Evaluation::Outcome::kLimit) return Done{};
  return Error(Code::kRefused, "expected Lua: " + loaded->refused->error);
}

}  // namespace souk::policy
