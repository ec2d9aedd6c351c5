#include "policy/analysis/syntax.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

namespace souk::policy::analysis {
namespace {

constexpr std::array<std::string_view, 22> kKeywords = {
    "and",      "break",  "do",   "else", "elseif", "end",  "false", "for",
    "function", "goto",   "if",   "in",   "local",  "nil",  "not",   "or",
    "repeat",   "return", "then", "true", "until",  "while"};
constexpr int kMaxDepth = 150;

Error malformed(uint32_t line, const std::string& expected) {
  return Error(Code::kMalformed, "line " + std::to_string(line) + ": expected " + expected);
}

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  Result<std::vector<Token>> all() {
    std::vector<Token> out;
    while (true) {
      TRY(skip());
      Token token = TRY(next());
      bool last = token.kind == TokenKind::kEnd;
      out.push_back(std::move(token));
      if (last) return out;
    }
  }

 private:
  char at(size_t ahead = 0) const {
    return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0';
  }

  // The level of a long bracket that opens here.
  std::optional<size_t> long_level() const {
    if (at() != '[') return std::nullopt;
    size_t level = 0;
    while (at(1 + level) == '=') ++level;
    if (at(1 + level) != '[') return std::nullopt;
    return level;
  }
  Result<std::string> long_text(size_t level) {
    std::string close = "]" + std::string(level, '=') + "]";
    at_ += level + 2;
    if (at() == '\r' && at(1) == '\n') ++at_;
    if (at() == '\n') {
      ++at_;
      ++line_;
    }
    size_t end = source_.find(close, at_);
    if (end == std::string_view::npos) return malformed(line_, close);
    std::string text(source_.substr(at_, end - at_));
    line_ += static_cast<uint32_t>(std::count(text.begin(), text.end(), '\n'));
    at_ = end + close.size();
    return text;
  }

  Status skip() {
    while (at_ < source_.size()) {
      char c = at();
      if (c == '\n') ++line_;
      if (c == '\n' || c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
        ++at_;
      } else if (c == '-' && at(1) == '-') {
        at_ += 2;
        if (auto level = long_level()) {
          TRY(long_text(*level));
        } else {
          while (at_ < source_.size() && at() != '\n') ++at_;
        }
      } else {
        break;
      }
    }
    return Done{};
  }

  Result<Token> next() {
    Token token;
    token.line = line_;
    token.span.begin = static_cast<uint32_t>(at_);
    if (at_ >= source_.size()) {
      token.span.end = token.span.begin;
      return token;
    }
    char c = at();
    if (is_name_start(c)) {
      size_t start = at_;
      while (is_name_start(at()) || is_digit(at())) ++at_;
      token.text = std::string(source_.substr(start, at_ - start));
      bool keyword = std::find(kKeywords.begin(), kKeywords.end(), token.text) != kKeywords.end();
      token.kind = keyword ? TokenKind::kKeyword : TokenKind::kName;
    } else if (is_digit(c) || (c == '.' && is_digit(at(1)))) {
      TRY(number(token));
    } else if (c == '"' || c == '\'') {
      token.kind = TokenKind::kText;
      token.text = TRY(quoted());
    } else if (auto level = long_level()) {
      token.kind = TokenKind::kText;
      token.text = TRY(long_text(*level));
    } else {
      TRY(symbol(token));
    }
    token.span.end = static_cast<uint32_t>(at_);
    return token;
  }

  Status symbol(Token& token) {
    constexpr std::string_view kSymbols[] = {
        "...", "<<", ">>", "//", "==", "~=", "<=", ">=", "::", "..", "+",
        "-",   "*",  "/",  "%",  "^",  "#",  "&",  "~",  "|",  "<",  ">",
        "=",   "(",  ")",  "{",  "}",  "[",  "]",  ";",  ":",  ",",  "."};
    for (std::string_view symbol : kSymbols) {
      if (source_.substr(at_, symbol.size()) != symbol) continue;
      token.kind = TokenKind::kSymbol;
      token.text = std::string(symbol);
      at_ += symbol.size();
      return Done{};
    }
    return malformed(line_, "Lua here");
  }

