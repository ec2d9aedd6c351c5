#include "policy/decide/source.h"

#include <cstdio>
#include <string>

#include "policy/lua/sandbox.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

struct Range {
  uint32_t first, last;
  const char* what;
};

// Characters that change the direction of the text, cannot be seen, or look like
// ASCII. Unicode Standard Annex 9 (bidi), Unicode TR 39 (confusables), by block.
constexpr Range kRefused[] = {
    {0x202a, 0x202e, "a direction control"},
    {0x2066, 0x2069, "a direction control"},
    {0x200e, 0x200f, "a direction mark"},
    {0x061c, 0x061c, "a direction mark"},
    {0x2010, 0x2015, "a dash that is not -"},
    {0x2018, 0x201f, "a quotation mark that is not ' or \""},
    {0x2039, 0x203a, "a quotation mark that looks like < or >"},
    {0x2044, 0x2044, "a slash that is not /"},
    {0x2160, 0x2188, "a letter that looks like another"},
    {0x2100, 0x214f, "a letter that looks like another"},
    {0x2212, 0x2216, "a sign that looks like an operator"},
    {0x2223, 0x2223, "a sign that looks like an operator"},
    {0x223c, 0x223c, "a sign that looks like an operator"},
    {0x2236, 0x2236, "a sign that looks like a colon"},
    {0x0250, 0x036f, "a letter or mark that looks like another"},
    {0x0370, 0x03ff, "a Greek letter, which may look like a Latin one"},
    {0x0400, 0x052f, "a Cyrillic letter, which may look like a Latin one"},
    {0x0530, 0x058f, "an Armenian letter, which may look like a Latin one"},
    {0x13a0, 0x13ff, "a Cherokee letter, which may look like a Latin one"},
    {0x1d00, 0x1dff, "a letter that looks like another"},
    {0x1ab0, 0x1aff, "a mark that changes the letter before it"},
    {0x20d0, 0x20ff, "a mark that changes the letter before it"},
    {0xa640, 0xa69f, "a Cyrillic letter, which may look like a Latin one"},
    {0xa700, 0xa7ff, "a letter that looks like another"},
    {0xab30, 0xabbf, "a letter that looks like another"},
    {0xfe20, 0xfe6f, "a mark or form that looks like another character"},
    {0xff00, 0xffef, "a full-width form that looks like another character"},
    {0x1d400, 0x1d7ff, "a mathematical letter that looks like another"},
    {0xe000, 0xf8ff, "a private character"},
    {0xf0000, 0x10ffff, "a private character"},
};

const char* refusal_of(uint32_t point) {
  for (const Range& range : kRefused) {
    if (point >= range.first && point <= range.last) return range.what;
  }
  if (point == '\n' || point == '\t') return nullptr;
  if (point < 0x20 || (point >= 0x7f && point < 0xa0)) return "a control character";
  return is_invisible(point) ? "an invisible character" : nullptr;
}

struct Named {
  uint32_t point;
  const char* name;
};
// Unicode names of the ones that are met in attacks.
constexpr Named kNames[] = {
    {0x061c, "ARABIC LETTER MARK"},
    {0x200b, "ZERO WIDTH SPACE"},
    {0x200c, "ZERO WIDTH NON-JOINER"},
    {0x200d, "ZERO WIDTH JOINER"},
    {0x200e, "LEFT-TO-RIGHT MARK"},
    {0x200f, "RIGHT-TO-LEFT MARK"},
    {0x202a, "LEFT-TO-RIGHT EMBEDDING"},
    {0x202b, "RIGHT-TO-LEFT EMBEDDING"},
    {0x202c, "POP DIRECTIONAL FORMATTING"},
    {0x202d, "LEFT-TO-RIGHT OVERRIDE"},
    {0x202e, "RIGHT-TO-LEFT OVERRIDE"},
    {0x2060, "WORD JOINER"},
    {0x2066, "LEFT-TO-RIGHT ISOLATE"},
    {0x2067, "RIGHT-TO-LEFT ISOLATE"},
    {0x2068, "FIRST STRONG ISOLATE"},
    {0x2069, "POP DIRECTIONAL ISOLATE"},
    {0xfeff, "ZERO WIDTH NO-BREAK SPACE"},
    {0x00a0, "NO-BREAK SPACE"},
    {0x00ad, "SOFT HYPHEN"},
    {0x0430, "CYRILLIC SMALL LETTER A"},
    {0x0435, "CYRILLIC SMALL LETTER IE"},
    {0x043e, "CYRILLIC SMALL LETTER O"},
    {0x0440, "CYRILLIC SMALL LETTER ER"},
    {0x0441, "CYRILLIC SMALL LETTER ES"},
    {0x0443, "CYRILLIC SMALL LETTER U"},
    {0x0445, "CYRILLIC SMALL LETTER HA"},
    {0x0456, "CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I"},
    {0x0455, "CYRILLIC SMALL LETTER DZE"},
    {0x0458, "CYRILLIC SMALL LETTER JE"},
    {0x03bf, "GREEK SMALL LETTER OMICRON"},
    {0x03b1, "GREEK SMALL LETTER ALPHA"},
    {0x03bd, "GREEK SMALL LETTER NU"},
    {0x037e, "GREEK QUESTION MARK"},
    {0x2028, "LINE SEPARATOR"},
    {0x2029, "PARAGRAPH SEPARATOR"},
    {0x001b, "ESCAPE"},
    {0x0000, "NULL"},
    {0x0008, "BACKSPACE"},
    {0x007f, "DELETE"},
};

