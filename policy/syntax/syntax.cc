#include "policy/syntax/syntax.h"

#include <algorithm>
#include <map>

namespace souk::policy {
namespace {

using Kind = Expression::Kind;
using ExpressionPtr = std::unique_ptr<Expression>;
// Past what the interpreter parses (200 levels): that a text is too deep is for it to say.
constexpr int kMaxDepth = 250;

struct Priority {
  int left, right;
};
const std::map<std::string_view, Priority> kBinary = {
    {"or", {1, 1}},  {"and", {2, 2}}, {"<", {3, 3}},   {">", {3, 3}},    {"<=", {3, 3}},
    {">=", {3, 3}},  {"~=", {3, 3}},  {"==", {3, 3}},  {"|", {4, 4}},    {"~", {5, 5}},
    {"&", {6, 6}},   {"<<", {7, 7}},  {">>", {7, 7}},  {"..", {9, 8}},   {"+", {10, 10}},
    {"-", {10, 10}}, {"*", {11, 11}}, {"/", {11, 11}}, {"//", {11, 11}}, {"%", {11, 11}},
    {"^", {14, 13}}};
constexpr int kUnaryPriority = 12;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<std::unique_ptr<Block>> chunk() {
    auto block = TRY(read_block());
    if (now().kind != Token::Kind::kEnd) return wrong("the end of the text");
    return block;
  }

 private:
  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Error wrong(const std::string& expected) const {
    return Error(Code::kMalformed, "line " + std::to_string(now().line) + ": expected " + expected);
  }
  bool accept(std::string_view what) {
    if (!now().is(what)) return false;
    ++at_;
    return true;
  }
  Status need(std::string_view what) {
    if (!accept(what)) return wrong(std::string(what));
    return Done{};
  }
  Result<std::string> need_name() {
    if (now().kind != Token::Kind::kName) return wrong("a name");
    return std::string(tokens_[at_++].source);
  }

  struct Deeper {
    explicit Deeper(int& depth) : depth_(++depth) {}
    ~Deeper() { --depth_; }
    int& depth_;
  };

  bool ends_block() const {
    return now().kind == Token::Kind::kEnd || now().is("end") || now().is("else") ||
           now().is("elseif") || now().is("until");
  }

  Result<std::unique_ptr<Block>> read_block() {
    Deeper deeper(depth_);
    if (depth_ > kMaxDepth) return wrong("fewer levels");
    auto block = std::make_unique<Block>();
    while (!ends_block()) {
      auto statement = TRY(read_statement());
      bool last = statement->kind == Statement::Kind::kReturn;
      if (statement->kind != Statement::Kind::kEmpty)
        block->statements.push_back(std::move(statement));
      if (last) break;
    }
    return block;
  }

  Result<std::unique_ptr<Statement>> read_statement() {
    auto statement = std::make_unique<Statement>();
    statement->begin = now().begin;
    statement->line = now().line;
    statement->column = now().column;
    TRY(read_into(*statement));
    statement->end = tokens_[at_ > 0 ? at_ - 1 : 0].end;
    return statement;
  }

  Status add_block(Statement& statement) {
    auto block = TRY(read_block());
    statement.blocks.push_back(std::move(block));
    return Done{};
  }
  Status add_expression(Statement& statement) {
    auto expression = TRY(read_expression(0));
    statement.expressions.push_back(std::move(expression));
    return Done{};
  }
  Status add_expressions(Statement& statement) {
    do {
      TRY(add_expression(statement));
    } while (accept(","));
    return Done{};
  }

  Status read_into(Statement& s) {
    using StatementKind = Statement::Kind;
    if (accept(";")) return Done{};
    if (accept("if")) {
      s.kind = StatementKind::kIf;
      do {
        TRY(add_expression(s));
        TRY(need("then"));
        TRY(add_block(s));
      } while (accept("elseif"));
      if (accept("else")) TRY(add_block(s));
      return need("end");
    }
    if (accept("while")) {
      s.kind = StatementKind::kWhile;
      TRY(add_expression(s));
      TRY(need("do"));
      TRY(add_block(s));
      return need("end");
    }
    if (accept("do")) {
      s.kind = StatementKind::kDo;
      TRY(add_block(s));
      return need("end");
    }
    if (accept("repeat")) {
      s.kind = StatementKind::kRepeat;
      TRY(add_block(s));
      TRY(need("until"));
      return add_expression(s);
    }
    if (accept("for")) return read_for(s);
    if (accept("function")) return read_function_statement(s);
    if (accept("local")) return read_local(s);
    if (accept("::")) {
      s.kind = StatementKind::kLabel;
      s.names.push_back(TRY(need_name()));
      return need("::");
    }
    if (accept("return")) {
      s.kind = StatementKind::kReturn;
      if (!ends_block() && !now().is(";")) TRY(add_expressions(s));
      accept(";");
      return Done{};
    }
    if (accept("break")) {
      s.kind = StatementKind::kBreak;
      return Done{};
    }
    if (accept("goto")) {
      s.kind = StatementKind::kGoto;
      s.names.push_back(TRY(need_name()));
      return Done{};
    }
    auto first = TRY(read_suffixed());
    if (first->kind == Kind::kCall || first->kind == Kind::kMethod) {
      s.kind = StatementKind::kCall;
      s.expressions.push_back(std::move(first));
      return Done{};
    }
    s.kind = StatementKind::kAssign;
    s.targets.push_back(std::move(first));
    while (accept(",")) {
      auto more = TRY(read_suffixed());
      s.targets.push_back(std::move(more));
    }
    for (const auto& target : s.targets) {
      if (target->kind != Kind::kName && target->kind != Kind::kIndex)
        return wrong("something that can be assigned to");
    }
    TRY(need("="));
    return add_expressions(s);
  }