  Status number(Token& token) {
    size_t start = at_;
    bool hex = at() == '0' && (at(1) == 'x' || at(1) == 'X');
    if (hex) at_ += 2;
    bool real = false;
    while (true) {
      char c = at();
      bool exponent = hex ? (c == 'p' || c == 'P') : (c == 'e' || c == 'E');
      if (exponent) {
        real = true;
        ++at_;
        if (at() == '+' || at() == '-') ++at_;
      } else if (c == '.') {
        real = true;
        ++at_;
      } else if (hex ? hex_digit(c) >= 0 : is_digit(c)) {
        ++at_;
      } else {
        break;
      }
    }
    if (is_name_start(at())) return malformed(line_, "a number");
    std::string text(source_.substr(start, at_ - start));
    token.kind = TokenKind::kInteger;
    if (!real && hex) {
      uint64_t value = 0;  // wraps around, as the manual says
      for (char c : text.substr(2)) value = value * 16 + static_cast<uint64_t>(hex_digit(c));
      token.integer = static_cast<int64_t>(value);
      return Done{};
    }
    if (!real) {
      auto read = std::from_chars(text.data(), text.data() + text.size(), token.integer);
      if (read.ec == std::errc()) return Done{};
    }
    token.kind = TokenKind::kReal;
    char* end = nullptr;
    token.real = std::strtod(text.c_str(), &end);
    if (end != text.c_str() + text.size()) return malformed(line_, "a number");
    return Done{};
  }

  Result<std::string> quoted() {
    char quote = at();
    ++at_;
    std::string out;
    while (true) {
      if (at_ >= source_.size() || at() == '\n') return malformed(line_, "the end of the text");
      char c = at();
      ++at_;
      if (c == quote) return out;
      if (c != '\\') {
        out += c;
        continue;
      }
      TRY(escape(out));
    }
  }

  Status escape(std::string& out) {
    char c = at();
    ++at_;
    constexpr std::string_view kFrom = "abfnrtv\\\"'", kTo = "\a\b\f\n\r\t\v\\\"'";
    if (size_t known = kFrom.find(c); c != '\0' && known != std::string_view::npos) {
      out += kTo[known];
    } else if (c == '\n') {
      ++line_;
      out += '\n';
    } else if (c == 'x') {
      int high = hex_digit(at()), low = hex_digit(at(1));
      if (high < 0 || low < 0) return malformed(line_, "two hexadecimal digits");
      out += static_cast<char>(high * 16 + low);
      at_ += 2;
    } else if (c == 'z') {
      while (at() == ' ' || at() == '\n' || at() == '\t' || at() == '\r') {
        if (at() == '\n') ++line_;
        ++at_;
      }
    } else if (is_digit(c)) {
      int value = c - '0';
      for (int i = 0; i < 2 && is_digit(at()); ++i, ++at_) value = value * 10 + (at() - '0');
      if (value > 255) return malformed(line_, "a byte");
      out += static_cast<char>(value);
    } else if (c == 'u' && at() == '{') {
      uint64_t point = 0;
      for (++at_; hex_digit(at()) >= 0 && point < (uint64_t{1} << 31); ++at_)
        point = point * 16 + static_cast<uint64_t>(hex_digit(at()));
      if (at() != '}' || point >= (uint64_t{1} << 31)) return malformed(line_, "a code point");
      ++at_;
      put_utf8(out, point);
    } else {
      return malformed(line_, "a known escape");
    }
    return Done{};
  }

  static void put_utf8(std::string& out, uint64_t point) {
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

  std::string_view source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
};

struct BinaryOp {
  std::string_view text;
  Op op;
  int left, right;  // precedence; lower right: associates to the right
};
constexpr BinaryOp kBinary[] = {
    {"+", Op::kAdd, 10, 10}, {"-", Op::kSub, 10, 10},   {"*", Op::kMul, 11, 11},
    {"/", Op::kDiv, 11, 11}, {"//", Op::kIDiv, 11, 11}, {"%", Op::kMod, 11, 11},
    {"^", Op::kPow, 14, 13}, {"..", Op::kConcat, 9, 8}, {"==", Op::kEq, 3, 3},
    {"~=", Op::kNe, 3, 3},   {"<", Op::kLt, 3, 3},      {"<=", Op::kLe, 3, 3},
    {">", Op::kGt, 3, 3},    {">=", Op::kGe, 3, 3},     {"&", Op::kBand, 6, 6},
    {"|", Op::kBor, 4, 4},   {"~", Op::kBxor, 5, 5},    {"<<", Op::kShl, 7, 7},
    {">>", Op::kShr, 7, 7}};
constexpr int kUnaryPriority = 12;

// The scopes of one function while it is parsed.
struct Scope {
  Function* function;
  Scope* outer;
  std::vector<std::pair<std::string, Local*>> visible;
  std::map<std::string, std::pair<const Local*, uint32_t>> upvalues;
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, uint32_t& site) : tokens_(std::move(tokens)), site_(site) {}

