// Lua 5.4 Reference Manual, section 3.4.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "policy/analysis/machine.h"

namespace souk::policy::analysis {
namespace {

constexpr size_t kMaxEvents = 400;

int64_t wrapped(uint64_t value) {
  return static_cast<int64_t>(value);
}

std::string number_text(const Value& value) {
  if (value.tag == Value::Tag::kInteger) return std::to_string(value.integer);
  char text[64];
  std::snprintf(text, sizeof text, "%.14g", value.real);
  std::string out = text;
  if (out.find_first_of(".eEni") == std::string::npos) out += ".0";
  return out;
}

// An integer that the real is, if it is one.
bool whole(const Value& value, int64_t& out) {
  if (value.tag == Value::Tag::kInteger) {
    out = value.integer;
    return true;
  }
  if (value.tag != Value::Tag::kReal || std::floor(value.real) != value.real ||
      std::fabs(value.real) >= 9.2e18)
    return false;
  out = static_cast<int64_t>(value.real);
  return true;
}

}  // namespace

std::string Interpreter::text_of(const Value& value) const {
  switch (value.tag) {
    case Value::Tag::kNil:
      return "nil";
    case Value::Tag::kBoolean:
      return value.boolean ? "true" : "false";
    case Value::Tag::kInteger:
    case Value::Tag::kReal:
      return number_text(value);
    case Value::Tag::kText:
      return *value.text;
    case Value::Tag::kClosure:
    case Value::Tag::kBuiltin:
      return "function";
    default:
      return "table";
  }
}

Seen Interpreter::seen(const Value& value) const {
  Seen out;
  switch (value.tag) {
    case Value::Tag::kNil:
      break;
    case Value::Tag::kInteger:
      out.kind = Seen::Kind::kInteger;
      out.integer = value.integer;
      break;
    case Value::Tag::kReal:
      out.kind = Seen::Kind::kReal;
      out.real = value.real;
      break;
    case Value::Tag::kText:
      out.kind = Seen::Kind::kText;
      out.text = *value.text;
      break;
    case Value::Tag::kBoolean:
      out.kind = Seen::Kind::kInteger;
      out.integer = value.boolean ? 1 : 0;
      break;
    default:
      out.kind = Seen::Kind::kOther;
  }
  return out;
}

void Interpreter::note(uint32_t site, Event::Kind kind, Op op, bool outcome, const Value& left,
                       const Value& right) {
  if (!noting || site == 0 || events.size() >= kMaxEvents) return;
  events.push_back({site, kind, op, outcome, seen(left), seen(right)});
}

bool Interpreter::compare(const Expr& expr, const Value& a, const Value& b) {
  bool equality = expr.op == Op::kEq || expr.op == Op::kNe;
  bool outcome = false;
  if (equality) {
    outcome = same(a, b) == (expr.op == Op::kEq);
  } else if (a.is_number() && b.is_number()) {
    bool integers = a.tag == Value::Tag::kInteger && b.tag == Value::Tag::kInteger;
    auto ordered = [&](const auto& x, const auto& y) {
      switch (expr.op) {
        case Op::kLt:
          return x < y;
        case Op::kLe:
          return x <= y;
        case Op::kGt:
          return x > y;
        default:
          return x >= y;
      }
    };
    outcome = integers ? ordered(a.integer, b.integer) : ordered(a.number(), b.number());
  } else if (a.tag == Value::Tag::kText && b.tag == Value::Tag::kText) {
    int order = a.text->compare(*b.text);
    outcome = expr.op == Op::kLt   ? order < 0
              : expr.op == Op::kLe ? order <= 0
              : expr.op == Op::kGt ? order > 0
                                   : order >= 0;
  } else {
    fail("attempt to compare different things");
  }
  note(expr.site, Event::Kind::kCompare, expr.op, outcome, a, b);
  return outcome;
}

Value Interpreter::binary(const Expr& expr, const Value& a, const Value& b) {
  if (is_comparison(expr.op)) return Value::of(compare(expr, a, b));
  if (expr.op == Op::kConcat) return concat(a, b);
  if (expr.op >= Op::kBand && expr.op <= Op::kShr) return bitwise(expr.op, a, b);
  return arithmetic(expr, a, b);
}

Value Interpreter::arithmetic(const Expr& expr, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number())
    fail("attempt to perform arithmetic on something that is no number");
  bool integers = a.tag == Value::Tag::kInteger && b.tag == Value::Tag::kInteger;
  auto x = static_cast<uint64_t>(a.integer), y = static_cast<uint64_t>(b.integer);
  switch (expr.op) {
    case Op::kAdd:
      return integers ? Value::of(wrapped(x + y)) : Value::of(a.number() + b.number());
    case Op::kSub:
      return integers ? Value::of(wrapped(x - y)) : Value::of(a.number() - b.number());
    case Op::kMul:
      return integers ? Value::of(wrapped(x * y)) : Value::of(a.number() * b.number());
    case Op::kDiv:
      return Value::of(a.number() / b.number());
    case Op::kPow:
      return Value::of(std::pow(a.number(), b.number()));
    default:
      break;
  }
  if (!integers) {
    double quotient = std::floor(a.number() / b.number());
    if (expr.op == Op::kIDiv) return Value::of(quotient);
    double rest = std::fmod(a.number(), b.number());
    if (rest != 0 && (rest < 0) != (b.number() < 0)) rest += b.number();
    return Value::of(rest);
  }
  note(expr.site, Event::Kind::kDivisor, Op::kNe, b.integer != 0, b, Value::of(int64_t{0}));
  if (b.integer == 0) fail("attempt to divide by zero");
  if (b.integer == -1) return Value::of(expr.op == Op::kIDiv ? wrapped(0 - x) : int64_t{0});
  int64_t quotient = a.integer / b.integer, rest = a.integer % b.integer;
  if (rest != 0 && (rest < 0) != (b.integer < 0)) {
    --quotient;
    rest += b.integer;
  }
  return Value::of(expr.op == Op::kIDiv ? quotient : rest);
}

