// Read-only views of C++ values, which note what is read.
#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

const char kMetatableKey = 0;

const Confined::InputNode& self(lua_State* state) {
  auto* node = input_at(state, 1);
  if (!node) raise(state, "expected an input");
  return *node;
}

int index_object(lua_State* state, const Confined::InputNode& node) {
  if (lua_type(state, 2) != LUA_TSTRING) raise(state, node.path + ": expected a member's name");
  size_t size = 0;
  const char* text = lua_tolstring(state, 2, &size);
  std::string name(text, size);
  const Json* member = node.value->find(name);
  if (!member) raise(state, node.path + " has no member \"" + name.substr(0, 64) + "\"");
  push_input(state, *member, node.path + "." + name);
  return 1;
}

int index_array(lua_State* state, const Confined::InputNode& node) {
  if (!lua_isinteger(state, 2)) raise(state, node.path + ": expected a position in the list");
  lua_Integer position = lua_tointeger(state, 2);
  if (position < 1 || position > input_length(state, node)) {
    lua_pushnil(state);
    return 1;
  }
  const Json& item = (*node.value->array())[static_cast<size_t>(position - 1)];
  push_input(state, item, node.path + "[" + std::to_string(position) + "]");
  return 1;
}

int index_input(lua_State* state) {
  charge(state, 4);
  const auto& node = self(state);
  return node.value->object() ? index_object(state, node) : index_array(state, node);
}

int assign_input(lua_State* state) { raise(state, self(state).path + " is read-only"); }

int length_of_input(lua_State* state) {
  charge(state, 2);
  const auto& node = self(state);
  if (!node.value->array()) raise(state, node.path + ": expected a list");
  lua_pushinteger(state, input_length(state, node));
  return 1;
}

}  // namespace

void install_inputs(lua_State* state) {
  lua_newtable(state);
  lua_pushcfunction(state, index_input);
  lua_setfield(state, -2, "__index");
  lua_pushcfunction(state, assign_input);
  lua_setfield(state, -2, "__newindex");
  lua_pushcfunction(state, length_of_input);
  lua_setfield(state, -2, "__len");
  lua_rawsetp(state, LUA_REGISTRYINDEX, &kMetatableKey);
}

void push_input(lua_State* state, const Json& value, std::string path) {
  auto& account = confined(state);
  if (auto* text = value.string()) {
    account.note_read(std::move(path));
    charge(state, text->size() / 16);
    push_text(state, *text);
  } else if (auto* integer = value.integer()) {
    account.note_read(std::move(path));
    lua_pushinteger(state, *integer);
  } else if (auto* boolean = value.boolean()) {
    account.note_read(std::move(path));
    lua_pushboolean(state, *boolean ? 1 : 0);
  } else if (value.is_null()) {
    account.note_read(std::move(path));
    lua_pushnil(state);
  } else if (lua_rawgetp(state, LUA_REGISTRYINDEX, &value) == LUA_TNIL) {  // each input has one view, so == works
    lua_pop(state, 1);
    account.inputs.push_back({&value, std::move(path)});
    auto** slot = static_cast<const Confined::InputNode**>(lua_newuserdatauv(state, sizeof(void*), 0));
    *slot = &account.inputs.back();
    lua_rawgetp(state, LUA_REGISTRYINDEX, &kMetatableKey);
    lua_setmetatable(state, -2);
    lua_pushvalue(state, -1);
    lua_rawsetp(state, LUA_REGISTRYINDEX, &value);
  }
}

const Confined::InputNode* input_at(lua_State* state, int index) {
  if (lua_type(state, index) != LUA_TUSERDATA || !lua_getmetatable(state, index)) return nullptr;
  lua_rawgetp(state, LUA_REGISTRYINDEX, &kMetatableKey);
  bool ours = lua_rawequal(state, -1, -2) != 0;
  lua_pop(state, 2);
  return ours ? *static_cast<const Confined::InputNode**>(lua_touserdata(state, index)) : nullptr;
}

int64_t input_length(lua_State* state, const Confined::InputNode& node) {
  confined(state).note_read("#" + node.path);
  return static_cast<int64_t>(node.value->array()->size());
}

}  // namespace souk::policy
