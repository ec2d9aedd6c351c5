#include "ledger/codec/json.h"

#include "ledger/codec/json_reals.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace souk {
namespace {

constexpr int kMaxDepth = 32;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

// Length of the valid UTF-8 sequence at the start of `text`, or 0.
size_t utf8_length(std::string_view text) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  auto tail = [&](size_t i) { return i < text.size() && (at(i) & 0xc0) == 0x80; };
  uint8_t b = at(0);
  if (b < 0x80) return 1;
  if (b >= 0xc2 && b <= 0xdf) return tail(1) ? 2 : 0;
  if (b >= 0xe0 && b <= 0xef) {
    if (!tail(1) || !tail(2)) return 0;
    if (b == 0xe0 && at(1) < 0xa0) return 0;
    if (b == 0xed && at(1) > 0x9f) return 0;  // surrogates
    return 3;
  }
  if (b >= 0xf0 && b <= 0xf4) {
    if (!tail(1) || !tail(2) || !tail(3)) return 0;
    if (b == 0xf0 && at(1) < 0x90) return 0;
    if (b == 0xf4 && at(1) > 0x8f) return 0;
    return 4;
  }
  return 0;
}

// Stands in a string as itself, and is one byte.
bool is_plain(char c) {
  return static_cast<uint8_t>(c) >= 0x20 && static_cast<uint8_t>(c) < 0x80 && c != '"' && c != '\\';
}

void write_string(std::string_view text, std::string& out) {
  constexpr char digits[] = "0123456789abcdef";
  out.push_back('"');
  size_t copied = 0;  // what needs no escape goes over in one piece
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (static_cast<uint8_t>(c) >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text.substr(copied, i - copied));
    copied = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        out += "\\u00";
        out.push_back(digits[(c >> 4) & 15]);
        out.push_back(digits[c & 15]);
    }
  }
  out.append(text.substr(copied));
  out.push_back('"');
}

enum class Numbers { kCanonical, kAnswer };

void write(const Json& value, Numbers numbers, std::string& out) {
  // The frequent ones first.
  if (auto* s = value.string()) {
    write_string(*s, out);
  } else if (auto* i = value.integer()) {
    CHECK(*i <= kMaxJsonInteger && *i >= -kMaxJsonInteger);
    char digits[20];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, *i).ptr);
  } else if (auto* a = value.array()) {
    out.push_back('[');
    for (size_t n = 0; n < a->size(); ++n) {
      if (n > 0) out.push_back(',');
      write((*a)[n], numbers, out);
    }
    out.push_back(']');
  } else if (auto* o = value.object()) {
    out.push_back('{');
    bool first = true;
    for (const auto& [name, member] : *o) {
      CHECK(is_ascii(name));
      if (!first) out.push_back(',');
      first = false;
      write_string(name, out);
      out.push_back(':');
      write(member, numbers, out);
    }
    out.push_back('}');
  } else if (auto* b = value.boolean()) {
    out += *b ? "true" : "false";
  } else if (auto* r = value.real()) {
    CHECK(numbers == Numbers::kAnswer);
    out += real_text(*r);
  } else if (auto wide = value.natural()) {
    CHECK(numbers == Numbers::kAnswer);
    out += std::to_string(*wide);
  } else {
    out += "null";
  }
}

enum class Dialect { kCanonical, kOrdinary, kMarked, kWide };

class Reader {
 public:
  Reader(std::string_view text, Dialect dialect) : text_(text), dialect_(dialect) {}

  Result<Json> document() {
    skip_space();
    auto value = TRY(read(0));
    skip_space();
    if (at_ != text_.size()) return bad("expected the end of the text");
    return value;
  }

 private:
  Error bad(const std::string& expected) const {
    return Error(Code::kMalformed, "JSON byte " + std::to_string(at_) + ": " + expected);
  }
  bool more() const { return at_ < text_.size(); }
  char peek() const { return more() ? text_[at_] : '\0'; }
  void skip_space() {
    if (dialect_ == Dialect::kCanonical) return;
    while (more() && (peek() == ' ' || peek() == '\n' || peek() == '\r' || peek() == '\t')) ++at_;
  }
  bool accept(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Result<Json> read(int depth) {
    if (depth > kMaxDepth) return bad("expected at most 32 levels");
    if (peek() == '"') {
      auto text = TRY(read_string());
      return Json(std::move(text));
    }
    if (peek() == '[') return read_array(depth);
    if (peek() == '{') return read_object(depth);
    if (accept("null")) return Json();
    if (accept("true")) return Json(true);
    if (accept("false")) return Json(false);
    if (dialect_ == Dialect::kMarked) {
      for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
        if (accept(word)) return marked(word);
      }
    }
    if (peek() == '-' || (peek() >= '0' && peek() <= '9')) return read_integer();
    return bad("expected a value");
  }

