#include "policy/analysis/invariant.h"

#include <string_view>

#include "policy/decide/schema.h"
#include "policy/lint/lint.h"
#include "policy/lint/shape.h"

namespace souk::policy::analysis {
namespace {

using Kind = Expression::Kind;

// "request.dp.enabled" of what is written so; empty for anything else.
std::string path_of(const Expression& expression) {
  if (expression.kind == Kind::kName) return expression.text;
  if (expression.kind != Kind::kIndex || expression.parts[1]->kind != Kind::kText) return "";
  std::string outer = path_of(bare(*expression.parts[0]));
  return outer.empty() ? "" : outer + "." + expression.parts[1]->text;
}

bool is_true_or_false(const Expression& expression) {
  const std::string path = path_of(expression);
  const SchemaField* field = schema_field(path);
  return path == "allow" || (field && field->kind == FieldKind::kBoolean);
}

// The first part of it that is used as a condition and is none; null: there is none such.
const Expression* no_condition(const Expression& expression) {
  const Expression& inside = bare(expression);
  if (inside.is_binary("and") || inside.is_binary("or")) {
    const Expression* left = no_condition(*inside.parts[0]);
    return left ? left : no_condition(*inside.parts[1]);
  }
  if (inside.kind == Kind::kUnary && inside.text == "not") return no_condition(*inside.parts[0]);
  bool condition = inside.kind == Kind::kTrue || inside.kind == Kind::kFalse ||
                   inside.is_comparison() || calls(inside, "contains") || is_true_or_false(inside);
  return condition ? nullptr : &inside;
}

Status check_condition(const std::string& side) {
  const std::string source = "return " + side;
  auto chunk = parse_lua(source);
  if (!chunk) return std::move(chunk).take_error().within("invariant");
  const auto& statements = (*chunk)->statements;
  bool one = statements.size() == 1 && statements[0]->kind == Statement::Kind::kReturn &&
             statements[0]->expressions.size() == 1;
  if (!one) return Error(Code::kMalformed, "invariant: expected one condition, not " + side);
  if (const Expression* wrong = no_condition(*statements[0]->expressions[0])) {
    const std::string text = source.substr(wrong->begin, wrong->end - wrong->begin);
    return Error(Code::kMalformed, "invariant: expected a condition, which is true or false, not " +
                                       text + "; compare it, as in " + text + " == …");
  }
  return Done{};
}

}  // namespace

Result<Invariant> Invariant::of(const std::string& text) {
  constexpr std::string_view kImplies = " implies ";
  size_t at = text.find(kImplies);
  if (at == std::string::npos) return Invariant{"true", text, false};
  Invariant out{text.substr(0, at), text.substr(at + kImplies.size()), true};
  if (out.right.find(kImplies) != std::string::npos)
    return Error(Code::kMalformed, "invariant: expected one `implies`; write (not A or B) inside");
  return out;
}

Status check_invariant(const Invariant& invariant) {
  const std::string source =
      "local allow, price = request.dp.enabled, dataset.price\n"
      "local left, right = (" +
      invariant.left + "), (" + invariant.right +
      ")\n"
      "return {allow = left and right}";
  for (const Finding& finding : lint(source).findings) {
    bool meaningless = finding.code == "unknown_global" || finding.code == "unknown_field" ||
                       finding.code == "mixed_comparison" || finding.code == "mixed_operation";
    if (!meaningless) continue;
    std::string meant =
        finding.did_you_mean.empty() ? "" : "; did you mean " + finding.did_you_mean + "?";
    return Error(Code::kMalformed, "invariant: " + finding.message + meant);
  }
  TRY(check_condition(invariant.left));
  return check_condition(invariant.right);
}

}  // namespace souk::policy::analysis
