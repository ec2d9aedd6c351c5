// Expressions, calls and what an index finds. Lua 5.4 Reference Manual, section 3.4.
#include "policy/analysis/machine.h"

namespace souk::policy::analysis {
namespace {

bool is_condition(const Expr& expr) {
  bool compares = expr.kind == Expr::Kind::kBinary && is_comparison(expr.op);
  return compares || expr.kind == Expr::Kind::kAnd || expr.kind == Expr::Kind::kOr ||
         (expr.kind == Expr::Kind::kUnary && expr.op == Op::kNot) ||
         expr.kind == Expr::Kind::kParen || expr.kind == Expr::Kind::kTrue ||
         expr.kind == Expr::Kind::kFalse || expr.kind == Expr::Kind::kNil;
}

}  // namespace

bool Interpreter::condition(const Expr& expr, Frame& frame) {
  Value value = eval(expr, frame);
  bool outcome = value.truthy();
  if (!is_condition(expr)) note(expr.site, Event::Kind::kTruth, Op::kEq, outcome, value, {});
  return outcome;
}

Values Interpreter::eval_list(const std::vector<ExprPtr>& list, Frame& frame) {
  Values out;
  out.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    if (i + 1 == list.size()) {
      eval_multi(*list[i], frame, out);
    } else {
      out.push_back(eval(*list[i], frame));
    }
  }
  return out;
}

void Interpreter::eval_multi(const Expr& expr, Frame& frame, Values& out) {
  if (expr.kind == Expr::Kind::kCall || expr.kind == Expr::Kind::kMethod) {
    Values values = call_expr(expr, frame);
    out.insert(out.end(), values.begin(), values.end());
  } else if (expr.kind == Expr::Kind::kVararg) {
    out.insert(out.end(), frame.varargs.begin(), frame.varargs.end());
  } else {
    out.push_back(eval(expr, frame));
  }
}

Values Interpreter::call_expr(const Expr& expr, Frame& frame) {
  step();
  Value callee = eval(*expr.a, frame);
  if (expr.kind == Expr::Kind::kCall) return call(callee, eval_list(expr.list, frame), expr.site);
  Value self = callee;
  callee = index(self, Value::of(&expr.text), 0);
  Values arguments = eval_list(expr.list, frame);
  arguments.insert(arguments.begin(), self);
  return call(callee, std::move(arguments), expr.site);
}

Values Interpreter::call(const Value& function, Values arguments, uint32_t site) {
  if (function.tag == Value::Tag::kClosure)
    return run_function(*function.closure, std::move(arguments));
  if (function.tag == Value::Tag::kBuiltin) return builtin(function.builtin, arguments, site);
  fail("attempt to call something that is no function");
}

Value Interpreter::index(const Value& object, const Value& key, uint32_t site) {
  if (object.tag == Value::Tag::kTable) {
    const Value* found = object.table->find(key);
    bool there = found && found->tag != Value::Tag::kNil;
    if (site != 0 && key.tag == Value::Tag::kText) {
      Value like;  // something the key could have been
      for (const auto& [name, value] : object.table->named) {
        if (name.tag == Value::Tag::kText && value.truthy() && !same(name, key)) like = name;
      }
      if (there || like.tag != Value::Tag::kNil)
        note(site, Event::Kind::kLookup, Op::kEq, there, key, like);
    } else if (site != 0 && key.tag == Value::Tag::kInteger) {
      Value like;
      if (!object.table->items.empty())
        like = Value::of(static_cast<int64_t>(object.table->items.size()));
      for (const auto& [name, value] : object.table->named) {
        if (name.tag == Value::Tag::kInteger && value.truthy()) like = name;
      }
      if (there || like.tag != Value::Tag::kNil)
        note(site, Event::Kind::kLookup, Op::kEq, there, key, like);
    }
    return there ? *found : Value{};
  }
  if (object.tag == Value::Tag::kText) {
    const Value* found = strings_->find(key);
    return found ? *found : Value{};
  }
  if (object.tag != Value::Tag::kInput) fail("attempt to index something that is no table");
  const FieldNode& node = *object.input;
  const bool in_block = node.field->kind == FieldKind::kBlock || object.self != nullptr;
  if (in_block) {
    const FieldNode* member = key.tag == Value::Tag::kText ? node.member(*key.text) : nullptr;
    if (!member || !Space::is_there(*member, *object.slots)) fail("there is no such member");
    const Slot* slot =
        member->field->kind == FieldKind::kBlock ? nullptr : &(*object.slots)[member->slot];
    switch (member->field->kind) {
      case FieldKind::kInteger:
        return Value::of(slot->integer);
      case FieldKind::kBoolean:
        return Value::of(slot->integer != 0);
      case FieldKind::kToken:
      case FieldKind::kText:
        return Value::of(&slot->text);
      default:
        return Value::of(member, object.slots);
    }
  }
  if (key.tag != Value::Tag::kInteger) fail("expected a position in the list");
  const Slot& slot = (*object.slots)[node.slot];
  auto at = static_cast<uint64_t>(key.integer - 1);
  if (node.field->kind == FieldKind::kBlocks) {
    if (at >= slot.blocks.size()) return Value{};
    Value block = Value::of(&node, &slot.blocks[at]);
    block.self = &globals_;  // one of the blocks, not their list
    return block;
  }
  return at < slot.list.size() ? Value::of(&slot.list[at]) : Value{};
}