  Status chunk(Function& main) {
    Scope scope{&main, nullptr, {}, {}};
    scope_ = &scope;
    main.variadic = true;
    main.body = TRY(block());
    if (peek().kind != TokenKind::kEnd) return malformed(peek().line, "the end of the policy");
    return Done{};
  }

 private:
  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
    ~Deeper() { --depth_; }
    int& depth_;
  };

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool is(std::string_view text) const {
    return (peek().kind == TokenKind::kSymbol || peek().kind == TokenKind::kKeyword) &&
           peek().text == text;
  }
  bool accept(std::string_view text) {
    if (!is(text)) return false;
    ++at_;
    return true;
  }
  Status expect(std::string_view text) {
    if (accept(text)) return Done{};
    return malformed(peek().line, "'" + std::string(text) + "'");
  }
  Result<std::string> name() {
    if (peek().kind != TokenKind::kName) return malformed(peek().line, "a name");
    return tokens_[at_++].text;
  }
  ExprPtr node(Expr::Kind kind) {
    auto out = std::make_unique<Expr>();
    out->kind = kind;
    out->span = peek().span;
    out->line = peek().line;
    out->site = site_++;
    return out;
  }
  void close(Expr& expr) const { expr.span.end = tokens_[at_ - 1].span.end; }

  Local* declare(const std::string& text) {
    Function& function = *scope_->function;
    function.locals.push_back({text, function.slots++, false});
    scope_->visible.emplace_back(text, &function.locals.back());
    return &function.locals.back();
  }

  static Local* find_local(Scope* scope, const std::string& text) {
    for (auto it = scope->visible.rbegin(); it != scope->visible.rend(); ++it) {
      if (it->first == text) return it->second;
    }
    return nullptr;
  }
  std::optional<uint32_t> find_upvalue(Scope* scope, const std::string& text) {
    if (!scope->outer) return std::nullopt;
    Function::Upvalue upvalue;
    const Local* target = nullptr;
    if (Local* local = find_local(scope->outer, text)) {
      local->captured = true;
      upvalue.local = target = local;
    } else {
      auto outer = find_upvalue(scope->outer, text);
      if (!outer) return std::nullopt;
      upvalue.outer = *outer;
    }
    auto known = scope->upvalues.find(text);
    if (known != scope->upvalues.end() && known->second.first == target)
      return known->second.second;
    scope->function->upvalues.push_back(upvalue);
    auto index = static_cast<uint32_t>(scope->function->upvalues.size() - 1);
    scope->upvalues[text] = {target, index};
    return index;
  }
  ExprPtr variable(const std::string& text) {
    auto out = node(Expr::Kind::kGlobal);
    if (Local* local = find_local(scope_, text)) {
      out->kind = Expr::Kind::kLocal;
      out->local = local;
    } else if (auto upvalue = find_upvalue(scope_, text)) {
      out->kind = Expr::Kind::kUpvalue;
      out->upvalue = *upvalue;
    }
    out->text = text;
    return out;
  }

  bool block_ends() const {
    return peek().kind == TokenKind::kEnd || is("end") || is("else") || is("elseif") || is("until");
  }

  Result<std::unique_ptr<Block>> block() {
    size_t visible = scope_->visible.size();
    auto out = TRY(open_block());
    scope_->visible.resize(visible);
    return out;
  }
  // Its locals stay visible: `until` may use them.
  Result<std::unique_ptr<Block>> open_block() {
    Deeper deeper(depth_);
    if (depth_ > kMaxDepth) return malformed(peek().line, "less nesting");
    auto out = std::make_unique<Block>();
    while (!block_ends()) {
      if (is("return")) {
        out->statements.push_back(TRY(return_statement()));
        break;
      }
      if (accept(";")) continue;
      out->statements.push_back(TRY(statement()));
    }
    if (!block_ends()) return malformed(peek().line, "nothing after return");
    return out;
  }

