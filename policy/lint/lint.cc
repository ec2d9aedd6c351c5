#include "policy/lint/lint.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>

#include "policy/decide/schema.h"
#include "policy/decide/source.h"
#include "policy/lint/syntax.h"

namespace souk::policy {
namespace {

using Kind = Expression::Kind;
using StatementKind = Statement::Kind;

// What the sandbox gives: policy/SPEC.md, Sandbox.
const std::map<std::string, std::set<std::string>> kLibraries = {
    {"math",
     {"floor", "ceil", "abs", "min", "max", "tointeger", "type", "maxinteger", "mininteger"}},
    {"string", {"len", "sub", "upper", "lower", "rep", "byte", "char", "find", "format"}},
    {"table", {"insert", "remove", "concat", "unpack", "sort"}}};
const std::set<std::string> kGlobals = {
    "type", "tostring", "tonumber", "select",   "error", "assert",  "pcall",   "ipairs", "pairs",
    "math", "string",   "table",    "contains", "rules", "request", "dataset", "ctx"};
const std::set<std::string> kAnswerKeys = {"allow", "reason", "reasons", "price", "obligations"};
const std::set<std::string> kReasonKeys = {"code", "message", "path", "got", "need"};
const std::set<std::string> kObligationKeys = {"max_epsilon_micro",
                                               "max_delta_pico",
                                               "min_noise_micro",
                                               "max_steps",
                                               "max_parameters",
                                               "min_co_providers",
                                               "max_retention_days",
                                               "embargo_until",
                                               "consumer_epsilon_micro",
                                               "purpose_epsilon_micro",
                                               "allowed_algorithms",
                                               "output_form",
                                               "attribution",
                                               "audit",
                                               "waive_privacy"};

size_t edits(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest(const std::string& name, const std::set<std::string>& known) {
  std::string best;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (const auto& candidate : known) {
    size_t distance = edits(name, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

enum class Type : uint8_t { kUnknown, kNil, kBoolean, kInteger, kReal, kText, kTable, kFunction };
const char* type_name(Type type) {
  constexpr const char* kNames[] = {"unknown",       "nil",    "true or false", "a number",
                                    "a real number", "a text", "a table",       "a function"};
  return kNames[static_cast<size_t>(type)];
}
bool is_number(Type type) {
  return type == Type::kInteger || type == Type::kReal;
}

struct Value {
  Type type = Type::kUnknown;
  std::string path;  // of the input it is, or empty
};

struct Binding {
  Value value;
  int line, column;
  bool read = false, parameter = false;
};
using Scope = std::map<std::string, Binding>;

struct Range {
  int64_t low = INT64_MIN, high = INT64_MAX;
  bool empty() const { return low > high; }
};
using Ranges = std::map<std::string, Range>;

// "request.steps" < 5, with the input on the left.
struct Bound {
  std::string path, op;
  int64_t value;
};

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

bool leaves(const Block& block);
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

class Linter {
 public:
  Linter(std::string_view source, LintReport& report) : source_(source), report_(report) {}

  void run(const Block& chunk) {
    find_decider(chunk);
    collect_globals(chunk);
    Ranges ranges;
    deciding_ = decider_ == nullptr;
    walk(chunk, ranges);
    if (!leaves(chunk)) {
      add("no_decision", 1, 1,
          "the policy can end without returning a decision; that denies as an error");
    }
    std::stable_sort(report_.findings.begin(), report_.findings.end(),
                     [](const Finding& a, const Finding& b) {
                       return std::pair(a.line, a.column) < std::pair(b.line, b.column);
                     });
  }

 private:
  void add(std::string code, int line, int column, std::string message, std::string meant = "",
           Finding::Weight weight = Finding::Weight::kError) {
    for (const auto& known : report_.findings) {
      if (known.code == code && known.line == line && known.column == column) return;
    }
    report_.findings.push_back(
        {std::move(code), weight, line, column, std::move(message), std::move(meant)});
  }
  void add(std::string code, const Expression& where, std::string message, std::string meant = "",
           Finding::Weight weight = Finding::Weight::kError) {
    add(std::move(code), where.line, where.column, std::move(message), std::move(meant), weight);
  }
  std::string source_of(const Expression& e) const {
    return std::string(source_.substr(e.begin, e.end - e.begin));
  }

  // The function that is returned for the decision, if the policy is of that form.
  void find_decider(const Block& chunk) {
    if (chunk.statements.empty() || chunk.statements.back()->kind != StatementKind::kReturn) return;
    const auto& values = chunk.statements.back()->expressions;
    if (values.size() != 1) return;
    const Expression& value = bare(*values[0]);
    if (value.kind == Kind::kFunction) decider_ = &value;
    if (value.kind != Kind::kName) return;
    for (const auto& s : chunk.statements) {
      for (size_t i = 0; i < s->names.size() && i < s->expressions.size(); ++i) {
        if (s->names[i] == value.text && s->expressions[i]->kind == Kind::kFunction)
          decider_ = s->expressions[i].get();
      }
      bool named = s->kind == StatementKind::kFunction && s->targets[0]->kind == Kind::kName &&
                   s->targets[0]->text == value.text;
      if (named) decider_ = s->expressions[0].get();
    }
  }

  void collect_globals(const Block& block) {
    for (const auto& s : block.statements) {
      if (s->kind == StatementKind::kAssign || s->kind == StatementKind::kFunction) {
        for (const auto& target : s->targets) {
          if (target->kind == Kind::kName) assigned_.insert(target->text);
        }
      }
      for (const auto& inner : s->blocks) collect_globals(*inner);
      for (const auto& e : s->expressions) {
        if (e->kind == Kind::kFunction) collect_globals(*e->body);
      }
    }
  }

  // --- names ---------------------------------------------------------------------

  Binding* find(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (auto it = scope->find(name); it != scope->end()) return &it->second;
    }
    return nullptr;
  }
  void declare(const std::string& name, Value value, int line, int column, bool parameter = false) {
    scopes_.back().insert_or_assign(name,
                                    Binding{std::move(value), line, column, false, parameter});
  }
  void open() { scopes_.emplace_back(); }
  void close() {
    for (const auto& [name, binding] : scopes_.back()) {
      if (binding.read || binding.parameter || name[0] == '_') continue;
      add("unused", binding.line, binding.column, "local " + name + " is never read", "",
          Finding::Weight::kNote);
    }
    scopes_.pop_back();
  }

  // --- statements ------------------------------------------------------------------

  void walk(const Block& block, Ranges ranges) {
    open();
    bool gone = false;
    for (const auto& s : block.statements) {
      if (gone) {
        add("unreachable", s->line, s->column,
            "this can never run: what stands before it always leaves");
        gone = false;
      }
      walk(*s, ranges);
      gone = leaves(*s);
    }
    close();
  }

  void walk(const Statement& s, Ranges& ranges) {
    switch (s.kind) {
      case StatementKind::kLocal: {
        std::vector<Value> values;
        for (const auto& e : s.expressions) values.push_back(infer(*e, ranges));
        for (size_t i = 0; i < s.names.size(); ++i) {
          declare(s.names[i],
                  i < values.size() && !reassigned(s.names[i])   ? values[i]
                  : i < values.size() && !values[i].path.empty() ? Value{}
                                                                 : Value{},
                  s.line, s.column);
        }
        return;
      }
      case StatementKind::kLocalFunction:
        declare(s.names[0], {Type::kFunction, ""}, s.line, s.column);
        walk_function(*s.expressions[0], ranges, s.names[0]);
        return;
      case StatementKind::kFunction:
        assign(*s.targets[0], ranges);
        walk_function(*s.expressions[0], ranges,
                      s.targets[0]->kind == Kind::kName ? s.targets[0]->text : "");
        return;
      case StatementKind::kAssign:
        for (const auto& e : s.expressions) infer(*e, ranges);
        for (const auto& target : s.targets) assign(*target, ranges);
        return;
      case StatementKind::kIf:
        return walk_if(s, ranges);
      case StatementKind::kWhile:
        ++report_.loops;
        report_.bounded = false;
        condition(*s.expressions[0], ranges, bare(*s.expressions[0]).kind == Kind::kTrue);
        walk(*s.blocks[0], ranges);
        return;
      case StatementKind::kRepeat:
        ++report_.loops;
        report_.bounded = false;
        walk(*s.blocks[0], ranges);
        return;
      case StatementKind::kNumericFor:
        ++report_.loops;
        for (const auto& e : s.expressions) infer(*e, ranges);
        open();
        declare(s.names[0], {Type::kUnknown, ""}, s.line, s.column, true);
        walk(*s.blocks[0], ranges);
        close();
        return;
      case StatementKind::kGenericFor:
        return walk_generic_for(s, ranges);
      case StatementKind::kReturn:
        return walk_return(s, ranges);
      case StatementKind::kGoto:
        report_.bounded = false;
        return;
      default:
        for (const auto& e : s.expressions) infer(*e, ranges);
        for (const auto& block : s.blocks) walk(*block, ranges);
    }
  }

  // A local that is given another value later is of no known type.
  bool reassigned(const std::string& name) const { return assigned_.count(name) != 0; }

  void assign(const Expression& target, Ranges& ranges) {
    if (target.kind == Kind::kName) {
      if (find(target.text)) return;
      if (kGlobals.count(target.text)) {
        add("library_overwritten", target, target.text + " is given by the sandbox; this hides it");
      } else {
        add("global", target, target.text + " becomes a global; write local " + target.text);
      }
      return;
    }
    if (target.kind != Kind::kIndex) return;
    Value object = infer(*target.parts[0], ranges);
    if (!object.path.empty())
      add("read_only", target, object.path + " cannot be written; the policy fails here");
    infer(*target.parts[1], ranges);
  }

  void walk_function(const Expression& function, Ranges ranges, const std::string& own_name = "") {
    bool outer = deciding_;
    deciding_ = &function == decider_;
    if (!own_name.empty()) functions_.push_back(own_name);
    open();
    static const char* const kRoots[] = {"request", "dataset", "ctx"};
    for (size_t i = 0; i < function.parameters.size(); ++i) {
      Value value;
      if (deciding_ && i < 3) value = {Type::kTable, kRoots[i]};
      declare(function.parameters[i], value, function.line, function.column, true);
    }
    if (deciding_ && !leaves(*function.body)) {
      add("no_decision", function,
          "the function can end without returning a decision; that denies as an error");
    }
    walk(*function.body, std::move(ranges));
    close();
    if (!own_name.empty()) functions_.pop_back();
    deciding_ = outer;
  }

  void walk_if(const Statement& s, Ranges& ranges) {
    Ranges before = ranges;  // where none of the conditions so far held
    std::set<std::string> asked;
    for (size_t i = 0; i < s.expressions.size(); ++i) {
      const Expression& test = *s.expressions[i];
      condition(test, before, false);
      if (!asked.insert(source_of(bare(test))).second)
        add("unreachable", test, "the same condition was asked before");
      Ranges inside = before;
      narrow(test, true, inside);
      walk(*s.blocks[i], inside);
      narrow(test, false, before);
    }
    if (s.blocks.size() > s.expressions.size()) walk(*s.blocks.back(), before);
    bool all_leave = true;
    for (size_t i = 0; i < s.expressions.size(); ++i) all_leave = all_leave && leaves(*s.blocks[i]);
    if (all_leave && s.blocks.size() == s.expressions.size())
      ranges = before;  // it goes on only where all were false
  }

  void walk_generic_for(const Statement& s, Ranges& ranges) {
    ++report_.loops;
    open();
    std::string items;
    for (const auto& e : s.expressions) {
      infer(*e, ranges);
      bool iterates = (calls(*e, "ipairs") || calls(*e, "pairs")) && e->parts.size() > 1;
      if (iterates) items = infer(*e->parts[1], ranges).path;
    }
    for (size_t i = 0; i < s.names.size(); ++i) {
      Value value;
      const SchemaField* list = items.empty() ? nullptr : schema_field(items);
      if (i == 1 && list && list->kind == FieldKind::kBlocks) value = {Type::kTable, items + "[1]"};
      if (i == 1 && list && (list->kind == FieldKind::kTokens || list->kind == FieldKind::kTexts))
        value = {Type::kText, ""};
      declare(s.names[i], value, s.line, s.column, true);
    }
    walk(*s.blocks[0], ranges);
    close();
  }

  void walk_return(const Statement& s, Ranges& ranges) {
    for (const auto& e : s.expressions) {
      const Expression& value = bare(*e);
      if (deciding_ && value.kind == Kind::kTable) {
        check_answer(value, ranges, Complete::kYes);
      } else if (deciding_ && (value.kind == Kind::kTrue || value.kind == Kind::kFalse ||
                               value.kind == Kind::kNil || value.kind == Kind::kText ||
                               value.kind == Kind::kNumber)) {
        add("no_decision", value, "expected a table such as {allow = true}");
      }
      infer(value, ranges);
    }
    if (deciding_ && s.expressions.empty())
      add("no_decision", s.line, s.column, "expected a table such as {allow = true}");
  }

  // --- decisions ---------------------------------------------------------------------

  enum class Complete : uint8_t { kYes, kNo };
  void check_answer(const Expression& table, Ranges& ranges, Complete complete) {
    bool allow = false, open_ended = false;
    std::set<std::string> seen;
    for (const auto& field : table.fields) {
      if (!field.key || field.key->kind != Kind::kText) {
        open_ended = open_ended || field.key != nullptr;
        if (!field.key) add("unknown_answer", *field.value, "a decision has named members only");
        continue;
      }
      const std::string& name = field.key->text;
      if (!seen.insert(name).second) add("duplicate", *field.key, name + " is given twice");
      if (!kAnswerKeys.count(name)) {
        add("unknown_answer", *field.key, "a decision has no member " + name,
            nearest(name, kAnswerKeys));
      } else if (name == "allow") {
        allow = true;
        check_allow(*field.value, ranges);
      } else if (name == "price") {
        Value price = infer(*field.value, ranges);
        bool wrong = price.type == Type::kReal || price.type == Type::kText ||
                     price.type == Type::kBoolean || price.type == Type::kTable;
        if (wrong)
          add("price_not_whole", *field.value,
              std::string("price: expected a whole number, this is ") + type_name(price.type) +
                  " (// divides whole numbers)");
      } else if (name == "obligations" && bare(*field.value).kind == Kind::kTable) {
        check_keys(bare(*field.value), kObligationKeys, "unknown_obligation",
                   "there is no obligation ");
      } else if (name == "reasons" && bare(*field.value).kind == Kind::kTable) {
        for (const auto& reason : bare(*field.value).fields) {
          if (bare(*reason.value).kind == Kind::kTable)
            check_keys(bare(*reason.value), kReasonKeys, "unknown_reason",
                       "a reason has no member ");
        }
      }
    }
    if (!allow && !open_ended && complete == Complete::kYes)
      add("no_allow", table, "a decision needs allow; without it the answer is an error");
  }

  void check_keys(const Expression& table, const std::set<std::string>& known, const char* code,
                  const std::string& message) {
    std::set<std::string> seen;
    for (const auto& field : table.fields) {
      if (!field.key || field.key->kind != Kind::kText) continue;
      const std::string& name = field.key->text;
      if (!seen.insert(name).second) add("duplicate", *field.key, name + " is given twice");
      if (!known.count(name)) add(code, *field.key, message + name, nearest(name, known));
    }
  }

  void check_allow(const Expression& value, Ranges& ranges) {
    Type type = boolean_type(bare(value), ranges);
    if (type != Type::kUnknown && type != Type::kBoolean) {
      add("non_boolean_allow", value,
          std::string("allow: expected true or false, this is ") + type_name(type));
    }
  }
  // `a and b` is b or what made a false: any part that is no boolean may come out.
  Type boolean_type(const Expression& value, Ranges& ranges) {
    if (value.kind != Kind::kBinary || (value.text != "and" && value.text != "or"))
      return infer(value, ranges).type;
    Type left = boolean_type(bare(*value.parts[0]), ranges),
         right = boolean_type(bare(*value.parts[1]), ranges);
    if (right != Type::kBoolean && right != Type::kUnknown) return right;
    bool left_comes_out = value.text == "or" || left == Type::kNil;
    if (left != Type::kBoolean && left != Type::kUnknown && left_comes_out) return left;
    return left == Type::kUnknown || right == Type::kUnknown ? Type::kUnknown : Type::kBoolean;
  }

  // --- conditions ----------------------------------------------------------------------

  void condition(const Expression& test, Ranges& ranges, bool may_be_constant) {
    const Expression& at = bare(test);
    Type type = infer(at, ranges).type;
    bool literal = at.kind == Kind::kTrue || at.kind == Kind::kFalse || at.kind == Kind::kNil ||
                   at.kind == Kind::kNumber || at.kind == Kind::kText || at.kind == Kind::kTable ||
                   at.kind == Kind::kFunction;
    if (literal && !may_be_constant) {
      bool always = at.kind != Kind::kFalse && at.kind != Kind::kNil;
      add("constant_condition", at, always ? "always true" : "never true: what follows cannot run");
      return;
    }
    bool always_true =
        is_number(type) || type == Type::kText || type == Type::kTable || type == Type::kFunction;
    if (always_true)
      add("constant_condition", at, std::string("always true: this is ") + type_name(type));
    Ranges inside = ranges;
    narrow(at, true, inside);
    for (const auto& [path, range] : inside) {
      if (range.empty()) add("unreachable", at, "never true: no " + path + " can be so");
    }
    Ranges outside = ranges;
    narrow(at, false, outside);
    for (const auto& [path, range] : outside) {
      if (range.empty() && !inside[path].empty())
        add("constant_condition", at, "always true: every " + path + " is so");
    }
  }

  std::optional<Bound> bound_of(const Expression& e) {
    const Expression& at = bare(e);
    if (!at.is_comparison()) return std::nullopt;
    auto left = quiet_path(*at.parts[0]), right = quiet_path(*at.parts[1]);
    auto a = whole_constant(*at.parts[0]), b = whole_constant(*at.parts[1]);
    if (!left.empty() && b) return Bound{left, at.text, *b};
    if (!right.empty() && a) return Bound{right, mirrored(at.text), *a};
    return std::nullopt;
  }

  // What is known of integers where `e` came out as `outcome`.
  void narrow(const Expression& e, bool outcome, Ranges& ranges) {
    const Expression& at = bare(e);
    if (at.kind == Kind::kUnary && at.text == "not") return narrow(*at.parts[0], !outcome, ranges);
    if (at.is_binary(outcome ? "and" : "or")) {
      narrow(*at.parts[0], outcome, ranges);
      narrow(*at.parts[1], outcome, ranges);
      return;
    }
    auto bound = bound_of(at);
    if (!bound) return;
    auto [it, fresh] = ranges.try_emplace(bound->path);
    if (fresh) {
      if (const SchemaField* field = schema_field(bound->path);
          field && field->kind == FieldKind::kInteger)
        it->second = {field->min, field->max};
    }
    it->second = narrowed(it->second, outcome ? bound->op : opposite(bound->op), bound->value);
  }

  // The path of an integer input, saying nothing about it.
  std::string quiet_path(const Expression& e) {
    const Expression& at = bare(e);
    if (at.kind == Kind::kName) {
      if (Binding* binding = find(at.text)) {
        const SchemaField* field =
            binding->value.path.empty() ? nullptr : schema_field(binding->value.path);
        return field ? binding->value.path : "";
      }
      return at.text == "request" || at.text == "dataset" || at.text == "ctx" ? at.text : "";
    }
    if (at.kind != Kind::kIndex || at.parts[1]->kind != Kind::kText) return "";
    std::string object = quiet_path(*at.parts[0]);
    if (object.empty()) return "";
    std::string path = object + "." + at.parts[1]->text;
    return schema_field(path) ? path : "";
  }

  // --- expressions -----------------------------------------------------------------------

  Value infer(const Expression& e, Ranges& ranges) {
    switch (e.kind) {
      case Kind::kNil:
        return {Type::kNil, ""};
      case Kind::kTrue:
      case Kind::kFalse:
        return {Type::kBoolean, ""};
      case Kind::kNumber:
        return {
            e.text.find_first_of(".eEpP") != std::string::npos && e.text.compare(0, 2, "0x") != 0
                ? Type::kReal
                : Type::kInteger,
            ""};
      case Kind::kText:
        return {Type::kText, ""};
      case Kind::kVararg:
        return {};
      case Kind::kParen:
        return infer(*e.parts[0], ranges);
      case Kind::kFunction:
        walk_function(e, ranges);
        return {Type::kFunction, ""};
      case Kind::kTable:
        for (const auto& field : e.fields) {
          if (field.key && field.key->kind != Kind::kText) infer(*field.key, ranges);
          infer(*field.value, ranges);
        }
        return {Type::kTable, ""};
      case Kind::kName:
        return infer_name(e);
      case Kind::kIndex:
        return infer_index(e, ranges);
      case Kind::kCall:
      case Kind::kMethod:
        return infer_call(e, ranges);
      case Kind::kUnary:
        return infer_unary(e, ranges);
      case Kind::kBinary:
        return infer_binary(e, ranges);
    }
    return {};
  }

  Value infer_name(const Expression& e) {
    if (Binding* binding = find(e.text)) {
      binding->read = true;
      return binding->value;
    }
    if (e.text == "request" || e.text == "dataset" || e.text == "ctx")
      return {Type::kTable, e.text};
    if (kLibraries.count(e.text)) return {Type::kTable, ""};
    if (kGlobals.count(e.text)) return {Type::kFunction, ""};
    if (assigned_.count(e.text)) return {};
    std::set<std::string> known = kGlobals;
    for (const auto& scope : scopes_) {
      for (const auto& [name, binding] : scope) known.insert(name);
    }
    add("unknown_global", e, e.text + " does not exist here; its value is nil",
        nearest(e.text, known));
    return {};
  }

  Value infer_index(const Expression& e, Ranges& ranges) {
    const Expression& key = *e.parts[1];
    if (key.kind != Kind::kText) infer(key, ranges);
    bool library = e.parts[0]->kind == Kind::kName && !find(e.parts[0]->text) &&
                   kLibraries.count(e.parts[0]->text) && key.kind == Kind::kText;
    if (library) {
      const auto& members = kLibraries.at(e.parts[0]->text);
      if (!members.count(key.text)) {
        bool pattern = key.text == "match" || key.text == "gmatch" || key.text == "gsub";
        add("unknown_global", e,
            e.parts[0]->text + "." + key.text +
                (pattern ? ": there are no patterns here; string.find(text, wanted, 1, true)"
                         : " does not exist here"),
            pattern ? "string.find" : nearest(key.text, members));
      }
      return {};
    }
    Value object = infer(*e.parts[0], ranges);
    if (object.path.empty()) {
      bool scalar =
          is_number(object.type) || object.type == Type::kBoolean || object.type == Type::kNil;
      if (scalar)
        add("mixed_operation", e, std::string(type_name(object.type)) + " has no members");
      return {};
    }
    const SchemaField* field = schema_field(object.path);
    bool list = field && (field->kind == FieldKind::kTokens || field->kind == FieldKind::kTexts ||
                          (field->kind == FieldKind::kBlocks && object.path.back() != ']'));
    if (list) {
      if (key.kind == Kind::kText)
        add("unknown_field", e, object.path + " is a list; its items have positions, not names");
      if (field->kind == FieldKind::kBlocks) return {Type::kTable, object.path + "[1]"};
      return {};  // a text, or nil past the end
    }
    if (field && field->kind != FieldKind::kBlock && field->kind != FieldKind::kBlocks) {
      add("unknown_field", e, object.path + " has no members");
      return {};
    }
    if (key.kind != Kind::kText) return {};
    const std::string path = object.path + "." + key.text;
    const SchemaField* member = schema_field(path);
    if (!member) {
      add("unknown_field", e, path + " does not exist; the policy fails where it reads it",
          nearest_path(path));
      return {};
    }
    switch (member->kind) {
      case FieldKind::kInteger:
        return {Type::kInteger, path};
      case FieldKind::kBoolean:
        return {Type::kBoolean, path};
      case FieldKind::kToken:
      case FieldKind::kText:
        return {Type::kText, path};
      default:
        return {Type::kTable, path};
    }
  }

  Value infer_call(const Expression& e, Ranges& ranges) {
    std::string name = e.parts[0]->kind == Kind::kName ? e.parts[0]->text : "";
    if (!name.empty() && std::find(functions_.begin(), functions_.end(), name) != functions_.end())
      report_.bounded = false;
    Value callee = infer(*e.parts[0], ranges);
    bool scalar = e.kind == Kind::kCall && (is_number(callee.type) || callee.type == Type::kText ||
                                            callee.type == Type::kBoolean || !callee.path.empty());
    if (scalar)
      add("mixed_operation", e, std::string(type_name(callee.type)) + " is called like a function");
    bool answer = e.kind == Kind::kCall && e.parts[0]->kind == Kind::kIndex &&
                  e.parts[0]->parts[1]->text == "decision" && e.parts.size() == 2 &&
                  e.parts[1]->kind == Kind::kTable;
    if (answer) check_answer(*e.parts[1], ranges, Complete::kNo);
    bool require = e.kind == Kind::kCall && e.parts[0]->kind == Kind::kIndex &&
                   e.parts[0]->parts[1]->text == "require" && e.parts.size() >= 2;
    for (size_t i = 1; i < e.parts.size(); ++i) {
      if (i == 1 && require) {
        Type type = boolean_type(bare(*e.parts[1]), ranges);
        if (type != Type::kBoolean && type != Type::kUnknown) {
          add("non_boolean_allow", *e.parts[1],
              std::string("require: expected true or false as the condition, this is ") +
                  type_name(type));
        }
        check_constant_rule(*e.parts[1], ranges);
      } else {
        infer(*e.parts[i], ranges);
      }
    }
    if (name == "tostring" || name == "type") return {Type::kText, ""};
    if (name == "contains") return {Type::kBoolean, ""};
    return {};
  }

  // A rule that can never hold, or always does, is not a rule.
  void check_constant_rule(const Expression& rule, Ranges& ranges) {
    for (bool outcome : {true, false}) {
      Ranges narrowed_ranges = ranges;
      narrow(rule, outcome, narrowed_ranges);
      for (const auto& [path, range] : narrowed_ranges) {
        if (range.empty())
          add(outcome ? "unreachable" : "constant_condition", rule,
              (outcome ? "never true: no " : "always true: every ") + path +
                  (outcome ? " can be so" : " is so"));
      }
    }
  }

  Value infer_unary(const Expression& e, Ranges& ranges) {
    Value inside = infer(*e.parts[0], ranges);
    if (e.text == "not") return {Type::kBoolean, ""};
    if (e.text == "#") {
      bool wrong = is_number(inside.type) || inside.type == Type::kBoolean ||
                   inside.type == Type::kNil || inside.type == Type::kFunction;
      const SchemaField* field = inside.path.empty() ? nullptr : schema_field(inside.path);
      if (wrong || (field && field->kind == FieldKind::kBlock))
        add("mixed_operation", e, "# needs a list or a text");
      return {Type::kInteger, ""};
    }
    if (inside.type == Type::kText || inside.type == Type::kBoolean ||
        inside.type == Type::kTable || inside.type == Type::kNil) {
      add("mixed_operation", e, std::string("arithmetic on ") + type_name(inside.type));
    }
    return {inside.type == Type::kReal      ? Type::kReal
            : inside.type == Type::kInteger ? Type::kInteger
                                            : Type::kUnknown,
            ""};
  }

  Value infer_binary(const Expression& e, Ranges& ranges) {
    if (e.text == "and") {
      Value left = infer(*e.parts[0], ranges);
      Ranges inside = ranges;
      narrow(*e.parts[0], true, inside);
      Ranges before = inside;
      Value right = infer(*e.parts[1], inside);
      narrow(*e.parts[1], true, before);
      for (const auto& [path, range] : before) {
        if (range.empty()) add("unreachable", e, "never true: no " + path + " can be so");
      }
      if (left.type == Type::kBoolean && right.type == Type::kBoolean) return {Type::kBoolean, ""};
      return {};
    }
    Value left = infer(*e.parts[0], ranges), right = infer(*e.parts[1], ranges);
    if (e.text == "or") {
      if (left.type == Type::kBoolean && right.type == Type::kBoolean) return {Type::kBoolean, ""};
      return left.type == right.type ? Value{left.type, ""} : Value{};
    }
    if (e.is_comparison()) {
      check_comparison(e, left, right);
      return {Type::kBoolean, ""};
    }
    if (e.text == "..") {
      for (const Value& side : {left, right}) {
        if (side.type == Type::kBoolean || side.type == Type::kNil || side.type == Type::kTable) {
          add("mixed_operation", e,
              std::string(".. joins texts and numbers, not ") + type_name(side.type));
        }
      }
      return {Type::kText, ""};
    }
    for (const Value& side : {left, right}) {
      if (side.type == Type::kText || side.type == Type::kBoolean || side.type == Type::kNil ||
          side.type == Type::kTable || side.type == Type::kFunction) {
        add("mixed_operation", e, std::string("arithmetic on ") + type_name(side.type));
      }
    }
    if (e.text == "/" || e.text == "^") return {Type::kReal, ""};
    if (left.type == Type::kReal || right.type == Type::kReal) return {Type::kReal, ""};
    return {left.type == Type::kInteger && right.type == Type::kInteger ? Type::kInteger
                                                                        : Type::kUnknown,
            ""};
  }

  void check_comparison(const Expression& e, const Value& left, const Value& right) {
    if (source_of(bare(*e.parts[0])) == source_of(bare(*e.parts[1])) &&
        bare(*e.parts[0]).kind != Kind::kCall) {
      add("constant_condition", e, "both sides are the same");
      return;
    }
    bool equality = e.text == "==" || e.text == "~=";
    auto family = [](Type type) { return is_number(type) ? Type::kInteger : type; };
    Type a = family(left.type), b = family(right.type);
    if (a == Type::kUnknown || b == Type::kUnknown) return;
    if (equality && (a == Type::kNil || b == Type::kNil)) {
      const Value& other = a == Type::kNil ? right : left;
      if (!other.path.empty()) {
        add("constant_condition", e,
            other.path + " is never nil: reading a field that is not there fails", "",
            Finding::Weight::kNote);
      }
      return;
    }
    if (a != b) {
      add("mixed_comparison", e,
          std::string("compares ") + type_name(left.type) + " with " + type_name(right.type) +
              (equality ? ": never equal" : ": the policy fails here"));
      return;
    }
    if (!equality && a != Type::kInteger && a != Type::kText) {
      add("mixed_comparison", e, std::string(type_name(a)) + " has no order");
      return;
    }
    if (equality && a == Type::kTable && (left.path.empty() || right.path.empty())) {
      add("mixed_comparison", e,
          "two tables are equal only when they are the same one; compare their members");
    }
    check_unit(e);
  }

  // Epsilon and noise are in millionths, delta in 10^-12: a small constant is a mistake of unit.
  void check_unit(const Expression& e) {
    auto bound = bound_of(e);
    if (!bound || bound->value <= 0) return;
    auto ends_with = [&](std::string_view tail) {
      return bound->path.size() > tail.size() && bound->path.ends_with(tail);
    };
    if (ends_with("_micro") && bound->value < 1000) {
      add("unit", e,
          bound->path + " is in millionths: " + std::to_string(bound->value) +
              " of them is almost nothing");
    }
  }

  std::string_view source_;
  LintReport& report_;
  std::vector<Scope> scopes_;
  std::set<std::string> assigned_;
  std::vector<std::string> functions_;  // whose bodies we are in
  const Expression* decider_ = nullptr;
  bool deciding_ = false;  // a return here is the decision
};

}  // namespace

Json to_json(const Finding& finding) {
  return Json::Object{{"code", finding.code},
                      {"severity", finding.weight == Finding::Weight::kError ? "error" : "note"},
                      {"line", finding.line},
                      {"column", finding.column},
                      {"message", finding.message},
                      {"did_you_mean", finding.did_you_mean}};
}

bool LintReport::errors() const {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& f) { return f.weight == Finding::Weight::kError; });
}

LintReport lint(std::string_view source) {
  LintReport report;
  auto reject = [&](const std::string& why) {
    Finding finding{"publish_rejected", Finding::Weight::kError, 1, 1, why, ""};
    if (size_t at = why.find("line"); at != std::string::npos) {
      at = why.find_first_of("0123456789", at);
      if (at != std::string::npos)
        std::from_chars(why.data() + at, why.data() + why.size(), finding.line);
    }
    report.findings.push_back(std::move(finding));
    return report;
  };
  if (auto good = check_source(source); !good) return reject(good.error().expected());
  auto chunk = parse_lua(source);
  if (!chunk) return reject(chunk.error().expected());
  Linter(source, report).run(**chunk);
  return report;
}

}  // namespace souk::policy
