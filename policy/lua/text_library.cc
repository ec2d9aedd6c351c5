// string.*: metered, without patterns and without addresses.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxBytesAtOnce = 128;

std::string_view text_argument(lua_State* state, int index) {
  luaL_checktype(state, index, LUA_TSTRING);
  size_t size = 0;
  const char* text = lua_tolstring(state, index, &size);
  return {text, size};
}

// Pays for reading `size` bytes of text.
void charge_bytes(lua_State* state, uint64_t size) {
  charge(state, 1 + size / 16);
}

// Refuses a text longer than the sandbox allows before it is made.
void check_made_size(lua_State* state, uint64_t size) {
  if (size > kMaxSandboxTextBytes)
    refuse(state, limit::kText, "expected a text of at most 16384 bytes");
}

size_t from_position(lua_Integer position, size_t size) {  // 1-based, clipped below
  if (position > 0) return static_cast<size_t>(position);
  if (position == 0 || position < -static_cast<lua_Integer>(size)) return 1;
  return size + static_cast<size_t>(position + 1);
}
size_t to_position(lua_Integer position, size_t size) {  // clipped above
  if (position > static_cast<lua_Integer>(size)) return size;
  if (position >= 0) return static_cast<size_t>(position);
  if (position < -static_cast<lua_Integer>(size)) return 0;
  return size + static_cast<size_t>(position + 1);
}

int text_len(lua_State* state) {
  lua_pushinteger(state, static_cast<lua_Integer>(text_argument(state, 1).size()));
  return 1;
}

int text_sub(lua_State* state) {
  auto text = text_argument(state, 1);
  size_t first = from_position(luaL_checkinteger(state, 2), text.size());
  size_t last = to_position(luaL_optinteger(state, 3, -1), text.size());
  std::string_view part =
      first > last ? std::string_view() : text.substr(first - 1, last - first + 1);
  charge_bytes(state, part.size());
  push_text(state, part);
  return 1;
}