  std::unique_ptr<Statement> make(Statement::Kind kind) {
    auto out = std::make_unique<Statement>();
    out->kind = kind;
    out->span = peek().span;
    out->line = peek().line;
    return out;
  }

  Result<std::unique_ptr<Statement>> return_statement() {
    auto out = make(Statement::Kind::kReturn);
    ++at_;
    if (!block_ends() && !is(";")) out->values = TRY(expressions());
    accept(";");
    out->span.end = tokens_[at_ - 1].span.end;
    return out;
  }

  Result<std::unique_ptr<Statement>> statement() {
    auto out = TRY(bare_statement());
    out->span.end = tokens_[at_ - 1].span.end;
    return out;
  }

  Result<std::unique_ptr<Statement>> bare_statement() {
    if (is("if")) return if_statement();
    if (is("for")) return for_statement();
    if (is("local")) return local_statement();
    if (is("function")) return function_statement();
    if (is("while")) {
      auto out = make(Statement::Kind::kWhile);
      ++at_;
      out->targets.push_back(TRY(expression()));
      TRY(expect("do"));
      out->blocks.push_back(TRY(block()));
      TRY(expect("end"));
      return out;
    }
    if (is("do")) {
      auto out = make(Statement::Kind::kDo);
      ++at_;
      out->blocks.push_back(TRY(block()));
      TRY(expect("end"));
      return out;
    }
    if (is("repeat")) {
      auto out = make(Statement::Kind::kRepeat);
      ++at_;
      size_t visible = scope_->visible.size();
      out->blocks.push_back(TRY(open_block()));
      TRY(expect("until"));
      out->targets.push_back(TRY(expression()));
      scope_->visible.resize(visible);
      return out;
    }
    if (is("break")) {
      auto out = make(Statement::Kind::kBreak);
      ++at_;
      return out;
    }
    if (is("goto")) {
      auto out = make(Statement::Kind::kGoto);
      ++at_;
      out->label = TRY(name());
      return out;
    }
    if (is("::")) {
      auto out = make(Statement::Kind::kLabel);
      ++at_;
      out->label = TRY(name());
      TRY(expect("::"));
      return out;
    }
    return expression_statement();
  }

  Result<std::unique_ptr<Statement>> if_statement() {
    auto out = make(Statement::Kind::kIf);
    do {
      ++at_;
      out->targets.push_back(TRY(expression()));
      TRY(expect("then"));
      out->blocks.push_back(TRY(block()));
    } while (is("elseif"));
    if (accept("else")) out->blocks.push_back(TRY(block()));
    TRY(expect("end"));
    return out;
  }

  Result<std::unique_ptr<Statement>> for_statement() {
    auto out = make(Statement::Kind::kFor);
    ++at_;
    std::vector<std::string> names{TRY(name())};
    if (accept("=")) {
      out->values = TRY(expressions());
      if (out->values.size() < 2 || out->values.size() > 3)
        return malformed(peek().line, "two or three limits of the loop");
    } else {
      out->kind = Statement::Kind::kForIn;
      while (accept(",")) names.push_back(TRY(name()));
      TRY(expect("in"));
      out->values = TRY(expressions());
    }
    TRY(expect("do"));
    size_t visible = scope_->visible.size();
    for (const auto& each : names) out->locals.push_back(declare(each));
    out->blocks.push_back(TRY(block()));
    scope_->visible.resize(visible);
    TRY(expect("end"));
    return out;
  }

  Result<std::unique_ptr<Statement>> local_statement() {
    auto out = make(Statement::Kind::kLocal);
    ++at_;
    if (accept("function")) {
      auto text = TRY(name());
      out->locals.push_back(declare(text));
      out->values.push_back(TRY(function_body(false)));
      return out;
    }
    std::vector<std::string> names;
    do {
      names.push_back(TRY(name()));
      if (accept("<")) {
        auto attribute = TRY(name());
        if (attribute != "const") return malformed(peek().line, "<const>");
        TRY(expect(">"));
      }
    } while (accept(","));
    if (accept("=")) out->values = TRY(expressions());
    for (const auto& each : names) out->locals.push_back(declare(each));
    return out;
  }