  static Json marked(std::string_view text) { return Json(Json::Object{{"$float", text}}); }

  // What read_integer refuses, in the dialect that lets a schema refuse it by name.
  Json read_marked() {
    size_t start = at_;
    auto belongs = [](char c) {
      return (c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-';
    };
    while (more() && belongs(peek())) ++at_;
    auto digits = text_.substr(start, at_ - start);
    int64_t value = 0;
    auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    bool whole = status == std::errc() && end == digits.data() + digits.size() &&
                 value <= kMaxJsonInteger && value >= -kMaxJsonInteger &&
                 std::to_string(value) == digits;  // neither -0 nor 007
    return whole ? Json(value) : marked(digits);
  }

  Result<Json> read_integer() {
    if (dialect_ == Dialect::kMarked) return read_marked();
    size_t start = at_;
    if (peek() == '-') ++at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    auto digits = text_.substr(start, at_ - start);
    if (peek() == '.' || peek() == 'e' || peek() == 'E') {
      return bad("expected an integer; reals are written as decimal strings");
    }
    bool negative = digits.front() == '-';
    auto body = negative ? digits.substr(1) : digits;
    if (body.empty() || (body.size() > 1 && body.front() == '0') || digits == "-0") {
      return bad("expected an integer in its shortest form");
    }
    if (dialect_ == Dialect::kWide && !negative) {
      uint64_t wide = 0;
      auto [last, fits] = std::from_chars(body.data(), body.data() + body.size(), wide);
      if (fits != std::errc() || last != body.data() + body.size()) {
        return bad("expected an integer below 2^64");
      }
      return Json::wide(wide);
    }
    int64_t value = 0;
    auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (status != std::errc() || end != digits.data() + digits.size() || value > kMaxJsonInteger ||
        value < -kMaxJsonInteger) {
      return bad("expected an integer below 2^53 in size");
    }
    return Json(value);
  }

  Result<uint32_t> read_hex4() {
    if (at_ + 4 > text_.size()) return bad("expected four hex digits");
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      char c = text_[at_++];
      uint32_t digit = 0;
      if (c >= '0' && c <= '9')
        digit = static_cast<uint32_t>(c - '0');
      else if (c >= 'a' && c <= 'f')
        digit = static_cast<uint32_t>(c - 'a' + 10);
      else if (c >= 'A' && c <= 'F' && dialect_ != Dialect::kCanonical)
        digit = static_cast<uint32_t>(c - 'A' + 10);
      else
        return bad("expected four lower-case hex digits");
      value = value * 16 + digit;
    }
    return value;
  }

  static void put_utf8(uint32_t point, std::string& out) {
    if (point < 0x80) {
      out.push_back(static_cast<char>(point));
    } else if (point < 0x800) {
      out.push_back(static_cast<char>(0xc0 | (point >> 6)));
      out.push_back(static_cast<char>(0x80 | (point & 63)));
    } else if (point < 0x10000) {
      out.push_back(static_cast<char>(0xe0 | (point >> 12)));
      out.push_back(static_cast<char>(0x80 | ((point >> 6) & 63)));
      out.push_back(static_cast<char>(0x80 | (point & 63)));
    } else {
      out.push_back(static_cast<char>(0xf0 | (point >> 18)));
      out.push_back(static_cast<char>(0x80 | ((point >> 12) & 63)));
      out.push_back(static_cast<char>(0x80 | ((point >> 6) & 63)));
      out.push_back(static_cast<char>(0x80 | (point & 63)));
    }
  }

  Result<std::string> read_string() {
    ++at_;
    std::string out;
    while (true) {
      if (!more()) return bad("expected the end of a string");
      char c = text_[at_];
      if (c == '"') {
        ++at_;
        return out;
      }
      if (static_cast<uint8_t>(c) < 0x20) return bad("expected control characters escaped");
      if (c != '\\') {
        // ASCII that needs no escape goes over in one piece.
        size_t end = at_;
        while (end < text_.size() && is_plain(text_[end])) ++end;
        if (end > at_) {
          out.append(text_.substr(at_, end - at_));
          at_ = end;
          continue;
        }
        size_t length = utf8_length(text_.substr(at_));
        if (length == 0) return bad("expected UTF-8");
        out.append(text_.substr(at_, length));
        at_ += length;
        continue;
      }
      ++at_;
      char e = peek();
      ++at_;
      switch (e) {
        case '"':
          out.push_back('"');
          break;
        case '\\':
          out.push_back('\\');
          break;
        case 'b':
          out.push_back('\b');
          break;
        case 'f':
          out.push_back('\f');
          break;
        case 'n':
          out.push_back('\n');
          break;
        case 'r':
          out.push_back('\r');
          break;
        case 't':
          out.push_back('\t');
          break;
        case '/':
          if (dialect_ == Dialect::kCanonical) return bad("expected / unescaped");
          out.push_back('/');
          break;
        case 'u': {
          uint32_t point = TRY(read_hex4());
          if (dialect_ == Dialect::kCanonical) {
            bool short_form = point == 8 || point == 9 || point == 10 || point == 12 || point == 13;
            if (point >= 0x20 || short_form)
              return bad("expected the character itself, not an escape");
          }
          if (point >= 0xd800 && point < 0xdc00) {
            if (!accept("\\u")) return bad("expected a low surrogate");
            uint32_t low = TRY(read_hex4());
            if (low < 0xdc00 || low > 0xdfff) return bad("expected a low surrogate");
            point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
          } else if (point >= 0xdc00 && point < 0xe000) {
            return bad("expected no lone surrogate");
          }
          put_utf8(point, out);
          break;
        }
        default:
          return bad("expected a JSON escape");
      }
    }
  }

