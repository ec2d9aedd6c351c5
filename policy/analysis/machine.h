// Inside of policy/analysis: the second interpreter.
#pragma once

#include <map>
#include <set>

#include "policy/analysis/probe.h"
#include "policy/analysis/value.h"

namespace souk::policy::analysis {

enum class Builtin : uint8_t {
  kType,
  kToString,
  kToNumber,
  kSelect,
  kError,
  kAssert,
  kPcall,
  kIpairs,
  kPairs,
  kContains,
  kFloor,
  kCeil,
  kAbs,
  kMin,
  kMax,
  kToInteger,
  kMathType,
  kLen,
  kSub,
  kUpper,
  kLower,
  kRep,
  kReverse,
  kByte,
  kChar,
  kFind,
  kFormat,
  kInsert,
  kRemove,
  kConcat,
  kUnpack,
  kSort,
};

using Values = std::vector<Value>;

struct LuaError {
  Value value;
};
struct LimitError {};

class Interpreter {
 public:
  Interpreter();

  // Empties everything a run left behind.
  void reset(const Point& point, const Space& space);
  Values run_chunk(const Chunk& chunk);
  Values call(const Value& function, Values arguments, uint32_t site);
  Value expression(const Chunk& chunk);  // the one value that "return EXPRESSION" gives
  void set_global(const std::string& name, const Value& value) {
    globals_.set(Value::of(intern(name)), value);
  }
  // In place of the prelude's `contains` one that notes which item came how near.
  void note_contains() { set_global("contains", Value::of(Builtin::kContains)); }
  Value index(const Value& object, const Value& key, uint32_t site);
  std::string text_of(const Value& value) const;

  std::vector<Event> events;
  bool noting = true;

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kReturn, kGoto };
  struct Frame {
    const Function* function;
    const Closure* closure;
    size_t base;
    Values varargs;
  };

  // machine.cc
  void step();
  Flow block(const Block& block, Frame& frame);
  Flow statement(const Statement& statement, Frame& frame);
  Flow numeric_for(const Statement& statement, Frame& frame);
  Flow generic_for(const Statement& statement, Frame& frame);
  void assign(const Expr& target, const Value& value, Frame& frame);
  void assign_all(const Statement& statement, Frame& frame);
  void declare(const Local& local, const Value& value, Frame& frame);
  Value& local(const Local& local, Frame& frame);
  Values run_function(const Closure& closure, Values arguments);
  Value make_closure(const Function& function, Frame& frame);

  // expressions.cc
  Value eval(const Expr& expr, Frame& frame);
  bool condition(const Expr& expr, Frame& frame);
  void eval_multi(const Expr& expr, Frame& frame, Values& out);
  Values eval_list(const std::vector<ExprPtr>& list, Frame& frame);
  Values call_expr(const Expr& expr, Frame& frame);

  // operators.cc
  Value binary(const Expr& expr, const Value& a, const Value& b);
  Value arithmetic(const Expr& expr, const Value& a, const Value& b);
  Value bitwise(Op op, const Value& a, const Value& b);
  Value concat(const Value& a, const Value& b);
  bool compare(const Expr& expr, const Value& a, const Value& b);
  Value unary(const Expr& expr, const Value& a);
  int64_t length(const Value& value);
  Seen seen(const Value& value) const;
  void note(uint32_t site, Event::Kind kind, Op op, bool outcome, const Value& left,
            const Value& right);

  // library.cc
  void install();
  Values builtin(Builtin which, Values& arguments, uint32_t site);
  Values text_builtin(Builtin which, Values& arguments, uint32_t site);
  Values table_builtin(Builtin which, Values& arguments, uint32_t site);
  Values math_builtin(Builtin which, Values& arguments, uint32_t site);
  bool contains(const Value& list, const Value& wanted, uint32_t site);
  Values protected_call(Values& arguments, uint32_t site);
  std::string format(const Values& arguments);
  void sort(Table& table, const Value& order, uint32_t site);
  Values ordered_keys(const Value& object);

  [[noreturn]] void fail(const std::string& message);
  const std::string* intern(std::string text);
  Value text(std::string text) { return Value::of(intern(std::move(text))); }
  Table& new_table();

  Heap heap_;
  Table globals_;
  std::vector<std::pair<std::string, Value>> library_;  // globals at the start
  std::deque<Table> library_tables_;
  std::deque<std::string> library_texts_;
  Values stack_;
  size_t top_ = 0;
  int depth_ = 0;
  uint64_t steps_ = 0;
  Values returned_;
  std::string_view label_;
  Table* strings_ = nullptr;  // the string library, of every text
};

}  // namespace souk::policy::analysis
