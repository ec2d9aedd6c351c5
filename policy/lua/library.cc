// What a program can call. Everything else of Lua's libraries does not exist here.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "policy/lua/confined.h"

namespace souk::policy {

const std::string_view kPolicyPrelude = R"lua(
local type, tostring, ipairs, pairs, error, concat = type, tostring, ipairs, pairs, error, table.concat

function contains(list, value)
  for _, item in ipairs(list) do
    if item == value then return true end
  end
  return false
end

local function text(value)
  if value == nil then return "" end
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, item in ipairs(value) do parts[i] = tostring(item) end
  return concat(parts, ", ")
end

function rules()
  local found, r = {}, {}
  function r.deny(code, message, path, got, need)
    found[#found + 1] = { code = text(code), message = text(message), path = text(path), got = text(got), need = text(need) }
  end
  function r.require(condition, code, path, got, need, message)
    if type(condition) ~= "boolean" then error("require: expected true or false as the condition", 2) end
    if condition then return true end
    if type(code) == "table" then
      r.deny(code.code, code.message, code.path, code.got, code.need)
    else
      r.deny(code, message, path, got, need)
    end
    return false
  end
  function r.decision(answer)
    local decision = {}
    for name, value in pairs(answer or {}) do decision[name] = value end
    decision.allow = #found == 0 and decision.allow ~= false
    if #found > 0 then decision.reasons = found end
    return decision
  end
  return r
end
)lua";

namespace {

int plain_type(lua_State* state) {
  luaL_checkany(state, 1);
  const char* name = input_at(state, 1) ? "table" : lua_typename(state, lua_type(state, 1));
  push_text(state, name);
  return 1;
}

int plain_tostring(lua_State* state) {
  luaL_checkany(state, 1);
  switch (lua_type(state, 1)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
      lua_pushvalue(state, 1);
      lua_tolstring(state, -1, nullptr);
      return 1;
    case LUA_TBOOLEAN:
      push_text(state, lua_toboolean(state, 1) ? "true" : "false");
      return 1;
    default:
      return plain_type(state);  // never an address
  }
}

int plain_tonumber(lua_State* state) {
  if (lua_isnoneornil(state, 2)) {
    if (lua_type(state, 1) == LUA_TNUMBER) {
      lua_settop(state, 1);
      return 1;
    }
    luaL_checkany(state, 1);
    size_t size = 0;
    const char* text = lua_type(state, 1) == LUA_TSTRING ? lua_tolstring(state, 1, &size) : nullptr;
    charge(state, 16 + size / 4);
    if (text && size <= 200 && lua_stringtonumber(state, text) == size + 1) return 1;
    luaL_pushfail(state);
    return 1;
  }
  lua_Integer base = luaL_checkinteger(state, 2);
  luaL_argcheck(state, base >= 2 && base <= 36, 2, "base out of range");
  luaL_checktype(state, 1, LUA_TSTRING);
  size_t size = 0;
  const char* text = lua_tolstring(state, 1, &size);
  charge(state, size);
  lua_Unsigned value = 0;
  bool any = false, negative = size > 0 && text[0] == '-';
  for (size_t i = negative ? 1 : 0; i < size; ++i) {
    char c = text[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'z' ? c - 'a' + 10
                : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                       : 99;
    if (digit >= base) {
      luaL_pushfail(state);
      return 1;
    }
    value = value * static_cast<lua_Unsigned>(base) + static_cast<lua_Unsigned>(digit);
    any = true;
  }
  if (any) {
    lua_pushinteger(state, static_cast<lua_Integer>(negative ? 0 - value : value));
  } else {
    luaL_pushfail(state);
  }
  return 1;
}

int select_from(lua_State* state) {
  int count = lua_gettop(state);
  charge(state, static_cast<uint64_t>(count));
  if (lua_type(state, 1) == LUA_TSTRING && std::strcmp(lua_tostring(state, 1), "#") == 0) {
    lua_pushinteger(state, count - 1);
    return 1;
  }
  lua_Integer first = luaL_checkinteger(state, 1);
  if (first < 0) {
    first = count + first;
  } else if (first > count) {
    first = count;
  }
  luaL_argcheck(state, first >= 1, 1, "index out of range");
  return count - static_cast<int>(first);
}

int raise_value(lua_State* state) {
  lua_Integer level = luaL_optinteger(state, 2, 1);
  lua_settop(state, 1);
  if (lua_type(state, 1) == LUA_TSTRING && level > 0 && level < 200) {
    luaL_where(state, static_cast<int>(level));
    lua_pushvalue(state, 1);
    lua_concat(state, 2);
  }
  return lua_error(state);
}

int assert_value(lua_State* state) {
  luaL_checkany(state, 1);
  if (lua_toboolean(state, 1)) return lua_gettop(state);
  if (lua_gettop(state) < 2) raise(state, "assertion failed");
  lua_settop(state, 2);
  return lua_error(state);
}

// Catches errors of the program, never the end of its budget.
int protected_call(lua_State* state) {
  luaL_checkany(state, 1);
  charge(state, 8);
  Account& account = account_of(state);
  int status = lua_pcall(state, lua_gettop(state) - 1, LUA_MULTRET, 0);
  if (account.tripped) throw Exhausted{};
  if (account.refused) account.stop(account.refused);
  if (status == LUA_ERRERR) account.stop(limit::kStack);
  if (status != LUA_OK && status != LUA_ERRRUN) account.stop(limit::kMemory);
  if (status != LUA_OK) charge(state, 200);  // an exception of C++
  lua_pushboolean(state, status == LUA_OK ? 1 : 0);
  lua_insert(state, 1);
  return lua_gettop(state);
}

int ipairs_next(lua_State* state) {
  lua_Integer position = luaL_checkinteger(state, 2) + 1;
  lua_pushinteger(state, position);
  return lua_geti(state, 1, position) == LUA_TNIL ? 1 : 2;
}

int in_order(lua_State* state) {
  auto* view = input_at(state, 1);
  if (!(view && node_of(state, *view).list)) luaL_checktype(state, 1, LUA_TTABLE);
  lua_pushcfunction(state, ipairs_next);
  lua_pushvalue(state, 1);
  lua_pushinteger(state, 0);
  return 3;
}

// Upvalues: table, list of keys, position.
int pairs_next(lua_State* state) {
  charge(state, 2);
  while (true) {
    lua_Integer position = lua_tointeger(state, lua_upvalueindex(3)) + 1;
    lua_pushinteger(state, position);
    lua_replace(state, lua_upvalueindex(3));
    if (lua_rawgeti(state, lua_upvalueindex(2), position) == LUA_TNIL) return 1;
    lua_pushvalue(state, -1);
    lua_gettable(state, lua_upvalueindex(1));
    if (!lua_isnil(state, -1)) return 2;
    lua_pop(state, 2);  // removed meanwhile
    charge(state, 2);
  }
}

struct Keys {
  std::vector<lua_Integer> integers;
  std::vector<std::string_view> names;
  std::vector<bool> booleans;
};

// Strings stay where they are: nothing is ever collected.
Keys keys_of(lua_State* state, int index) {
  Keys keys;
  bool strange = false;
  lua_pushnil(state);
  while (lua_next(state, index)) {
    charge(state, 2);
    lua_pop(state, 1);
    if (lua_isinteger(state, -1)) {
      keys.integers.push_back(lua_tointeger(state, -1));
    } else if (lua_type(state, -1) == LUA_TSTRING) {
      size_t size = 0;
      const char* text = lua_tolstring(state, -1, &size);
      charge(state, size / 16);
      keys.names.emplace_back(text, size);
    } else if (lua_type(state, -1) == LUA_TBOOLEAN) {
      keys.booleans.push_back(lua_toboolean(state, -1) != 0);
    } else {
      strange = true;
    }
  }
  // Afterwards, because the order of the loop above differs between processes.
  if (strange) raise(state, "pairs: expected integers, texts or booleans as keys");
  return keys;
}

Keys keys_of(const Facts::Node& node) {
  Keys keys;
  if (node.list) {
    for (uint32_t i = 1; i <= node.count; ++i) keys.integers.push_back(lua_Integer{i});
  } else {
    for (const auto& [name, value] : *node.value->object()) keys.names.emplace_back(name);
  }
  return keys;
}

int set_read_only(lua_State* state) {
  raise(state, "the library is read-only");
}

// --- math -------------------------------------------------------------------

bool integer_argument(lua_State* state, int index) {
  return lua_isinteger(state, index) != 0;
}

int math_floor(lua_State* state) {
  if (integer_argument(state, 1)) {
    lua_settop(state, 1);
    return 1;
  }
  double value = std::floor(luaL_checknumber(state, 1));
  lua_Integer whole = 0;
  if (!lua_numbertointeger(value, &whole))
    raise(state, "math.floor: expected a number that fits 64 bits");
  lua_pushinteger(state, whole);
  return 1;
}

int math_ceil(lua_State* state) {
  if (integer_argument(state, 1)) {
    lua_settop(state, 1);
    return 1;
  }
  double value = std::ceil(luaL_checknumber(state, 1));
  lua_Integer whole = 0;
  if (!lua_numbertointeger(value, &whole))
    raise(state, "math.ceil: expected a number that fits 64 bits");
  lua_pushinteger(state, whole);
  return 1;
}

int math_abs(lua_State* state) {
  if (!integer_argument(state, 1)) {
    lua_pushnumber(state, std::fabs(luaL_checknumber(state, 1)));
    return 1;
  }
  lua_Integer value = lua_tointeger(state, 1);
  if (value == LUA_MININTEGER) raise(state, "math.abs: expected a number that fits 64 bits");
  lua_pushinteger(state, value < 0 ? -value : value);
  return 1;
}

int extreme(lua_State* state, int order) {
  int count = lua_gettop(state);
  luaL_checknumber(state, 1);
  int best = 1;
  for (int i = 2; i <= count; ++i) {
    luaL_checknumber(state, i);
    bool better = order < 0 ? lua_compare(state, i, best, LUA_OPLT) != 0
                            : lua_compare(state, best, i, LUA_OPLT) != 0;
    if (better) best = i;
  }
  charge(state, static_cast<uint64_t>(count));
  lua_pushvalue(state, best);
  return 1;
}
int math_min(lua_State* state) {
  return extreme(state, -1);
}
int math_max(lua_State* state) {
  return extreme(state, 1);
}

int math_tointeger(lua_State* state) {
  int is_integer = 0;
  lua_Integer value = lua_type(state, 1) == LUA_TNUMBER ? lua_tointegerx(state, 1, &is_integer) : 0;
  if (is_integer) {
    lua_pushinteger(state, value);
  } else {
    luaL_pushfail(state);
  }
  return 1;
}

int math_type(lua_State* state) {
  luaL_checkany(state, 1);
  if (lua_type(state, 1) != LUA_TNUMBER) {
    luaL_pushfail(state);
  } else {
    push_text(state, integer_argument(state, 1) ? "integer" : "float");
  }
  return 1;
}

int math_sqrt(lua_State* state) {
  lua_pushnumber(state, std::sqrt(luaL_checknumber(state, 1)));
  return 1;
}
int math_exp(lua_State* state) {
  lua_pushnumber(state, std::exp(luaL_checknumber(state, 1)));
  return 1;
}
int math_log(lua_State* state) {
  lua_pushnumber(state, std::log(luaL_checknumber(state, 1)));
  return 1;
}
int math_cos(lua_State* state) {
  lua_pushnumber(state, std::cos(luaL_checknumber(state, 1)));
  return 1;
}

void set_functions(lua_State* state, const luaL_Reg* functions) {
  for (; functions->name; ++functions) {
    lua_pushcfunction(state, functions->func);
    lua_setfield(state, -2, functions->name);
  }
}

const luaL_Reg kMathFunctions[] = {
    {"floor", math_floor}, {"ceil", math_ceil},           {"abs", math_abs},   {"min", math_min},
    {"max", math_max},     {"tointeger", math_tointeger}, {"type", math_type}, {nullptr, nullptr}};

void install_math(lua_State* state, Vocabulary vocabulary) {
  static const luaL_Reg real_functions[] = {{"sqrt", math_sqrt},
                                            {"exp", math_exp},
                                            {"log", math_log},
                                            {"cos", math_cos},
                                            {nullptr, nullptr}};
  lua_newtable(state);
  set_functions(state, kMathFunctions);
  lua_pushinteger(state, LUA_MAXINTEGER);
  lua_setfield(state, -2, "maxinteger");
  lua_pushinteger(state, LUA_MININTEGER);
  lua_setfield(state, -2, "mininteger");
  if (vocabulary == Vocabulary::kContract) {
    set_functions(state, real_functions);
    lua_pushnumber(state, 3.14159265358979323846);
    lua_setfield(state, -2, "pi");
  }
  publish_read_only(state, "math");
}

}  // namespace

int ordered_pairs(lua_State* state) {
  auto* view = input_at(state, 1);
  if (!view) luaL_checktype(state, 1, LUA_TTABLE);
  lua_settop(state, 1);
  // Which members an object has is asked for as well, though the loop may end before the last.
  if (view) input_length(state, *view);
  Keys keys = view ? keys_of(node_of(state, *view)) : keys_of(state, 1);
  size_t count = keys.integers.size() + keys.names.size() + keys.booleans.size();
  uint64_t levels = 1;
  while ((size_t{1} << levels) < count) ++levels;
  charge(state, count * levels);
  std::sort(keys.integers.begin(), keys.integers.end());
  std::sort(keys.names.begin(), keys.names.end());
  std::sort(keys.booleans.begin(), keys.booleans.end());
  lua_pushvalue(state, 1);
  lua_createtable(state, static_cast<int>(count), 0);
  lua_Integer position = 0;
  for (lua_Integer key : keys.integers) {
    lua_pushinteger(state, key);
    lua_rawseti(state, -2, ++position);
  }
  for (std::string_view key : keys.names) {
    push_text(state, key);
    lua_rawseti(state, -2, ++position);
  }
  for (bool key : keys.booleans) {
    lua_pushboolean(state, key ? 1 : 0);
    lua_rawseti(state, -2, ++position);
  }
  lua_pushinteger(state, 0);
  lua_pushcclosure(state, pairs_next, 3);
  return 1;
}

void publish_read_only(lua_State* state, const char* name) {
  lua_newtable(state);  // what the program holds
  lua_newtable(state);  // its metatable, out of the program's reach
  lua_pushvalue(state, -3);
  lua_setfield(state, -2, "__index");
  lua_pushcfunction(state, set_read_only);
  lua_setfield(state, -2, "__newindex");
  lua_setmetatable(state, -2);
  lua_setglobal(state, name);
  lua_pop(state, 1);
}

namespace {

const luaL_Reg kGlobalFunctions[] = {{"type", plain_type},         {"tostring", plain_tostring},
                                     {"tonumber", plain_tonumber}, {"select", select_from},
                                     {"error", raise_value},       {"assert", assert_value},
                                     {"pcall", protected_call},    {"ipairs", in_order},
                                     {"pairs", ordered_pairs},     {nullptr, nullptr}};

std::set<std::string> names_of(const luaL_Reg* functions) {
  std::set<std::string> out;
  for (; functions->name; ++functions) {
    if (functions->func != no_patterns) out.insert(functions->name);
  }
  return out;
}

}  // namespace

const std::map<std::string, std::set<std::string>>& library_members() {
  static const std::map<std::string, std::set<std::string>> kMembers = [] {
    std::map<std::string, std::set<std::string>> out{{"math", names_of(kMathFunctions)},
                                                     {"string", names_of(kTextFunctions)},
                                                     {"table", names_of(kTableFunctions)}};
    out["math"].insert({"maxinteger", "mininteger"});
    return out;
  }();
  return kMembers;
}

const std::set<std::string>& global_names() {
  static const std::set<std::string> kNames = [] {
    std::set<std::string> out = names_of(kGlobalFunctions);
    out.insert({"contains", "rules"});  // of the prelude
    for (const auto& [library, members] : library_members()) out.insert(library);
    return out;
  }();
  return kNames;
}

void install_library(lua_State* state, Vocabulary vocabulary) {
  lua_pushglobaltable(state);
  set_functions(state, kGlobalFunctions);
  lua_pop(state, 1);
  install_math(state, vocabulary);
  install_text_library(state);
  install_table_library(state);
}

}  // namespace souk::policy
