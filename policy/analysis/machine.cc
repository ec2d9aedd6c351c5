// Runs, functions and statements. Lua 5.4 Reference Manual, section 3.3.
#include "policy/analysis/machine.h"

#include <algorithm>
#include <cmath>

namespace souk::policy::analysis {
namespace {

constexpr uint64_t kMaxSteps = 400'000;
constexpr size_t kMaxStack = 20'000;
constexpr int kMaxCalls = 180;
constexpr size_t kMaxHeapBytes = 8 << 20;

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
    throw LimitError{};
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

}  // namespace souk::policy::analysis
