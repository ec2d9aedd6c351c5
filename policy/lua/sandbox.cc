#include "policy/lua/sandbox.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <new>

#include "policy/lua/confined.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxProgramBytes = 256 << 10;
constexpr uint64_t kBytesPerGas = 16;
constexpr uint64_t kRegrownTimes = 8;       // times the memory cap
constexpr int kFreeStackSlots = 250;        // a Lua function's registers; more on the stack is a long argument list

// Lua asks with `old` = kind of object when `block` is null, else its old size.
void* allocate(void* context, void* block, size_t old, size_t wanted) {
  auto& account = *static_cast<Confined*>(context);
  size_t had = block ? old : 0;
  if (wanted == 0) {
    std::free(block);
    account.live_bytes -= had;
    return nullptr;
  }
  if (wanted > had) {
    bool object = !block && old != 0;
    if (object && account.metering) account.gas += wanted / kBytesPerGas + 1;
    if (!object) account.regrown_bytes += wanted;
    if (object && old == LUA_TSTRING && wanted > kMaxSandboxTextBytes + 64) account.trip("text of more than 16384 bytes");
    if (account.live_bytes + (wanted - had) > account.limits.memory_bytes ||
        account.regrown_bytes > kRegrownTimes * account.limits.memory_bytes) {
      account.trip("memory");
    }
    if (account.metering && account.gas > account.limits.gas) account.trip("gas");
    if (account.tripped) return nullptr;
  }
  void* moved = std::realloc(block, wanted);
  if (!moved) {
    if (wanted <= had) return block;
    account.trip("memory");
    return nullptr;
  }
  account.live_bytes = account.live_bytes - had + wanted;
  return moved;
}

// Runs before every instruction. An instruction that consumes an open argument
// list leaves it visible on the stack here, so that its length is paid.
void count(lua_State* state, lua_Debug*) {
  auto& account = confined(state);
  int top = lua_gettop(state);
  account.gas += 1 + (top > kFreeStackSlots ? static_cast<uint64_t>(top - kFreeStackSlots) : 0);
  if (account.gas > account.limits.gas) account.trip("gas");
  stop_if_tripped(state);
}

const char kFatalKey = 0;

struct Run {
  const Program& program;
  Evaluation& evaluation;
};

int load_text(lua_State* state, std::string_view text, const char* name) {
  return luaL_loadbufferx(state, text.data(), text.size(), name, "t");
}

// A to-be-closed variable may run code after a limit was reached, so a program
// with one is over its limit before it starts.
bool has_close_attribute(std::string_view source) {
  auto skip_space = [&](size_t at) {
    while (at < source.size() && (source[at] == ' ' || (source[at] >= '\t' && source[at] <= '\r'))) ++at;
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
  std::string line = one_line(text ? std::string_view(text, size) : std::string_view(), kMaxErrorBytes);
  return line.empty() ? "the program raised an error without a text" : line;
}

// Replaces "function" at train.learning_rate by run lengths of its values.
void expand_schedule(lua_State* state, int table, const Run& run, Json& value) {
  auto steps = run.program.steps_of(value);
  if (!steps) raise(state, steps.error().expected());
  lua_pushliteral(state, "train");
  lua_rawget(state, table);
  lua_pushliteral(state, "learning_rate");
  lua_rawget(state, -2);
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
    lua_call(state, 1, 1);
    if (lua_type(state, -1) != LUA_TNUMBER) raise(state, "train.learning_rate: expected a number for step " + std::to_string(step));
    double rate = lua_tonumber(state, -1);
    lua_pop(state, 1);
    if (!(rate >= 0 && rate <= 1e6)) raise(state, "train.learning_rate: expected 0 to 1000000 at step " + std::to_string(step));
    if (length > 0 && rate == last) {
      ++length;
      continue;
    }
    flush();
    if (runs.size() >= 65536) raise(state, "train.learning_rate: expected at most 65536 different runs");
    last = rate;
    length = 1;
  }
  flush();
  lua_pop(state, 2);
  (*(*value.object())["train"].object())["learning_rate"] = std::move(runs);
}

bool schedule_is_function(const Json& value) {
  const Json* train = value.find("train");
  const Json* rate = train ? train->find("learning_rate") : nullptr;
  return rate && rate->string() && *rate->string() == "function";
}

void prepare(lua_State* state, const Program& program) {
  lua_pushliteral(state, "the limit of this program is reached");
  lua_rawsetp(state, LUA_REGISTRYINDEX, &kFatalKey);
  install_inputs(state);
  install_library(state, program.vocabulary);
  auto prelude = program.vocabulary == Vocabulary::kPolicy ? kPolicyPrelude : kContractPrelude;
  CHECK(load_text(state, prelude, "=library") == LUA_OK);
  lua_call(state, 0, 0);
  for (const Input& input : program.inputs) {
    push_input(state, *input.value, input.name);
    lua_setglobal(state, input.name.c_str());
  }
}

