#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "policy/syntax/syntax.h"

namespace souk::policy {
namespace {

constexpr std::array<std::string_view, 22> kKeywords = {
    "and",      "break",  "do",   "else", "elseif", "end",  "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",  "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while"};
// The longest first.
constexpr std::array<std::string_view, 33> kSigns = {
    "...", "<<", ">>", "//", "==", "~=", "<=", ">=", "::", "..", "+", "-", "*", "/", "%", "^", "#",
    "&",   "~",  "|",  "<",  ">",  "=",  "(",  ")",  "{",  "}",  "[", "]", ";", ":", ",", "."};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
// Its value, or -1.
int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Up to 2^31, as Lua writes them: in up to six bytes.
void put_utf8(std::string& out, uint64_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  std::string tail;
  uint64_t first = 0x3f;
  do {
    tail.insert(tail.begin(), static_cast<char>(0x80 | (point & 0x3f)));
    point >>= 6;
    first >>= 1;
  } while (point > first);
  out += static_cast<char>(static_cast<uint8_t>((~first << 1) | point));
  out += tail;
}

class Scanner {
 public:
  explicit Scanner(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> all() {
    std::vector<Token> out;
    while (true) {
      TRY(skip_space());
      Token token;
      token.begin = at_;
      token.line = line_;
      token.column = static_cast<int>(at_ - line_start_) + 1;
      if (at_ < source_.size()) TRY(read(token));
      token.end = at_;
      token.source = source_.substr(token.begin, at_ - token.begin);
      bool last = token.kind == Token::Kind::kEnd;
      out.push_back(std::move(token));
      if (last) return out;
    }
  }

 private:
  Error wrong(const std::string& expected) const {
    return Error(Code::kMalformed, "line " + std::to_string(line_) + ": expected " + expected);
  }
  char peek(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }
  void advance() {
    if (source_[at_++] != '\n') return;
    ++line_;
    line_start_ = at_;
  }

  // The number of '=' of a long bracket that opens here, or -1.
  int long_bracket() const {
    if (peek() != '[') return -1;
    size_t equals = 0;
    while (peek(1 + equals) == '=') ++equals;
    return peek(1 + equals) == '[' ? static_cast<int>(equals) : -1;
  }
  Result<std::string> read_long(int equals) {
    at_ += static_cast<size_t>(equals) + 2;
    if (peek() == '\r') advance();
    if (peek() == '\n') advance();
    const std::string closing = "]" + std::string(static_cast<size_t>(equals), '=') + "]";
    size_t start = at_;
    while (at_ < source_.size() && source_.substr(at_, closing.size()) != closing) advance();
    if (at_ >= source_.size()) return wrong("the end of a long text or comment");
    std::string text(source_.substr(start, at_ - start));
    at_ += closing.size();
    return text;
  }

  Status skip_space() {
    while (at_ < source_.size()) {
      char c = peek();
      if (c == ' ' || (c >= '\t' && c <= '\r')) {
        advance();
      } else if (c == '-' && peek(1) == '-') {
        at_ += 2;
        if (int equals = long_bracket(); equals >= 0) {
          TRY(read_long(equals));
        } else {
          while (at_ < source_.size() && peek() != '\n') advance();
        }
      } else {
        break;
      }
    }
    return Done{};
  }

  Status read(Token& token) {
    char c = peek();
    if (is_letter(c)) {
      size_t start = at_;
      while (is_letter(peek()) || is_digit(peek())) ++at_;
      auto word = source_.substr(start, at_ - start);
      bool keyword = std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
      token.kind = keyword ? Token::Kind::kKeyword : Token::Kind::kName;
      return Done{};
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return read_number(token);
    if (c == '"' || c == '\'') return read_quoted(token);
    if (int equals = long_bracket(); equals >= 0) {
      token.kind = Token::Kind::kText;
      token.value = TRY(read_long(equals));
      return Done{};
    }
    for (std::string_view sign : kSigns) {
      if (source_.substr(at_, sign.size()) != sign) continue;
      at_ += sign.size();
      token.kind = Token::Kind::kSign;
      return Done{};
    }
    return wrong("a sign of Lua");
  }

  Status read_number(Token& token) {
    token.kind = Token::Kind::kNumber;
    const size_t start = at_;
    const bool hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    if (hex) at_ += 2;
    bool real = false;
    while (true) {
      char c = peek();
      bool exponent = hex ? c == 'p' || c == 'P' : c == 'e' || c == 'E';
      if (exponent) {
        real = true;
        at_ += peek(1) == '+' || peek(1) == '-' ? 2 : 1;
      } else if (c == '.') {
        real = true;
        ++at_;
      } else if (hex ? hex_digit(c) >= 0 : is_digit(c)) {
        ++at_;
      } else {
        break;
      }
    }
    if (is_letter(peek())) return wrong("a number");
    const std::string text(source_.substr(start, at_ - start));
    token.whole = !real;
    if (!real && hex) {
      uint64_t value = 0;  // wraps around, as the manual says
      for (char c : text.substr(2)) value = value * 16 + static_cast<uint64_t>(hex_digit(c));
      token.integer = static_cast<int64_t>(value);
      return Done{};
    }
    if (!real) {
      auto read = std::from_chars(text.data(), text.data() + text.size(), token.integer);
      if (read.ec == std::errc()) return Done{};
      token.whole = false;  // too long for an integer: a real
    }
    char* end = nullptr;
    token.real = std::strtod(text.c_str(), &end);
    if (end != text.c_str() + text.size()) return wrong("a number");
    return Done{};
  }

  Status read_quoted(Token& token) {
    token.kind = Token::Kind::kText;
    char quote = peek();
    ++at_;
    while (true) {
      if (at_ >= source_.size() || peek() == '\n') return wrong("the end of a text");
      char c = peek();
      if (c == quote) {
        ++at_;
        return Done{};
      }
      if (c != '\\') {
        token.value.push_back(c);
        ++at_;
        continue;
      }
      ++at_;
      TRY(read_escape(token.value));
    }
  }

  Status read_escape(std::string& out) {
    char c = peek();
    constexpr std::string_view kFrom = "abfnrtv\\\"'\n", kTo = "\a\b\f\n\r\t\v\\\"'\n";
    if (size_t known = kFrom.find(c); c != '\0' && known != std::string_view::npos) {
      out.push_back(kTo[known]);
      advance();
      return Done{};
    }
    if (c == 'z') {
      ++at_;
      while (at_ < source_.size() && (peek() == ' ' || (peek() >= '\t' && peek() <= '\r')))
        advance();
      return Done{};
    }
    if (c == 'x') {
      int high = hex_digit(peek(1)), low = hex_digit(peek(2));
      if (high < 0 || low < 0) return wrong("two hexadecimal digits");
      out.push_back(static_cast<char>(high * 16 + low));
      at_ += 3;
      return Done{};
    }
    if (c == 'u' && peek(1) == '{') {
      constexpr uint64_t kMost = uint64_t{1} << 31;
      uint64_t point = 0;
      for (at_ += 2; hex_digit(peek()) >= 0 && point < kMost; ++at_)
        point = point * 16 + static_cast<uint64_t>(hex_digit(peek()));
      if (peek() != '}' || point >= kMost) return wrong("a code point");
      ++at_;
      put_utf8(out, point);
      return Done{};
    }
    if (!is_digit(c)) return wrong("an escape of Lua");
    int value = 0;
    for (int i = 0; i < 3 && is_digit(peek()); ++i) value = value * 10 + (source_[at_++] - '0');
    if (value > 255) return wrong("a byte");
    out.push_back(static_cast<char>(value));
    return Done{};
  }

  std::string_view source_;
  size_t at_ = 0, line_start_ = 0;
  int line_ = 1;
};

}  // namespace

Result<std::vector<Token>> tokens_of(std::string_view source) {
  return Scanner(source).all();
}

}  // namespace souk::policy
