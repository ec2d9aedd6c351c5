// Values and conditions.
#include <algorithm>

#include "policy/decide/nearest.h"
#include "policy/lint/linter.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {
namespace {

using Kind = Expression::Kind;

bool is_input(const std::string& name) {
  return name == "request" || name == "dataset" || name == "ctx";
}

}  // namespace

void Linter::condition(const Expression& test, Ranges& ranges, bool may_be_constant) {
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

std::optional<Bound> Linter::bound_of(const Expression& e) {
  const Expression& at = bare(e);
  if (!at.is_comparison()) return std::nullopt;
  auto left = quiet_path(*at.parts[0]), right = quiet_path(*at.parts[1]);
  auto a = whole_constant(*at.parts[0]), b = whole_constant(*at.parts[1]);
  if (!left.empty() && b) return Bound{left, at.text, *b};
  if (!right.empty() && a) return Bound{right, mirrored(at.text), *a};
  return std::nullopt;
}

void Linter::narrow(const Expression& e, bool outcome, Ranges& ranges) {
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

std::string Linter::quiet_path(const Expression& e) {
  const Expression& at = bare(e);
  if (at.kind == Kind::kName) {
    if (Binding* binding = find(at.text)) {
      const SchemaField* field =
          binding->value.path.empty() ? nullptr : schema_field(binding->value.path);
      return field ? binding->value.path : "";
    }
    return is_input(at.text) ? at.text : "";
  }
  if (at.kind != Kind::kIndex || at.parts[1]->kind != Kind::kText) return "";
  std::string object = quiet_path(*at.parts[0]);
  if (object.empty()) return "";
  std::string path = object + "." + at.parts[1]->text;
  return schema_field(path) ? path : "";
}

Value Linter::infer(const Expression& e, Ranges& ranges) {
  switch (e.kind) {
    case Kind::kNil:
      return {Type::kNil, ""};
    case Kind::kTrue:
    case Kind::kFalse:
      return {Type::kBoolean, ""};
    case Kind::kNumber:
      return {e.text.find_first_of(".eEpP") != std::string::npos && e.text.compare(0, 2, "0x") != 0
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

Value Linter::infer_name(const Expression& e) {
  if (Binding* binding = find(e.text)) {
    binding->read = true;
    return binding->value;
  }
  if (is_input(e.text)) return {Type::kTable, e.text};
  if (library_members().count(e.text)) return {Type::kTable, ""};
  if (global_names().count(e.text)) return {Type::kFunction, ""};
  if (assigned_.count(e.text)) return {};
  std::set<std::string> known = global_names();
  known.insert({"request", "dataset", "ctx"});
  for (const auto& scope : scopes_) {
    for (const auto& [name, binding] : scope) known.insert(name);
  }
  add("unknown_global", e, e.text + " does not exist here; its value is nil",
      nearest(e.text, known));
  return {};
}

Value Linter::infer_index(const Expression& e, Ranges& ranges) {
  const Expression& key = *e.parts[1];
  if (key.kind != Kind::kText) infer(key, ranges);
  bool library = e.parts[0]->kind == Kind::kName && !find(e.parts[0]->text) &&
                 library_members().count(e.parts[0]->text) && key.kind == Kind::kText;
  if (library) {
    const auto& members = library_members().at(e.parts[0]->text);
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
    if (scalar) add("mixed_operation", e, std::string(type_name(object.type)) + " has no members");
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

Value Linter::infer_call(const Expression& e, Ranges& ranges) {
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

void Linter::check_constant_rule(const Expression& rule, Ranges& ranges) {
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

Value Linter::infer_unary(const Expression& e, Ranges& ranges) {
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
  if (inside.type == Type::kText || inside.type == Type::kBoolean || inside.type == Type::kTable ||
      inside.type == Type::kNil) {
    add("mixed_operation", e, std::string("arithmetic on ") + type_name(inside.type));
  }
  return {inside.type == Type::kReal      ? Type::kReal
          : inside.type == Type::kInteger ? Type::kInteger
                                          : Type::kUnknown,
          ""};
}

Value Linter::infer_binary(const Expression& e, Ranges& ranges) {
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
  return {
      left.type == Type::kInteger && right.type == Type::kInteger ? Type::kInteger : Type::kUnknown,
      ""};
}

void Linter::check_comparison(const Expression& e, const Value& left, const Value& right) {
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

void Linter::check_unit(const Expression& e) {
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

}  // namespace souk::policy