  Status read_for(Statement& s) {
    s.names.push_back(TRY(need_name()));
    s.kind = now().is("=") ? Statement::Kind::kNumericFor : Statement::Kind::kGenericFor;
    while (accept(",")) s.names.push_back(TRY(need_name()));
    if (!accept("=")) TRY(need("in"));
    TRY(add_expressions(s));
    const bool numeric = s.kind == Statement::Kind::kNumericFor;
    if (numeric && (s.names.size() != 1 || s.expressions.size() < 2 || s.expressions.size() > 3))
      return wrong("one name, and two or three limits of the loop");
    TRY(need("do"));
    TRY(add_block(s));
    return need("end");
  }

  Status read_function_statement(Statement& s) {
    s.kind = Statement::Kind::kFunction;
    auto target = TRY(read_name());
    bool method = false;
    while (now().is(".") || now().is(":")) {
      method = now().is(":");
      ++at_;
      auto index = begin(Kind::kIndex);
      auto key = begin(Kind::kText);
      key->text = TRY(need_name());
      finish(*key);
      index->begin = target->begin;
      index->parts.push_back(std::move(target));
      index->parts.push_back(std::move(key));
      finish(*index);
      target = std::move(index);
      if (method) break;
    }
    s.targets.push_back(std::move(target));
    auto body = TRY(read_function_body());
    if (method) body->parameters.insert(body->parameters.begin(), "self");
    s.expressions.push_back(std::move(body));
    return Done{};
  }

  Status read_local(Statement& s) {
    if (accept("function")) {
      s.kind = Statement::Kind::kLocalFunction;
      s.names.push_back(TRY(need_name()));
      auto body = TRY(read_function_body());
      s.expressions.push_back(std::move(body));
      return Done{};
    }
    s.kind = Statement::Kind::kLocal;
    do {
      s.names.push_back(TRY(need_name()));
      if (accept("<")) {
        auto attribute = TRY(need_name());
        if (attribute != "const" && attribute != "close") return wrong("<const> or <close>");
        s.closes = s.closes || attribute == "close";
        TRY(need(">"));
      }
    } while (accept(","));
    if (accept("=")) return add_expressions(s);
    return Done{};
  }

  // --- expressions ---------------------------------------------------------------

  ExpressionPtr begin(Kind kind) const {
    auto expression = std::make_unique<Expression>();
    expression->kind = kind;
    expression->begin = now().begin;
    expression->line = now().line;
    expression->column = now().column;
    return expression;
  }
  void finish(Expression& expression) const { expression.end = tokens_[at_ > 0 ? at_ - 1 : 0].end; }

  Result<ExpressionPtr> read_expression(int limit) {
    Deeper deeper(depth_);
    if (depth_ > kMaxDepth) return wrong("fewer levels");
    ExpressionPtr left;
    bool unary = now().is("not") || now().is("-") || now().is("#") || now().is("~");
    if (unary) {
      left = begin(Kind::kUnary);
      take_operator(*left);
      auto operand = TRY(read_expression(kUnaryPriority));
      left->parts.push_back(std::move(operand));
      finish(*left);
    } else {
      left = TRY(read_simple());
    }
    while (now().kind == Token::Kind::kSign || now().kind == Token::Kind::kKeyword) {
      auto found = kBinary.find(now().source);
      if (found == kBinary.end() || found->second.left <= limit) break;
      auto binary = begin(Kind::kBinary);
      take_operator(*binary);
      binary->begin = left->begin;
      binary->line = left->line;
      binary->column = left->column;
      auto right = TRY(read_expression(found->second.right));
      binary->parts.push_back(std::move(left));
      binary->parts.push_back(std::move(right));
      finish(*binary);
      left = std::move(binary);
    }
    return left;
  }

