#include "policy/lint/shape.h"

#include <algorithm>
#include <charconv>

namespace souk::policy {
namespace {

using Kind = Expression::Kind;
using StatementKind = Statement::Kind;

bool breaks(const Block& block) {
  for (const auto& s : block.statements) {
    if (s->kind == StatementKind::kBreak || s->kind == StatementKind::kGoto) return true;
    bool own_loop = s->kind == StatementKind::kWhile || s->kind == StatementKind::kRepeat ||
                    s->kind == StatementKind::kNumericFor || s->kind == StatementKind::kGenericFor;
    if (own_loop) continue;
    for (const auto& inner : s->blocks) {
      if (breaks(*inner)) return true;
    }
  }
  return false;
}

}  // namespace

const char* type_name(Type type) {
  constexpr const char* kNames[] = {"unknown",       "nil",    "true or false", "a number",
                                    "a real number", "a text", "a table",       "a function"};
  return kNames[static_cast<size_t>(type)];
}
bool is_number(Type type) {
  return type == Type::kInteger || type == Type::kReal;
}

const Expression& bare(const Expression& expression) {
  const Expression* at = &expression;
  while (at->kind == Kind::kParen) at = at->parts[0].get();
  return *at;
}

std::string mirrored(const std::string& op) {
  if (op == "<") return ">";
  if (op == "<=") return ">=";
  if (op == ">") return "<";
  if (op == ">=") return "<=";
  return op;
}
std::string opposite(const std::string& op) {
  if (op == "<") return ">=";
  if (op == "<=") return ">";
  if (op == ">") return "<=";
  if (op == ">=") return "<";
  return op == "==" ? "~=" : "==";
}
Range narrowed(Range range, const std::string& op, int64_t value) {
  if (op == "<") range.high = std::min(range.high, value == INT64_MIN ? value : value - 1);
  if (op == "<=" || op == "==") range.high = std::min(range.high, value);
  if (op == ">") range.low = std::max(range.low, value == INT64_MAX ? value : value + 1);
  if (op == ">=" || op == "==") range.low = std::max(range.low, value);
  if (op == "~=" && range.low == value) ++range.low;
  if (op == "~=" && range.high == value) --range.high;
  return range;
}

std::optional<int64_t> whole_constant(const Expression& expression) {
  const Expression& at = bare(expression);
  if (at.kind == Kind::kUnary && at.text == "-") {
    auto inside = whole_constant(*at.parts[0]);
    return inside ? std::optional(-*inside) : std::nullopt;
  }
  if (at.kind == Kind::kBinary && at.text == "*") {
    auto a = whole_constant(*at.parts[0]), b = whole_constant(*at.parts[1]);
    int64_t product = 0;
    if (a && b && !__builtin_mul_overflow(*a, *b, &product)) return product;
    return std::nullopt;
  }
  if (at.kind != Kind::kNumber) return std::nullopt;
  int64_t value = 0;
  auto [end, status] = std::from_chars(at.text.data(), at.text.data() + at.text.size(), value);
  if (status != std::errc() || end != at.text.data() + at.text.size()) return std::nullopt;
  return value;
}

bool calls(const Expression& expression, std::string_view name) {
  return expression.kind == Kind::kCall && expression.parts[0]->kind == Kind::kName &&
         expression.parts[0]->text == name;
}

bool leaves(const Statement& s) {
  switch (s.kind) {
    case StatementKind::kReturn:
    case StatementKind::kBreak:
    case StatementKind::kGoto:
      return true;
    case StatementKind::kCall:
      return calls(*s.expressions[0], "error");
    case StatementKind::kDo:
      return leaves(*s.blocks[0]);
    case StatementKind::kWhile:
      return bare(*s.expressions[0]).kind == Kind::kTrue && !breaks(*s.blocks[0]);
    case StatementKind::kIf:
      if (s.blocks.size() == s.expressions.size()) return false;
      return std::all_of(s.blocks.begin(), s.blocks.end(),
                         [](const auto& block) { return leaves(*block); });
    default:
      return false;
  }
}
bool leaves(const Block& block) {
  return std::any_of(block.statements.begin(), block.statements.end(),
                     [](const auto& s) { return leaves(*s); });
}

}  // namespace souk::policy