template <class Map>
int mapped(lua_State* state, Map map) {
  auto text = text_argument(state, 1);
  charge_bytes(state, 2 * text.size());
  std::string out(text);
  for (char& c : out) c = map(c);
  push_text(state, out);
  return 1;
}
int text_upper(lua_State* state) {
  return mapped(state,
                [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
}
int text_lower(lua_State* state) {
  return mapped(state,
                [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
}

int text_rep(lua_State* state) {
  auto text = text_argument(state, 1);
  lua_Integer times = luaL_checkinteger(state, 2);
  std::string_view between =
      lua_isnoneornil(state, 3) ? std::string_view() : text_argument(state, 3);
  if (times <= 0) {
    push_text(state, "");
    return 1;
  }
  charge(state, static_cast<uint64_t>(times));
  uint64_t each = text.size() + between.size();
  if (each > 0 && static_cast<uint64_t>(times) > 2 * kMaxSandboxTextBytes)
    check_made_size(state, UINT64_MAX);
  check_made_size(state, each * static_cast<uint64_t>(times) - (each > 0 ? between.size() : 0));
  std::string out;
  for (lua_Integer i = 0; each > 0 && i < times; ++i) {
    if (i > 0) out += between;
    out += text;
  }
  push_text(state, out);
  return 1;
}

int text_byte(lua_State* state) {
  auto text = text_argument(state, 1);
  lua_Integer start = luaL_optinteger(state, 2, 1);
  size_t first = from_position(start, text.size());
  size_t last =
      to_position(luaL_optinteger(state, 3, static_cast<lua_Integer>(first)), text.size());
  if (first > last) return 0;
  if (last - first >= kMaxBytesAtOnce)
    refuse(state, limit::kValues, "string.byte: expected at most 128 bytes");
  charge(state, last - first + 1);
  make_room(state, static_cast<int>(last - first + 1));
  for (size_t i = first; i <= last; ++i) lua_pushinteger(state, static_cast<uint8_t>(text[i - 1]));
  return static_cast<int>(last - first + 1);
}

int text_char(lua_State* state) {
  int count = lua_gettop(state);
  charge(state, static_cast<uint64_t>(count));
  std::string out;
  for (int i = 1; i <= count; ++i) {
    lua_Integer value = luaL_checkinteger(state, i);
    luaL_argcheck(state, value >= 0 && value <= 255, i, "expected 0 to 255");
    out.push_back(static_cast<char>(static_cast<uint8_t>(value)));
  }
  push_text(state, out);
  return 1;
}

int text_find(lua_State* state) {
  auto text = text_argument(state, 1);
  auto wanted = text_argument(state, 2);
  lua_Integer start = luaL_optinteger(state, 3, 1);
  bool plain = lua_toboolean(state, 4) != 0;
  if (!plain && wanted.find_first_of("^$*+?.([%-") != std::string_view::npos) {
    raise(state,
          "string.find: patterns do not exist here; string.find(text, wanted, 1, true) finds the "
          "text itself");
  }
  size_t first = from_position(start, text.size());
  charge_bytes(state, text.size() * (wanted.size() + 16) / 16);  // the worst the search may do
  size_t found = first - 1 > text.size() ? std::string_view::npos : text.find(wanted, first - 1);
  if (found == std::string_view::npos) {
    luaL_pushfail(state);
    return 1;
  }
  lua_pushinteger(state, static_cast<lua_Integer>(found + 1));
  lua_pushinteger(state, static_cast<lua_Integer>(found + wanted.size()));
  return 2;
}

}  // namespace

int no_patterns(lua_State* state) {
  raise(state, "patterns do not exist here; string.find(text, wanted, 1, true) finds a text");
}

namespace {

// One conversion: flags, width <= 99, precision <= 99, letter.
struct Conversion {
  std::string form = "%";
  char letter = 0;
};

Conversion read_conversion(lua_State* state, std::string_view format, size_t& at) {
  Conversion conversion;
  auto take = [&](auto accepts, int most) {
    for (int n = 0; n < most && at < format.size() && accepts(format[at]); ++n)
      conversion.form.push_back(format[at++]);
  };
  auto digit = [](char c) { return c >= '0' && c <= '9'; };
  take([](char c) { return c == '-' || c == '+' || c == ' ' || c == '0' || c == '#'; }, 5);
  take(digit, 2);
  if (at < format.size() && format[at] == '.') {
    conversion.form.push_back(format[at++]);
    take(digit, 2);
  }
  if (at >= format.size()) raise(state, "string.format: expected a conversion after %");
  conversion.letter = format[at++];
  return conversion;
}

// snprintf into `out`; `form` holds at most 5 flags and two-digit numbers.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
template <class Value>
void print_into(std::string& out, const std::string& form, Value value) {
  char buffer[512];
  int size = std::snprintf(buffer, sizeof buffer, form.c_str(), value);
  if (size > 0) out.append(buffer, std::min(static_cast<size_t>(size), sizeof buffer - 1));
}
#pragma GCC diagnostic pop

void convert(lua_State* state, std::string& out, const Conversion& conversion, int argument) {
  switch (conversion.letter) {
    case 'd':
    case 'i':
      print_into(out, conversion.form + "lld",
                 static_cast<long long>(luaL_checkinteger(state, argument)));
      return;
    case 'x':
    case 'X':
    case 'o':
      print_into(out, conversion.form + "ll" + conversion.letter,
                 static_cast<unsigned long long>(luaL_checkinteger(state, argument)));
      return;
    case 'f':
    case 'e':
    case 'g':
      print_into(out, conversion.form + conversion.letter, luaL_checknumber(state, argument));
      return;
    case 's': {
      luaL_checkany(state, argument);
      lua_getglobal(state, "tostring");  // the program's own, as in Lua; never an address
      lua_pushvalue(state, argument);
      lua_call(state, 1, 1);
      auto text = text_argument(state, -1);
      charge_bytes(state, text.size());
      check_made_size(state, out.size() + text.size());
      if (conversion.form == "%") {
        out += text;
      } else if (text.size() < 400) {
        print_into(out, conversion.form + "s", std::string(text).c_str());
      } else {
        raise(state, "string.format: expected a short text for a width");
      }
      lua_pop(state, 1);
      return;
    }
    default:
      raise(state, "string.format: expected one of %d %i %x %X %o %f %e %g %s %%");
  }
}

int text_format(lua_State* state) {
  auto format = text_argument(state, 1);
  charge_bytes(state, 4 * format.size());
  int argument = 1;
  std::string out;
  for (size_t at = 0; at < format.size();) {
    char c = format[at++];
    if (c != '%') {
      out.push_back(c);
      continue;
    }
    if (at < format.size() && format[at] == '%') {
      out.push_back('%');
      ++at;
      continue;
    }
    charge(state, 16);
    convert(state, out, read_conversion(state, format, at), ++argument);
    check_made_size(state, out.size());
  }
  push_text(state, out);
  return 1;
}

}  // namespace

const luaL_Reg kTextFunctions[] = {
    {"len", text_len},       {"sub", text_sub},      {"upper", text_upper},   {"lower", text_lower},
    {"rep", text_rep},       {"byte", text_byte},    {"char", text_char},     {"find", text_find},
    {"format", text_format}, {"match", no_patterns}, {"gmatch", no_patterns}, {"gsub", no_patterns},
    {nullptr, nullptr}};

void install_text_library(lua_State* state) {
  lua_newtable(state);
  luaL_setfuncs(state, kTextFunctions, 0);
  lua_pushliteral(state, "");
  lua_newtable(state);  // no __add and kin: text is not a number here
  lua_pushvalue(state, -3);
  lua_setfield(state, -2, "__index");
  lua_setmetatable(state, -2);
  lua_pop(state, 1);
  publish_read_only(state, "string");
}

}  // namespace souk::policy