int protected_run(lua_State* state) {
  const Run& run = *static_cast<Run*>(lua_touserdata(state, 1));
  auto& account = confined(state);
  lua_settop(state, 0);
  prepare(state, run.program);
  account.metering = true;
  int status = load_text(state, run.program.source, "=line");
  if (status == LUA_ERRSYNTAX) {
    run.evaluation.outcome = Evaluation::Outcome::kSyntax;
    run.evaluation.error = error_text(state);
    return 0;
  }
  if (status != LUA_OK) return lua_error(state);
  lua_sethook(state, count, LUA_MASKCOUNT, 1);
  lua_call(state, 0, 1);
  if (run.program.vocabulary == Vocabulary::kPolicy && lua_type(state, 1) == LUA_TFUNCTION) {
    for (const Input& input : run.program.inputs) push_input(state, *input.value, input.name);
    lua_call(state, static_cast<int>(run.program.inputs.size()), 1);
  }
  ResultReader reader{state, run.program.vocabulary};
  auto value = reader.read(1, 0, "");
  if (!value) {
    if (value.error().code() == Code::kExhausted) account.trip("output");
    stop_if_tripped(state);
    raise(state, value.error().expected());
  }
  if (run.program.steps_of && schedule_is_function(*value)) expand_schedule(state, 1, run, *value);
  run.evaluation.value = std::move(*value);
  run.evaluation.outcome = Evaluation::Outcome::kValue;
  return 0;
}

struct Close {
  void operator()(lua_State* state) const { lua_close(state); }
};

void run_in(lua_State* state, Confined& account, const Program& program, Evaluation& evaluation) {
  lua_gc(state, LUA_GCSTOP, 0);
  *static_cast<Confined**>(lua_getextraspace(state)) = &account;
  Run run{program, evaluation};
  lua_pushcfunction(state, protected_run);
  lua_pushlightuserdata(state, &run);
  int status = lua_pcall(state, 1, 0, 0);
  lua_sethook(state, nullptr, 0, 0);
  evaluation.gas = account.gas;
  evaluation.read_set = std::move(account.read_set);
  if (account.tripped) {
    evaluation.outcome = Evaluation::Outcome::kLimit;
    evaluation.error = std::string("limit reached: ") + account.tripped;
    return;
  }
  if (status != LUA_OK) {
    evaluation.outcome = Evaluation::Outcome::kError;
    evaluation.error = error_text(state);
  }
}

Evaluation stopped(Evaluation::Outcome outcome, std::string text) {
  Evaluation evaluation;
  evaluation.outcome = outcome;
  evaluation.error = std::move(text);
  return evaluation;
}

}  // namespace

void stop_if_tripped(lua_State* state) {
  if (!confined(state).tripped) return;
  lua_rawgetp(state, LUA_REGISTRYINDEX, &kFatalKey);
  lua_error(state);
}

void charge(lua_State* state, uint64_t work) {
  auto& account = confined(state);
  if (account.metering) {
    account.gas = work > UINT64_MAX - account.gas ? UINT64_MAX : account.gas + work;
    if (account.gas > account.limits.gas) account.trip("gas");
  }
  stop_if_tripped(state);
}

void push_text(lua_State* state, std::string_view text) { lua_pushlstring(state, text.data(), text.size()); }

void raise(lua_State* state, const std::string& message) {
  luaL_where(state, 1);
  push_text(state, message);
  lua_concat(state, 2);
  lua_error(state);
  std::abort();  // lua_error does not return
}

Evaluation run_confined(const Program& program, const Limits& limits) {
  if (program.source.size() > kMaxProgramBytes) {
    return stopped(Evaluation::Outcome::kSyntax, "expected a program of at most 262144 bytes");
  }
  if (has_close_attribute(program.source)) {
    return stopped(Evaluation::Outcome::kLimit, "limit reached: <close> runs code beyond the limits");
  }
  Evaluation evaluation;
  Confined account(limits);
  try {
    std::unique_ptr<lua_State, Close> state(lua_newstate(allocate, &account));
    if (!state) return stopped(Evaluation::Outcome::kLimit, "limit reached: memory");
    run_in(state.get(), account, program, evaluation);
  } catch (const std::exception&) {
    return stopped(Evaluation::Outcome::kError, "the evaluation failed");
  }
  if (evaluation.gas > limits.gas) evaluation.gas = limits.gas + 1;
  return evaluation;
}

Status check_syntax(std::string_view source) {
  Confined account{Limits{}};
  std::unique_ptr<lua_State, Close> state(lua_newstate(allocate, &account));
  if (!state) return Error(Code::kTryAgain, "expected memory for the parser");
  lua_gc(state.get(), LUA_GCSTOP, 0);
  *static_cast<Confined**>(lua_getextraspace(state.get())) = &account;
  int status = load_text(state.get(), source, "=line");
  if (status == LUA_OK) return Done{};
  return Error(Code::kRefused, "expected Lua: " + (account.tripped ? std::string("less than 32 MiB to parse") : error_text(state.get())));
}

}  // namespace souk::policy