Value Interpreter::eval(const Expr& expr, Frame& frame) {
  step();
  using Kind = Expr::Kind;
  switch (expr.kind) {
    case Kind::kNil:
      return {};
    case Kind::kTrue:
      return Value::of(true);
    case Kind::kFalse:
      return Value::of(false);
    case Kind::kInteger:
      return Value::of(expr.integer);
    case Kind::kReal:
      return Value::of(expr.real);
    case Kind::kText:
      return Value::of(&expr.text);
    case Kind::kVararg:
      return frame.varargs.empty() ? Value{} : frame.varargs[0];
    case Kind::kFunction:
      return make_closure(*expr.function, frame);
    case Kind::kLocal:
      return local(*expr.local, frame);
    case Kind::kUpvalue:
      return *frame.closure->upvalues[expr.upvalue];
    case Kind::kGlobal: {
      const Value* found = globals_.find(Value::of(&expr.text));
      return found ? *found : Value{};
    }
    case Kind::kIndex: {
      Value object = eval(*expr.a, frame);
      bool fixed = expr.b->kind == Kind::kText || expr.b->kind == Kind::kInteger;
      Value key =
          fixed && expr.b->kind == Kind::kText ? Value::of(&expr.b->text) : eval(*expr.b, frame);
      return index(object, key, fixed ? 0 : expr.site);
    }
    case Kind::kCall:
    case Kind::kMethod: {
      Values out = call_expr(expr, frame);
      return out.empty() ? Value{} : out[0];
    }
    case Kind::kParen:
      return eval(*expr.a, frame);
    case Kind::kAnd: {
      Value left = eval(*expr.a, frame);
      if (!is_condition(*expr.a))
        note(expr.a->site, Event::Kind::kTruth, Op::kEq, left.truthy(), left, {});
      if (!left.truthy()) return left;
      Value right = eval(*expr.b, frame);
      if (!is_condition(*expr.b))
        note(expr.b->site, Event::Kind::kTruth, Op::kEq, right.truthy(), right, {});
      return right;
    }
    case Kind::kOr: {
      Value left = eval(*expr.a, frame);
      if (!is_condition(*expr.a))
        note(expr.a->site, Event::Kind::kTruth, Op::kEq, left.truthy(), left, {});
      return left.truthy() ? left : eval(*expr.b, frame);
    }
    case Kind::kUnary:
      return unary(expr, eval(*expr.a, frame));
    case Kind::kBinary: {
      Value left = eval(*expr.a, frame);
      return binary(expr, left, eval(*expr.b, frame));
    }
    case Kind::kTable: {
      Table& table = new_table();
      for (size_t i = 0; i < expr.list.size(); ++i) {
        if (expr.keys[i]) {
          Value key = eval(*expr.keys[i], frame);
          if (key.tag == Value::Tag::kNil) fail("index is nil");
          table.set(key, eval(*expr.list[i], frame));
        } else if (i + 1 == expr.list.size()) {
          Values rest;
          eval_multi(*expr.list[i], frame, rest);
          for (const Value& value : rest) table.items.push_back(value);
        } else {
          table.items.push_back(eval(*expr.list[i], frame));
        }
      }
      while (!table.items.empty() && table.items.back().tag == Value::Tag::kNil)
        table.items.pop_back();
      return Value::of(&table);
    }
  }
  return {};
}

}  // namespace souk::policy::analysis