std::string point_name(uint32_t point) {
  char text[16];
  std::snprintf(text, sizeof text, "U+%04X", point);
  std::string out = text;
  for (const Named& named : kNames) {
    if (named.point == point) out += std::string(" ") + named.name;
  }
  return out;
}

}  // namespace

Status check_characters(std::string_view text) {
  if (text.size() > kMaxSourceBytes)
    return Error(Code::kMalformed, "policy: expected at most 32768 bytes");
  size_t line = 1;
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    const std::string place = "policy line " + std::to_string(line) + ": ";
    if (character.length == 0) return Error(Code::kMalformed, place + "expected UTF-8");
    if (character.point == '\r' && text.substr(at, 2) == "\r\n") {
      ++at;
      continue;
    }
    if (auto* what = refusal_of(character.point)) {
      return Error(Code::kRefused,
                   place + "expected no " + point_name(character.point) + ", " + what);
    }
    if (character.point == '\n') ++line;
    at += character.length;
  }
  return Done{};
}

std::optional<Place> refused_character(std::string_view text) {
  Place place;
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    bool line_end = character.point == '\r' && text.substr(at, 2) == "\r\n";
    if (character.length == 0 || (!line_end && refusal_of(character.point))) return place;
    place.column += static_cast<int>(character.length);
    if (character.point == '\n') place = {place.line + 1, 1};
    at += character.length;
  }
  return std::nullopt;
}

Status check_source(std::string_view text) {
  TRY(check_characters(text));
  return check_syntax(text);
}

namespace {

// A JSON value as a Lua expression. Every byte of a text is written by its number.
Status append_lua(const Json& value, int depth, std::string& out) {
  if (depth > 16) return Error(Code::kMalformed, "parameters: expected at most 16 levels");
  if (const auto* text = value.string()) {
    char escaped[8];
    out += '"';
    for (char byte : *text) {
      std::snprintf(escaped, sizeof escaped, "\\%03u",
                    static_cast<unsigned>(static_cast<unsigned char>(byte)));
      out += escaped;
    }
    out += '"';
  } else if (const auto* list = value.array()) {
    out += '{';
    for (const auto& item : *list) {
      TRY(append_lua(item, depth + 1, out));
      out += ',';
    }
    out += '}';
  } else if (const auto* object = value.object()) {
    out += '{';
    for (const auto& [name, item] : *object) {
      out += '[';
      TRY(append_lua(Json(name), depth + 1, out));
      out += "]=";
      TRY(append_lua(item, depth + 1, out));
      out += ',';
    }
    out += '}';
  } else {
    out += value.is_null() ? "nil" : canonical(value);  // true, false, a whole number
  }
  return Done{};
}

}  // namespace

Result<std::string> with_parameters(std::string_view source, const Json& parameters) {
  if (!parameters.object() || parameters.object()->empty()) return std::string(source);
  std::string out = "local parameters = ";
  TRY(append_lua(parameters, 0, out));
  out += ' ';
  out += source;
  return out;
}

}  // namespace souk::policy