  Result<std::unique_ptr<Statement>> function_statement() {
    auto out = make(Statement::Kind::kAssign);
    ++at_;
    auto first = TRY(name());
    ExprPtr target = variable(first);
    bool method = false;
    while (is(".") || is(":")) {
      method = is(":");
      ++at_;
      auto index = node(Expr::Kind::kIndex);
      auto key = node(Expr::Kind::kText);
      key->text = TRY(name());
      index->a = std::move(target);
      index->b = std::move(key);
      target = std::move(index);
      if (method) break;
    }
    out->targets.push_back(std::move(target));
    out->values.push_back(TRY(function_body(method)));
    return out;
  }

  Result<ExprPtr> function_body(bool method) {
    auto out = node(Expr::Kind::kFunction);
    out->function = std::make_unique<Function>();
    Scope scope{out->function.get(), scope_, {}, {}};
    scope_ = &scope;
    auto read = function_rest(*out->function, method);
    scope_ = scope.outer;
    TRY(std::move(read));
    close(*out);
    return out;
  }
  Status function_rest(Function& function, bool method) {
    if (method) function.parameters.push_back(declare("self"));
    TRY(expect("("));
    if (!is(")")) {
      do {
        if (accept("...")) {
          function.variadic = true;
          break;
        }
        auto text = TRY(name());
        function.parameters.push_back(declare(text));
      } while (accept(","));
    }
    TRY(expect(")"));
    function.body = TRY(block());
    return expect("end");
  }

  Result<std::unique_ptr<Statement>> expression_statement() {
    auto out = make(Statement::Kind::kCall);
    auto first = TRY(suffixed());
    if (!is("=") && !is(",")) {
      bool call = first->kind == Expr::Kind::kCall || first->kind == Expr::Kind::kMethod;
      if (!call) return malformed(peek().line, "a statement");
      out->values.push_back(std::move(first));
      return out;
    }
    out->kind = Statement::Kind::kAssign;
    out->targets.push_back(std::move(first));
    while (accept(",")) out->targets.push_back(TRY(suffixed()));
    TRY(expect("="));
    out->values = TRY(expressions());
    for (const auto& target : out->targets) {
      bool assignable = target->kind == Expr::Kind::kLocal ||
                        target->kind == Expr::Kind::kUpvalue ||
                        target->kind == Expr::Kind::kGlobal || target->kind == Expr::Kind::kIndex;
      if (!assignable) return malformed(out->line, "something that can be assigned to");
    }
    return out;
  }

  Result<std::vector<ExprPtr>> expressions() {
    std::vector<ExprPtr> out;
    do {
      out.push_back(TRY(expression()));
    } while (accept(","));
    return out;
  }

  static std::optional<Op> unary_op(const Token& token) {
    if (token.kind == TokenKind::kKeyword && token.text == "not") return Op::kNot;
    if (token.kind != TokenKind::kSymbol) return std::nullopt;
    if (token.text == "-") return Op::kNeg;
    if (token.text == "#") return Op::kLen;
    if (token.text == "~") return Op::kBnot;
    return std::nullopt;
  }

  struct Infix {
    Expr::Kind kind;
    Op op;
    int left, right;
  };
  std::optional<Infix> infix() const {
    const Token& token = peek();
    if (token.kind == TokenKind::kKeyword && token.text == "and")
      return Infix{Expr::Kind::kAnd, Op::kAdd, 2, 2};
    if (token.kind == TokenKind::kKeyword && token.text == "or")
      return Infix{Expr::Kind::kOr, Op::kAdd, 1, 1};
    if (token.kind != TokenKind::kSymbol) return std::nullopt;
    for (const BinaryOp& known : kBinary) {
      if (known.text == token.text)
        return Infix{Expr::Kind::kBinary, known.op, known.left, known.right};
    }
    return std::nullopt;
  }

  Result<ExprPtr> expression(int limit = 0) {
    Deeper deeper(depth_);
    if (depth_ > kMaxDepth) return malformed(peek().line, "less nesting");
    ExprPtr left;
    if (auto op = unary_op(peek())) {
      left = node(Expr::Kind::kUnary);
      left->op = *op;
      left->op_span = peek().span;
      ++at_;
      left->a = TRY(expression(kUnaryPriority));
      close(*left);
    } else {
      left = TRY(simple());
    }
    while (true) {
      auto op = infix();
      if (!op || op->left <= limit) return left;
      auto both = node(op->kind);
      both->op = op->op;
      both->op_span = peek().span;
      both->span.begin = left->span.begin;
      ++at_;
      both->a = std::move(left);
      both->b = TRY(expression(op->right));
      close(*both);
      left = std::move(both);
    }
  }

