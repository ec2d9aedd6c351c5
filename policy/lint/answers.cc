// What a policy returns.
#include "policy/decide/decide.h"
#include "policy/decide/nearest.h"
#include "policy/lint/linter.h"

namespace souk::policy {
namespace {

using Kind = Expression::Kind;

}  // namespace

void Linter::check_answer(const Expression& table, Ranges& ranges, Complete complete) {
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
    if (!answer_members().count(name)) {
      add("unknown_answer", *field.key, "a decision has no member " + name,
          nearest(name, answer_members()));
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
      check_keys(bare(*field.value), obligation_names(), "unknown_obligation",
                 "there is no obligation ");
    } else if (name == "reasons" && bare(*field.value).kind == Kind::kTable) {
      for (const auto& reason : bare(*field.value).fields) {
        if (bare(*reason.value).kind == Kind::kTable)
          check_keys(bare(*reason.value), reason_members(), "unknown_reason",
                     "a reason has no member ");
      }
    }
  }
  if (!allow && !open_ended && complete == Complete::kYes)
    add("no_allow", table, "a decision needs allow; without it the answer is an error");
}

void Linter::check_keys(const Expression& table, const std::set<std::string>& known,
                        const char* code, const std::string& message) {
  std::set<std::string> seen;
  for (const auto& field : table.fields) {
    if (!field.key || field.key->kind != Kind::kText) continue;
    const std::string& name = field.key->text;
    if (!seen.insert(name).second) add("duplicate", *field.key, name + " is given twice");
    if (!known.count(name)) add(code, *field.key, message + name, nearest(name, known));
  }
}

void Linter::check_allow(const Expression& value, Ranges& ranges) {
  Type type = boolean_type(bare(value), ranges);
  if (type != Type::kUnknown && type != Type::kBoolean) {
    add("non_boolean_allow", value,
        std::string("allow: expected true or false, this is ") + type_name(type));
  }
}

Type Linter::boolean_type(const Expression& value, Ranges& ranges) {
  if (value.kind != Kind::kBinary || (value.text != "and" && value.text != "or"))
    return infer(value, ranges).type;
  Type left = boolean_type(bare(*value.parts[0]), ranges),
       right = boolean_type(bare(*value.parts[1]), ranges);
  if (right != Type::kBoolean && right != Type::kUnknown) return right;
  bool left_comes_out = value.text == "or" || left == Type::kNil;
  if (left != Type::kBoolean && left != Type::kUnknown && left_comes_out) return left;
  return left == Type::kUnknown || right == Type::kUnknown ? Type::kUnknown : Type::kBoolean;
}

}  // namespace souk::policy