  Result<Json> read_array(int depth) {
    ++at_;
    Json::Array out;
    skip_space();
    if (accept("]")) return Json(std::move(out));
    while (true) {
      skip_space();
      auto item = TRY(read(depth + 1));
      out.push_back(std::move(item));
      skip_space();
      if (accept("]")) return Json(std::move(out));
      if (!accept(",")) return bad("expected , or ]");
    }
  }

  Result<Json> read_object(int depth) {
    ++at_;
    Json::Object out;
    skip_space();
    if (accept("}")) return Json(std::move(out));
    while (true) {
      skip_space();
      if (peek() != '"') return bad("expected a member name");
      auto name = TRY(read_string());
      if (!is_ascii(name)) return bad("expected an ASCII member name");
      if (dialect_ == Dialect::kCanonical) {
        if (!out.empty() && !(out.rbegin()->first < name)) {
          return bad("expected member names in order, each once");
        }
      } else if (out.count(name) != 0) {
        return bad("expected each member once");
      }
      skip_space();
      if (!accept(":")) return bad("expected a colon");
      skip_space();
      auto member = TRY(read(depth + 1));
      out.emplace_hint(out.end(), std::move(name), std::move(member));
      skip_space();
      if (accept("}")) return Json(std::move(out));
      if (!accept(",")) return bad("expected , or }");
    }
  }

  std::string_view text_;
  Dialect dialect_;
  size_t at_ = 0;
};

}  // namespace

const Json* Json::find(const std::string& name) const {
  auto* o = object();
  if (!o) return nullptr;
  auto it = o->find(name);
  return it == o->end() ? nullptr : &it->second;
}

Json Json::real(double value) {
  CHECK(std::isfinite(value));
  Json out;
  out.value_ = value;
  return out;
}

Json Json::wide(uint64_t value) {
  Json out(value);
  if (value > static_cast<uint64_t>(kMaxJsonInteger)) out.value_ = value;
  return out;
}

std::optional<uint64_t> Json::natural() const {
  if (auto* wide = std::get_if<uint64_t>(&value_)) return *wide;
  auto* small = integer();
  if (!small || *small < 0) return std::nullopt;
  return static_cast<uint64_t>(*small);
}

std::string canonical(const Json& value) {
  std::string out;
  if (value.object() || value.array()) out.reserve(512);  // else it grows there in seven steps
  write(value, Numbers::kCanonical, out);
  return out;
}

std::string answer_json(const Json& value) {
  std::string out;
  write(value, Numbers::kAnswer, out);
  return out;
}

Result<Json> parse_canonical(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Error(Code::kMalformed,
                 "expected at most " + std::to_string(max_bytes) + " bytes of JSON");
  }
  return Reader(text, Dialect::kCanonical).document();
}

Result<Json> parse_json(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Error(Code::kMalformed,
                 "expected at most " + std::to_string(max_bytes) + " bytes of JSON");
  }
  return Reader(text, Dialect::kOrdinary).document();
}

Result<Json> parse_json_marking_reals(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Error(Code::kMalformed,
                 "expected at most " + std::to_string(max_bytes) + " bytes of JSON");
  }
  return Reader(text, Dialect::kMarked).document();
}

Result<Json> parse_wide_json(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Error(Code::kMalformed,
                 "expected at most " + std::to_string(max_bytes) + " bytes of JSON");
  }
  return Reader(text, Dialect::kWide).document();
}

std::string real_text(double value) {
  CHECK(std::isfinite(value));
  if (value == 0) return "0";  // minus zero has the text of zero
  char buffer[40];
  auto [end, status] = std::to_chars(buffer, buffer + sizeof buffer, value);
  CHECK(status == std::errc());
  return std::string(buffer, end);
}

Result<double> parse_real(std::string_view text) {
  double value = 0;
  auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      real_text(value) != text) {
    return Error(Code::kMalformed, "expected a real as a shortest round-trip decimal string");
  }
  return value;
}

}  // namespace souk
