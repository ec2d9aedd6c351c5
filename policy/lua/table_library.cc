// table.*: metered, on plain tables only (raw lengths, no metatables).
#include <algorithm>
#include <string>
#include <vector>

#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

constexpr lua_Integer kMaxUnpacked = 250;
constexpr lua_Integer kMaxSorted = 65536;

// Raw length of a plain table at index 1.
lua_Integer plain_table(lua_State* state) {
  luaL_checktype(state, 1, LUA_TTABLE);
  if (lua_getmetatable(state, 1)) raise(state, "expected a plain table");
  return static_cast<lua_Integer>(lua_rawlen(state, 1));
}

// The length of a plain table or an input list at index 1.
lua_Integer readable_list(lua_State* state) {
  auto* view = input_at(state, 1);
  if (view && node_of(state, *view).list) return input_length(state, *view);
  return plain_table(state);
}

int table_insert(lua_State* state) {
  lua_Integer length = plain_table(state);
  lua_Integer position = length + 1;
  if (lua_gettop(state) == 3) {
    position = luaL_checkinteger(state, 2);
    luaL_argcheck(state, position >= 1 && position <= length + 1, 2, "position out of bounds");
  } else if (lua_gettop(state) != 2) {
    raise(state, "table.insert: expected a table, maybe a position, and a value");
  }
  charge(state, 1 + static_cast<uint64_t>(length - position + 1));
  for (lua_Integer i = length; i >= position; --i) {
    lua_rawgeti(state, 1, i);
    lua_rawseti(state, 1, i + 1);
  }
  lua_rawseti(state, 1, position);
  return 0;
}

int table_remove(lua_State* state) {
  lua_Integer length = plain_table(state);
  lua_Integer position = luaL_optinteger(state, 2, length);
  if (lua_gettop(state) >= 2) {
    luaL_argcheck(state, position >= 1 && position <= length + 1, 2, "position out of bounds");
  }
  lua_rawgeti(state, 1, position);
  if (position > length) return 1;
  if (position < 1) return 1;
  charge(state, 1 + static_cast<uint64_t>(length - position));
  for (lua_Integer i = position; i < length; ++i) {
    lua_rawgeti(state, 1, i + 1);
    lua_rawseti(state, 1, i);
  }
  lua_pushnil(state);
  lua_rawseti(state, 1, length);
  return 1;
}

int table_concat(lua_State* state) {
  lua_Integer length = readable_list(state);
  std::string between;
  if (!lua_isnoneornil(state, 2)) {
    luaL_checktype(state, 2, LUA_TSTRING);
    between = lua_tostring(state, 2);
  }
  lua_Integer first = luaL_optinteger(state, 3, 1);
  lua_Integer last = luaL_optinteger(state, 4, length);
  luaL_argcheck(state, first >= 1, 3, "expected at least 1");
  std::string out;
  for (lua_Integer i = first; i <= last && i <= length; ++i) {
    lua_geti(state, 1, i);
    if (lua_type(state, -1) != LUA_TSTRING && lua_type(state, -1) != LUA_TNUMBER) {
      raise(state, "table.concat: expected texts or numbers, position " + std::to_string(i) +
                       " is neither");
    }
    size_t size = 0;
    const char* text = lua_tolstring(state, -1, &size);
    charge(state, 2 + (size + between.size()) / 16);
    if (i > first) out += between;
    out.append(text, size);
    if (out.size() > kMaxSandboxTextBytes)
      refuse(state, limit::kText, "table.concat: expected a text of at most 16384 bytes");
    lua_pop(state, 1);
  }
  push_text(state, out);
  return 1;
}

int table_unpack(lua_State* state) {
  lua_Integer length = readable_list(state);
  lua_Integer first = luaL_optinteger(state, 2, 1);
  lua_Integer last = luaL_optinteger(state, 3, length);
  if (first > last) return 0;
  luaL_argcheck(state, first >= 1, 2, "expected at least 1");
  if (last - first >= kMaxUnpacked)
    refuse(state, limit::kValues, "table.unpack: expected at most 250 values");
  int count = static_cast<int>(last - first) + 1;
  charge(state, static_cast<uint64_t>(count));
  make_room(state, count + 4);
  for (lua_Integer i = first; i <= last; ++i) lua_geti(state, 1, i);
  return count;
}

// true when the element at position a of the copy (index 3) must stand before b.
bool before(lua_State* state, lua_Integer a, lua_Integer b) {
  charge(state, 4);
  bool own_order = !lua_isnoneornil(state, 2);
  if (own_order) lua_pushvalue(state, 2);
  lua_rawgeti(state, 3, a);
  lua_rawgeti(state, 3, b);
  bool result = false;
  if (own_order) {
    lua_call(state, 2, 1);
    result = lua_toboolean(state, -1) != 0;
    lua_pop(state, 1);
  } else {
    int kind = lua_type(state, -1);
    if (kind != lua_type(state, -2) || (kind != LUA_TNUMBER && kind != LUA_TSTRING)) {
      raise(state, "table.sort: expected all numbers or all texts");
    }
    result = lua_compare(state, -2, -1, LUA_OPLT) != 0;
    lua_pop(state, 2);
  }
  return result;
}

// Merge sort: stable, and at ease with an order that contradicts itself.
int table_sort(lua_State* state) {
  lua_Integer length = plain_table(state);
  if (!lua_isnoneornil(state, 2)) luaL_checktype(state, 2, LUA_TFUNCTION);
  if (length > kMaxSorted)
    refuse(state, limit::kValues, "table.sort: expected at most 65536 values");
  lua_settop(state, 2);
  charge(state, 2 * static_cast<uint64_t>(length));
  lua_createtable(state, static_cast<int>(length), 0);
  std::vector<lua_Integer> order, merged;
  for (lua_Integer i = 1; i <= length; ++i) {
    lua_rawgeti(state, 1, i);
    lua_rawseti(state, 3, i);
    order.push_back(i);
  }
  merged.resize(order.size());
  size_t size = order.size();
  for (size_t width = 1; width < size; width *= 2) {
    for (size_t start = 0; start < size; start += 2 * width) {
      size_t left = start, middle = std::min(start + width, size), right = middle,
             end = std::min(start + 2 * width, size);
      for (size_t out = start; out < end; ++out) {
        bool take_right =
            left >= middle || (right < end && before(state, order[right], order[left]));
        merged[out] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(merged);
  }
  for (size_t i = 0; i < size; ++i) {
    lua_rawgeti(state, 3, order[i]);
    lua_rawseti(state, 1, static_cast<lua_Integer>(i) + 1);
  }
  return 0;
}

}  // namespace

const luaL_Reg kTableFunctions[] = {{"insert", table_insert}, {"remove", table_remove},
                                    {"concat", table_concat}, {"unpack", table_unpack},
                                    {"sort", table_sort},     {nullptr, nullptr}};

void install_table_library(lua_State* state) {
  lua_newtable(state);
  luaL_setfuncs(state, kTableFunctions, 0);
  publish_read_only(state, "table");
}

}  // namespace souk::policy
