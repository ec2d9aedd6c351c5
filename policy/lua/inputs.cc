// Read-only views of C++ values, which note what is read.
#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

// The metamethods are out of a program's reach, so the first argument is a view.
View self(lua_State* state) {
  return *static_cast<const View*>(lua_touserdata(state, 1));
}

std::string path_of(lua_State* state, View view) {
  return account_of(state).facts[view.facts]->path(view.node);
}

int index_object(lua_State* state, View view, const Facts::Node& node) {
  if (lua_type(state, 2) != LUA_TSTRING)
    raise(state, path_of(state, view) + ": expected a member's name");
  size_t size = 0;
  const char* text = lua_tolstring(state, 2, &size);
  std::string_view name(text, size);
  uint32_t member = account_of(state).facts[view.facts]->member(node, name);
  if (member == UINT32_MAX) {
    account_of(state).note_absent(view.facts, view.node, name);
    raise(state,
          path_of(state, view) + " has no member \"" + std::string(name.substr(0, 64)) + "\"");
  }
  push_input(state, View{view.facts, member});
  return 1;
}

int index_list(lua_State* state, View view, const Facts::Node& node) {
  if (!lua_isinteger(state, 2))
    raise(state, path_of(state, view) + ": expected a position in the list");
  lua_Integer position = lua_tointeger(state, 2);
  if (position < 1 || position > input_length(state, view)) {
    lua_pushnil(state);
    return 1;
  }
  push_input(state, View{view.facts, node.first + static_cast<uint32_t>(position) - 1});
  return 1;
}

int index_input(lua_State* state) {
  View view = self(state);
  const Facts::Node& node = node_of(state, view);
  charge(state, 4 + node.count / 16);
  return node.object ? index_object(state, view, node) : index_list(state, view, node);
}

int assign_input(lua_State* state) {
  raise(state, path_of(state, self(state)) + " is read-only");
}

int length_of_input(lua_State* state) {
  charge(state, 2);
  View view = self(state);
  if (!node_of(state, view).list) raise(state, path_of(state, view) + ": expected a list");
  lua_pushinteger(state, input_length(state, view));
  return 1;
}

}  // namespace

void install_inputs(lua_State* state) {
  lua_createtable(state, 24, 0);
  lua_rawseti(state, LUA_REGISTRYINDEX, kViewsSlot);
  lua_newtable(state);
  lua_pushcfunction(state, index_input);
  lua_setfield(state, -2, "__index");
  lua_pushcfunction(state, assign_input);
  lua_setfield(state, -2, "__newindex");
  lua_pushcfunction(state, length_of_input);
  lua_setfield(state, -2, "__len");
  lua_rawseti(state, LUA_REGISTRYINDEX, kViewMetatableSlot);
}

const Facts::Node& node_of(lua_State* state, View view) {
  return account_of(state).facts[view.facts]->nodes()[view.node];
}

void push_input(lua_State* state, View view) {
  Account& account = account_of(state);
  const Facts::Node& node = account.facts[view.facts]->nodes()[view.node];
  if (node.object || node.list) {  // each has one view, so == works
    // The roots are always there, and an item is where the length of its list says.
    if (view.node != 0 && node.place == 0)
      account.note_read(view.facts, view.node, Account::Asked::kBlock);
    // The roots come first: they are made before anyone knows how many views there will be.
    auto slot = node.view == 0
                    ? lua_Integer{view.facts} + 1
                    : static_cast<lua_Integer>(account.facts.size() +
                                               account.first_view[view.facts] + node.view);
    lua_rawgeti(state, LUA_REGISTRYINDEX, kViewsSlot);
    if (lua_rawgeti(state, -1, slot) == LUA_TNIL) {
      lua_pop(state, 1);
      *static_cast<View*>(lua_newuserdatauv(state, sizeof(View), 0)) = view;
      lua_rawgeti(state, LUA_REGISTRYINDEX, kViewMetatableSlot);
      lua_setmetatable(state, -2);
      lua_pushvalue(state, -1);
      lua_rawseti(state, -3, slot);
    }
    lua_remove(state, -2);
    return;
  }
  account.note_read(view.facts, view.node, Account::Asked::kValue);
  if (auto* integer = node.value->integer()) {
    lua_pushinteger(state, *integer);
  } else if (auto* text = node.value->string()) {
    charge(state, text->size() / 16);
    push_text(state, *text);
  } else if (auto* boolean = node.value->boolean()) {
    lua_pushboolean(state, *boolean ? 1 : 0);
  } else {
    lua_pushnil(state);
  }
}

const View* input_at(lua_State* state, int index) {
  if (lua_type(state, index) != LUA_TUSERDATA) return nullptr;  // there are no others
  return static_cast<const View*>(lua_touserdata(state, index));
}

int64_t input_length(lua_State* state, View view) {
  account_of(state).note_read(view.facts, view.node, Account::Asked::kLength);
  return node_of(state, view).count;
}

}  // namespace souk::policy