Value Interpreter::bitwise(Op op, const Value& a, const Value& b) {
  int64_t left = 0, right = 0;
  if (!whole(a, left) || !whole(b, right)) fail("number has no integer representation");
  auto x = static_cast<uint64_t>(left), y = static_cast<uint64_t>(right);
  auto shifted = [](uint64_t value, int64_t by) {  // to the left
    if (by >= 64 || by <= -64) return uint64_t{0};
    return by >= 0 ? value << by : value >> -by;
  };
  switch (op) {
    case Op::kBand:
      return Value::of(wrapped(x & y));
    case Op::kBor:
      return Value::of(wrapped(x | y));
    case Op::kBxor:
      return Value::of(wrapped(x ^ y));
    case Op::kShl:
      return Value::of(wrapped(shifted(x, right)));
    default:
      return Value::of(wrapped(shifted(x, right == INT64_MIN ? 64 : -right)));
  }
}

Value Interpreter::concat(const Value& a, const Value& b) {
  auto joinable = [](const Value& value) {
    return value.tag == Value::Tag::kText || value.is_number();
  };
  if (!joinable(a) || !joinable(b)) fail("attempt to concatenate something that is no text");
  std::string out = text_of(a) + text_of(b);
  if (out.size() > 16'384) throw LimitError{};
  return text(std::move(out));
}

int64_t Interpreter::length(const Value& value) {
  if (value.tag == Value::Tag::kText) return static_cast<int64_t>(value.text->size());
  if (value.tag == Value::Tag::kTable) return static_cast<int64_t>(value.table->items.size());
  if (value.tag == Value::Tag::kInput && value.self == nullptr) {
    const FieldNode& node = *value.input;
    if (node.field->kind == FieldKind::kBlocks)
      return static_cast<int64_t>((*value.slots)[node.slot].blocks.size());
    if (node.field->kind != FieldKind::kBlock)
      return static_cast<int64_t>((*value.slots)[node.slot].list.size());
  }
  fail("attempt to get the length of something that has none");
}

Value Interpreter::unary(const Expr& expr, const Value& a) {
  int64_t bits = 0;
  switch (expr.op) {
    case Op::kNot:
      if (expr.a->kind != Expr::Kind::kBinary && expr.a->kind != Expr::Kind::kParen) {
        note(expr.a->site, Event::Kind::kTruth, Op::kEq, a.truthy(), a, {});
      }
      return Value::of(!a.truthy());
    case Op::kLen:
      return Value::of(length(a));
    case Op::kBnot:
      if (!whole(a, bits)) fail("number has no integer representation");
      return Value::of(~bits);
    default:
      if (a.tag == Value::Tag::kInteger)
        return Value::of(wrapped(0 - static_cast<uint64_t>(a.integer)));
      if (a.tag == Value::Tag::kReal) return Value::of(-a.real);
      fail("attempt to perform arithmetic on something that is no number");
  }
}

}  // namespace souk::policy::analysis