  Result<ExprPtr> simple() {
    const Token& token = peek();
    auto literal = [&](Expr::Kind kind) {
      auto out = node(kind);
      out->integer = token.integer;
      out->real = token.real;
      out->text = token.text;
      ++at_;
      return out;
    };
    if (token.kind == TokenKind::kInteger) return literal(Expr::Kind::kInteger);
    if (token.kind == TokenKind::kReal) return literal(Expr::Kind::kReal);
    if (token.kind == TokenKind::kText) return literal(Expr::Kind::kText);
    if (is("nil")) return literal(Expr::Kind::kNil);
    if (is("true")) return literal(Expr::Kind::kTrue);
    if (is("false")) return literal(Expr::Kind::kFalse);
    if (is("...")) return literal(Expr::Kind::kVararg);
    if (is("{")) return table();
    if (accept("function")) return function_body(false);
    return suffixed();
  }

  Result<ExprPtr> primary() {
    if (peek().kind == TokenKind::kName) {
      auto out = variable(peek().text);
      ++at_;
      return out;
    }
    if (!is("(")) return malformed(peek().line, "an expression");
    auto out = node(Expr::Kind::kParen);
    ++at_;
    out->a = TRY(expression());
    TRY(expect(")"));
    close(*out);
    return out;
  }

  Result<ExprPtr> suffixed() {
    auto out = TRY(primary());
    while (true) {
      bool call = is("(") || is("{") || peek().kind == TokenKind::kText;
      if (!call && !is(".") && !is("[") && !is(":")) return out;
      auto next = node(call ? Expr::Kind::kCall : Expr::Kind::kIndex);
      next->span.begin = out->span.begin;
      if (accept(".")) {
        next->b = node(Expr::Kind::kText);
        next->b->text = TRY(name());
      } else if (accept("[")) {
        next->b = TRY(expression());
        TRY(expect("]"));
      } else {
        if (accept(":")) {
          next->kind = Expr::Kind::kMethod;
          next->text = TRY(name());
        }
        next->list = TRY(arguments());
      }
      next->a = std::move(out);
      close(*next);
      out = std::move(next);
    }
  }

  Result<std::vector<ExprPtr>> arguments() {
    std::vector<ExprPtr> out;
    if (peek().kind == TokenKind::kText || is("{")) {
      out.push_back(TRY(simple()));
      return out;
    }
    TRY(expect("("));
    if (!is(")")) out = TRY(expressions());
    TRY(expect(")"));
    return out;
  }

  Result<ExprPtr> table() {
    auto out = node(Expr::Kind::kTable);
    TRY(expect("{"));
    while (!is("}")) {
      ExprPtr key;
      if (accept("[")) {
        key = TRY(expression());
        TRY(expect("]"));
        TRY(expect("="));
      } else if (peek().kind == TokenKind::kName && peek(1).kind == TokenKind::kSymbol &&
                 peek(1).text == "=") {
        key = node(Expr::Kind::kText);
        key->text = peek().text;
        at_ += 2;
      }
      out->keys.push_back(std::move(key));
      out->list.push_back(TRY(expression()));
      if (!accept(",") && !accept(";")) break;
    }
    TRY(expect("}"));
    close(*out);
    return out;
  }

  std::vector<Token> tokens_;
  uint32_t& site_;
  size_t at_ = 0;
  int depth_ = 0;
  Scope* scope_ = nullptr;
};

}  // namespace

bool is_comparison(Op op) {
  return op >= Op::kEq && op <= Op::kGe;
}

Result<std::vector<Token>> tokens_of(std::string_view source) {
  return Lexer(source).all();
}

Result<std::shared_ptr<const Chunk>> parse_chunk(std::string source, uint32_t& first_site) {
  auto chunk = std::make_shared<Chunk>();
  chunk->source = std::move(source);
  auto tokens = TRY(tokens_of(chunk->source));
  TRY(Parser(std::move(tokens), first_site).chunk(chunk->main));
  return std::shared_ptr<const Chunk>(chunk);
}

}  // namespace souk::policy::analysis