  void take_operator(Expression& expression) {
    expression.text = now().source;
    expression.op_begin = now().begin;
    expression.op_end = now().end;
    expression.op_line = now().line;
    ++at_;
  }
  ExpressionPtr take(Kind kind) {
    auto expression = begin(kind);
    expression->text = kind == Kind::kText ? now().value : std::string(now().source);
    expression->whole = now().whole;
    expression->integer = now().integer;
    expression->real = now().real;
    ++at_;
    finish(*expression);
    return expression;
  }

  Result<ExpressionPtr> read_simple() {
    if (now().kind == Token::Kind::kNumber) return take(Kind::kNumber);
    if (now().kind == Token::Kind::kText) return take(Kind::kText);
    if (now().is("nil")) return take(Kind::kNil);
    if (now().is("true")) return take(Kind::kTrue);
    if (now().is("false")) return take(Kind::kFalse);
    if (now().is("...")) return take(Kind::kVararg);
    if (now().is("{")) return read_table();
    if (now().is("function")) {
      ++at_;
      return read_function_body();
    }
    return read_suffixed();
  }

  Result<ExpressionPtr> read_name() {
    if (now().kind != Token::Kind::kName) return wrong("an expression");
    return take(Kind::kName);
  }

  Result<ExpressionPtr> read_suffixed() {
    ExpressionPtr out;
    if (now().is("(")) {
      out = begin(Kind::kParen);
      ++at_;
      auto inside = TRY(read_expression(0));
      TRY(need(")"));
      out->parts.push_back(std::move(inside));
      finish(*out);
    } else {
      out = TRY(read_name());
    }
    while (true) {
      auto wrap = [&](Kind kind) {
        auto outer = begin(kind);
        outer->begin = out->begin;
        outer->line = out->line;
        outer->column = out->column;
        outer->parts.push_back(std::move(out));
        return outer;
      };
      if (now().is(".")) {
        ++at_;
        auto key = begin(Kind::kText);
        key->text = TRY(need_name());
        finish(*key);
        out = wrap(Kind::kIndex);
        out->parts.push_back(std::move(key));
      } else if (now().is("[")) {
        ++at_;
        auto key = TRY(read_expression(0));
        TRY(need("]"));
        out = wrap(Kind::kIndex);
        out->parts.push_back(std::move(key));
      } else if (now().is(":")) {
        ++at_;
        auto name = TRY(need_name());
        out = wrap(Kind::kMethod);
        out->text = std::move(name);
        TRY(read_arguments(*out));
      } else if (now().is("(") || now().is("{") || now().kind == Token::Kind::kText) {
        out = wrap(Kind::kCall);
        TRY(read_arguments(*out));
      } else {
        return out;
      }
      finish(*out);
    }
  }

  Status read_arguments(Expression& call) {
    if (now().kind == Token::Kind::kText) {
      call.parts.push_back(take(Kind::kText));
      return Done{};
    }
    if (now().is("{")) {
      auto table = TRY(read_table());
      call.parts.push_back(std::move(table));
      return Done{};
    }
    TRY(need("("));
    if (accept(")")) return Done{};
    do {
      auto argument = TRY(read_expression(0));
      call.parts.push_back(std::move(argument));
    } while (accept(","));
    return need(")");
  }

  Result<ExpressionPtr> read_table() {
    auto table = begin(Kind::kTable);
    TRY(need("{"));
    while (!now().is("}")) {
      Expression::Field field;
      if (now().kind == Token::Kind::kName && next().is("=")) {
        field.key = begin(Kind::kText);
        field.key->text = TRY(need_name());
        finish(*field.key);
        TRY(need("="));
      } else if (accept("[")) {
        field.key = TRY(read_expression(0));
        TRY(need("]"));
        TRY(need("="));
      }
      field.value = TRY(read_expression(0));
      table->fields.push_back(std::move(field));
      if (!accept(",") && !accept(";")) break;
    }
    TRY(need("}"));
    finish(*table);
    return table;
  }

  // After `function` and its name.
  Result<ExpressionPtr> read_function_body() {
    auto function = begin(Kind::kFunction);
    TRY(need("("));
    while (!now().is(")")) {
      if (accept("...")) {
        function->parameters.push_back("...");
        break;
      } else {
        function->parameters.push_back(TRY(need_name()));
      }
      if (!accept(",")) break;
    }
    TRY(need(")"));
    function->body = TRY(read_block());
    TRY(need("end"));
    finish(*function);
    return function;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

bool Expression::is_comparison() const {
  return kind == Kind::kBinary && (text == "==" || text == "~=" || text == "<" || text == "<=" ||
                                   text == ">" || text == ">=");
}

Result<std::unique_ptr<Block>> parse_lua(std::string_view source) {
  auto tokens = TRY(tokens_of(source));
  return Parser(std::move(tokens)).chunk();
}

}  // namespace souk::policy
