#include <algorithm>
#include <array>

#include "policy/lint/syntax.h"

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
bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
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
    return Error(Code::kRefused, "line " + std::to_string(line_) + ": expected " + expected);
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
    bool hex = peek() == '0' && (peek(1) == 'x' || peek(1) == 'X');
    if (hex) at_ += 2;
    while (true) {
      char c = peek();
      bool exponent = hex ? c == 'p' || c == 'P' : c == 'e' || c == 'E';
      if (exponent && (peek(1) == '+' || peek(1) == '-')) {
        at_ += 2;
      } else if (is_hex(c) || c == '.' || exponent) {
        ++at_;
      } else {
        return Done{};
      }
    }
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
      out.push_back(
          static_cast<char>(std::stoi(std::string(source_.substr(at_ + 1, 2)), nullptr, 16)));
      at_ += 3;
      return Done{};
    }
    if (c == 'u') {  // its exact bytes matter to nobody here
      while (at_ < source_.size() && peek() != '}' && peek() != '\n') ++at_;
      if (peek() != '}') return wrong("} after \\u{");
      ++at_;
      out.push_back('?');
      return Done{};
    }
    if (!is_digit(c)) return wrong("an escape of Lua");
    int value = 0;
    for (int i = 0; i < 3 && is_digit(peek()); ++i) value = value * 10 + (source_[at_++] - '0');
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
