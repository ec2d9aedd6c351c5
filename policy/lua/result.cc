// The value a program returns, read without running any of its code.
#include <algorithm>
#include <cmath>

#include "policy/lua/confined.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

Error wrong(const std::string& path, const std::string& expected) {
  return Error(Code::kMalformed, (path.empty() ? "result" : path) + ": expected " + expected);
}

std::string member(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

bool is_plain_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (char c : name) {
    if (c < 0x20 || c > 0x7e) return false;
  }
  return true;
}

}  // namespace

Status ResultReader::spend(uint64_t count, const std::string& path) {
  bytes += count;
  if (bytes > account_of(state).limits().output_bytes) {
    return Error(Code::kExhausted,
                 (path.empty() ? "result" : path) + ": expected a smaller result");
  }
  return Done{};
}

Result<Json> ResultReader::read(int index, int depth, const std::string& path) {
  TRY(spend(8, path));
  switch (lua_type(state, index)) {
    case LUA_TBOOLEAN:
      return Json(lua_toboolean(state, index) != 0);
    case LUA_TNUMBER:
      return read_number(index, path);
    case LUA_TSTRING: {
      size_t size = 0;
      const char* text = lua_tolstring(state, index, &size);
      TRY(spend(size, path));
      std::string copy(text, size);
      if (!is_utf8(copy)) return wrong(path, "UTF-8");
      return Json(std::move(copy));
    }
    case LUA_TTABLE:
      return read_table(index, depth, path);
    case LUA_TFUNCTION:
      if (vocabulary == Vocabulary::kContract &&
          (path == "train.learning_rate" || path == "train.optimizer.lr"))
        return Json("function");
      return wrong(path, "a plain value, not a function (are its parentheses missing?)");
    case LUA_TUSERDATA:
      return wrong(path, "a plain value, not a part of the input");
    case LUA_TNIL:
      return wrong(path, "a value");
    default:
      return wrong(path, "a plain value");
  }
}

Result<Json> ResultReader::read_number(int index, const std::string& path) {
  if (lua_isinteger(state, index)) {
    lua_Integer value = lua_tointeger(state, index);
    if (value > kMaxJsonInteger || value < -kMaxJsonInteger)
      return wrong(path, "a number below 2^53 in size");
    return Json(int64_t{value});
  }
  if (vocabulary == Vocabulary::kPolicy)
    return wrong(path, "a whole number (// divides whole numbers)");
  double value = lua_tonumber(state, index);
  if (!std::isfinite(value)) return wrong(path, "a finite number");
  return Json(real_text(value));
}

// In the order of their bytes: the interpreter's own order differs between
// processes, and must not choose which mistake is reported.
Result<std::vector<std::string_view>> ResultReader::names_of(int index, size_t length,
                                                             const std::string& path) {
  std::vector<std::string_view> names;
  bool gaps = false, strange = false;
  uint64_t keys = 0;
  lua_pushnil(state);
  while (lua_next(state, index)) {
    lua_pop(state, 1);
    ++keys;
    if (lua_isinteger(state, -1)) {
      lua_Integer key = lua_tointeger(state, -1);
      gaps = gaps || key < 1 || static_cast<uint64_t>(key) > length;
    } else if (lua_type(state, -1) == LUA_TSTRING) {
      size_t size = 0;
      const char* text =
          lua_tolstring(state, -1, &size);  // already a string: not converted in place
      names.emplace_back(text, size);
    } else {
      strange = true;
    }
  }
  TRY(spend(8 * keys, path));
  if (strange) return wrong(path, "names or list positions as keys");
  if (gaps) return wrong(path, "list positions from 1 without gaps");
  for (std::string_view name : names) {
    if (!is_plain_name(name)) return wrong(path, "plain names of at most 64 characters as keys");
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<Json> ResultReader::read_table(int index, int depth, const std::string& path) {
  if (depth >= kMaxResultDepth) return wrong(path, "at most 8 levels of tables");
  if (lua_getmetatable(state, index)) {
    lua_pop(state, 1);
    return wrong(path, "a plain table, without a metatable");
  }
  if (!lua_checkstack(state, 8)) return wrong(path, "a smaller result");
  index = lua_absindex(state, index);
  size_t length = lua_rawlen(state, index);
  Json::Array items;
  Json::Object members;
  for (size_t i = 1; i <= length; ++i) {
    lua_rawgeti(state, index, static_cast<lua_Integer>(i));
    auto item = read(-1, depth + 1, path + "[" + std::to_string(i) + "]");
    lua_pop(state, 1);
    if (!item) return std::move(item).take_error();
    items.push_back(std::move(*item));
  }
  std::vector<std::string_view> names = TRY(names_of(index, length, path));
  for (std::string_view name : names) {
    TRY(spend(8 + name.size(), path));
    push_text(state, name);
    lua_rawget(state, index);
    auto value = read(-1, depth + 1, member(path, std::string(name)));
    lua_pop(state, 1);
    if (!value) return std::move(value).take_error();
    members.emplace(std::string(name), std::move(*value));
  }
  if (!items.empty() && !members.empty()) {
    if (vocabulary == Vocabulary::kPolicy) return wrong(path, "either a list or named members");
    members.emplace("list", Json(std::move(items)));  // add{"a", "b"; name = "sum"}
    return Json(std::move(members));
  }
  if (!members.empty()) return Json(std::move(members));
  return Json(std::move(items));  // the empty table is the empty list
}

}  // namespace souk::policy
