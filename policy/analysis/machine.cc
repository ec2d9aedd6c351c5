// Statements and expressions. Lua 5.4 Reference Manual, section 3.
#include "policy/analysis/machine.h"

#include <algorithm>
#include <cmath>

namespace souk::policy::analysis {
namespace {

constexpr uint64_t kMaxSteps = 400'000;
constexpr size_t kMaxStack = 20'000;
constexpr int kMaxCalls = 180;
constexpr size_t kMaxHeapBytes = 8 << 20;

bool is_condition(const Expr& expr) {
  bool compares = expr.kind == Expr::Kind::kBinary && is_comparison(expr.op);
  return compares || expr.kind == Expr::Kind::kAnd || expr.kind == Expr::Kind::kOr ||
         (expr.kind == Expr::Kind::kUnary && expr.op == Op::kNot) ||
         expr.kind == Expr::Kind::kParen || expr.kind == Expr::Kind::kTrue ||
         expr.kind == Expr::Kind::kFalse || expr.kind == Expr::Kind::kNil;
}

}  // namespace

Interpreter::Interpreter() {
  stack_.resize(kMaxStack);
  install();
}

void Interpreter::reset(const Point& point, const Space& space) {
  heap_.reset();
  events.clear();
  globals_.clear();
  top_ = 0;
  depth_ = 0;
  steps_ = 0;
  for (const auto& [name, value] : library_) globals_.set(Value::of(&name), value);
  static const std::string kRoots[] = {"request", "dataset", "ctx"};
  for (const auto& name : kRoots)
    globals_.set(Value::of(&name), Value::of(&space.root(name), &point));
}

void Interpreter::step() {
  if (++steps_ > kMaxSteps || heap_.bytes > kMaxHeapBytes || heap_.tables.used() > 20'000)
    throw LimitError{};
}

const std::string* Interpreter::intern(std::string text) {
  heap_.bytes += text.size();
  if (heap_.bytes > kMaxHeapBytes) throw LimitError{};
  std::string& place = heap_.texts.take();
  place = std::move(text);
  return &place;
}

Table& Interpreter::new_table() {
  Table& table = heap_.tables.take();
  table.clear();
  return table;
}

void Interpreter::fail(const std::string& message) {
  throw LuaError{text(message)};
}

Values Interpreter::run_chunk(const Chunk& chunk) {
  Closure& closure = heap_.closures.take();
  closure.function = &chunk.main;
  closure.upvalues.clear();
  return run_function(closure, {});
}

Value Interpreter::expression(const Chunk& chunk) {
  Values out = run_chunk(chunk);
  return out.empty() ? Value{} : out[0];
}

Values Interpreter::run_function(const Closure& closure, Values arguments) {
  const Function& function = *closure.function;
  if (++depth_ > kMaxCalls || top_ + function.slots > kMaxStack) {
    --depth_;
    fail("stack overflow");
  }
  Frame frame{&function, &closure, top_, {}};
  top_ += function.slots;
  struct Leave {
    Interpreter& self;
    size_t base;
    ~Leave() {
      self.top_ = base;
      --self.depth_;
    }
  } leave{*this, frame.base};
  for (size_t i = 0; i < function.parameters.size(); ++i) {
    declare(*function.parameters[i], i < arguments.size() ? arguments[i] : Value{}, frame);
  }
  if (function.variadic && arguments.size() > function.parameters.size()) {
    frame.varargs.assign(
        arguments.begin() + static_cast<std::ptrdiff_t>(function.parameters.size()),
        arguments.end());
  }
  Flow flow = block(*function.body, frame);
  if (flow == Flow::kReturn) return std::move(returned_);
  return {};
}

// A captured local lives in a cell; its slot says where.
void Interpreter::declare(const Local& local, const Value& value, Frame& frame) {
  Value& slot = stack_[frame.base + local.slot];
  if (!local.captured) {
    slot = value;
    return;
  }
  Value& cell = heap_.cells.take();
  cell = value;
  slot.tag = Value::Tag::kNil;
  slot.slots = nullptr;
  slot.self = reinterpret_cast<Table*>(&cell);
}
Value& Interpreter::local(const Local& local, Frame& frame) {
  Value& slot = stack_[frame.base + local.slot];
  return local.captured ? *reinterpret_cast<Value*>(slot.self) : slot;
}

Value Interpreter::make_closure(const Function& function, Frame& frame) {
  Closure& closure = heap_.closures.take();
  closure.function = &function;
  closure.upvalues.clear();
  for (const auto& upvalue : function.upvalues) {
    closure.upvalues.push_back(upvalue.local ? &local(*upvalue.local, frame)
                                             : frame.closure->upvalues[upvalue.outer]);
  }
  return Value::of(&closure);
}

Interpreter::Flow Interpreter::block(const Block& block, Frame& frame) {
  for (size_t i = 0; i < block.statements.size(); ++i) {
    Flow flow = statement(*block.statements[i], frame);
    if (flow == Flow::kNormal) continue;
    if (flow != Flow::kGoto) return flow;
    size_t target = 0;
    while (target < block.statements.size() &&
           !(block.statements[target]->kind == Statement::Kind::kLabel &&
             block.statements[target]->label == label_)) {
      ++target;
    }
    if (target == block.statements.size()) return flow;
    i = target;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::statement(const Statement& statement, Frame& frame) {
  step();
  using Kind = Statement::Kind;
  switch (statement.kind) {
    case Kind::kLocal: {
      // A local function sees itself.
      bool itself = statement.values.size() == 1 &&
                    statement.values[0]->kind == Expr::Kind::kFunction &&
                    statement.locals.size() == 1;
      if (itself) declare(*statement.locals[0], Value{}, frame);
      if (statement.values.size() == 1 && statement.locals.size() == 1) {
        Value value = eval(*statement.values[0], frame);
        if (itself) {
          local(*statement.locals[0], frame) = value;
        } else {
          declare(*statement.locals[0], value, frame);
        }
        return Flow::kNormal;
      }
      Values values = eval_list(statement.values, frame);
      for (size_t i = 0; i < statement.locals.size(); ++i)
        declare(*statement.locals[i], i < values.size() ? values[i] : Value{}, frame);
      return Flow::kNormal;
    }
    case Kind::kAssign:
      assign_all(statement, frame);
      return Flow::kNormal;
    case Kind::kCall:
      call_expr(*statement.values[0], frame);
      return Flow::kNormal;
    case Kind::kDo:
      return block(*statement.blocks[0], frame);
    case Kind::kIf:
      for (size_t i = 0; i < statement.targets.size(); ++i) {
        if (condition(*statement.targets[i], frame)) return block(*statement.blocks[i], frame);
      }
      return statement.blocks.size() > statement.targets.size()
                 ? block(*statement.blocks.back(), frame)
                 : Flow::kNormal;
    case Kind::kWhile:
      while (condition(*statement.targets[0], frame)) {
        step();
        Flow flow = block(*statement.blocks[0], frame);
        if (flow == Flow::kBreak) break;
        if (flow != Flow::kNormal) return flow;
      }
      return Flow::kNormal;
    case Kind::kRepeat:
      do {
        step();
        Flow flow = block(*statement.blocks[0], frame);
        if (flow == Flow::kBreak) break;
        if (flow != Flow::kNormal) return flow;
      } while (!condition(*statement.targets[0], frame));
      return Flow::kNormal;
    case Kind::kFor:
      return numeric_for(statement, frame);
    case Kind::kForIn:
      return generic_for(statement, frame);
    case Kind::kReturn: {
      Values values = eval_list(statement.values, frame);
      returned_ = std::move(values);
      return Flow::kReturn;
    }
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kGoto:
      label_ = statement.label;
      return Flow::kGoto;
    case Kind::kLabel:
    case Kind::kFunction:
      return Flow::kNormal;
  }
  return Flow::kNormal;
}

void Interpreter::assign_all(const Statement& statement, Frame& frame) {
  if (statement.targets.size() == 1 && statement.values.size() == 1) {
    assign(*statement.targets[0], eval(*statement.values[0], frame), frame);
    return;
  }
  Values values = eval_list(statement.values, frame);
  for (size_t i = 0; i < statement.targets.size(); ++i)
    assign(*statement.targets[i], i < values.size() ? values[i] : Value{}, frame);
}

void Interpreter::assign(const Expr& target, const Value& value, Frame& frame) {
  switch (target.kind) {
    case Expr::Kind::kLocal:
      local(*target.local, frame) = value;
      return;
    case Expr::Kind::kUpvalue:
      *frame.closure->upvalues[target.upvalue] = value;
      return;
    case Expr::Kind::kGlobal:
      globals_.set(Value::of(&target.text), value);
      return;
    default:
      break;
  }
  Value object = eval(*target.a, frame);
  Value key = eval(*target.b, frame);
  if (object.tag != Value::Tag::kTable) fail("this is read-only or no table");
  for (const Table& table : library_tables_) {
    if (&table == object.table) fail("the library is read-only");
  }
  if (key.tag == Value::Tag::kNil) fail("index is nil");
  object.table->set(key, value);
}

Interpreter::Flow Interpreter::numeric_for(const Statement& statement, Frame& frame) {
  Values limits = eval_list(statement.values, frame);
  if (limits.size() < 2 || !limits[0].is_number() || !limits[1].is_number())
    fail("'for' limits must be numbers");
  Value pace = limits.size() > 2 ? limits[2] : Value::of(int64_t{1});
  if (!pace.is_number() || pace.number() == 0) fail("'for' step must be a number and not zero");
  bool whole = limits[0].tag == Value::Tag::kInteger && pace.tag == Value::Tag::kInteger;
  double end = limits[1].number();
  for (Value at = limits[0];;) {
    bool inside = pace.number() > 0 ? at.number() <= end : at.number() >= end;
    if (!inside) return Flow::kNormal;
    step();
    declare(*statement.locals[0], at, frame);
    Flow flow = block(*statement.blocks[0], frame);
    if (flow == Flow::kBreak) return Flow::kNormal;
    if (flow != Flow::kNormal) return flow;
    if (whole) {
      int64_t next = 0;
      if (__builtin_add_overflow(at.integer, pace.integer, &next)) return Flow::kNormal;
      at.integer = next;
    } else {
      at = Value::of(at.number() + pace.number());
    }
  }
}

Interpreter::Flow Interpreter::generic_for(const Statement& statement, Frame& frame) {
  Values parts = eval_list(statement.values, frame);
  parts.resize(std::max<size_t>(parts.size(), 3));
  auto round = [&](const Values& values) {
    step();
    for (size_t i = 0; i < statement.locals.size(); ++i)
      declare(*statement.locals[i], i < values.size() ? values[i] : Value{}, frame);
    return block(*statement.blocks[0], frame);
  };
  bool ordered = parts[0].tag == Value::Tag::kBuiltin && parts[0].builtin == Builtin::kPairs;
  bool counted = parts[0].tag == Value::Tag::kBuiltin && parts[0].builtin == Builtin::kIpairs;
  Values keys = ordered ? ordered_keys(parts[1]) : Values{};
  Value control = parts[2];
  for (size_t i = 0;; ++i) {
    Values values;
    if (ordered) {
      if (i == keys.size()) return Flow::kNormal;
      values = {keys[i], index(parts[1], keys[i], 0)};
      if (values[1].tag == Value::Tag::kNil) continue;
    } else if (counted) {
      Value key = Value::of(static_cast<int64_t>(i + 1));
      values = {key, index(parts[1], key, 0)};
      if (values[1].tag == Value::Tag::kNil) return Flow::kNormal;
    } else {
      values = call(parts[0], {parts[1], control}, 0);
      if (values.empty() || values[0].tag == Value::Tag::kNil) return Flow::kNormal;
      control = values[0];
    }
    Flow flow = round(values);
    if (flow == Flow::kBreak) return Flow::kNormal;
    if (flow != Flow::kNormal) return flow;
  }
}

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
    if (!member) fail("there is no such member");
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
