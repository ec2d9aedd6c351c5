#include "policy/analysis/mutate.h"

#include <algorithm>
#include <set>

#include "policy/analysis/chunk.h"

namespace souk::policy::analysis {
namespace {

class Maker {
 public:
  explicit Maker(std::string_view source) : source_(source) {}

  void walk(const Block& block) {
    for (const auto& statement : block.statements) walk(*statement);
  }
  std::vector<Mutant> take(size_t most) {
    std::stable_sort(made_.begin(), made_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    std::set<std::string> seen{std::string(source_)};
    std::vector<Mutant> out;
    for (auto& [at, mutant] : made_) {
      if (out.size() < most && seen.insert(mutant.source).second) out.push_back(std::move(mutant));
    }
    return out;
  }

 private:
  void replace(Span span, const std::string& after, const char* operation, uint32_t line) {
    Mutant mutant;
    mutant.before = std::string(source_.substr(span.begin, span.end - span.begin));
    if (mutant.before == after) return;
    mutant.after = after;
    mutant.operation = operation;
    mutant.line = line;
    mutant.source =
        std::string(source_.substr(0, span.begin)) + after + std::string(source_.substr(span.end));
    made_.emplace_back(span.begin, std::move(mutant));
  }

  void walk(const Statement& statement) {
    using Kind = Statement::Kind;
    if (statement.kind == Kind::kCall)
      replace(statement.span, "do end", "drop_rule", statement.line);
    if (statement.kind == Kind::kIf) {
      for (const auto& condition : statement.targets) {
        replace(condition->span, "false", "drop_rule", condition->line);
        replace(condition->span, "true", "always_rule", condition->line);
      }
    }
    for (const auto& expr : statement.targets) walk(*expr);
    for (const auto& expr : statement.values) walk(*expr);
    for (const auto& block : statement.blocks) walk(*block);
  }

  void operators(const Expr& expr) {
    auto becomes = [&](std::initializer_list<const char*> others, const char* operation) {
      for (const char* other : others) replace(expr.op_span, other, operation, expr.line);
    };
    if (expr.kind == Expr::Kind::kAnd) becomes({"or"}, "logic");
    if (expr.kind == Expr::Kind::kOr) becomes({"and"}, "logic");
    if (expr.kind == Expr::Kind::kUnary && expr.op == Op::kNot) becomes({""}, "logic");
    if (expr.kind != Expr::Kind::kBinary) return;
    switch (expr.op) {
      case Op::kLt:
        becomes({"<=", ">="}, "comparison");
        break;
      case Op::kLe:
        becomes({"<", ">"}, "comparison");
        break;
      case Op::kGt:
        becomes({">=", "<="}, "comparison");
        break;
      case Op::kGe:
        becomes({">", "<"}, "comparison");
        break;
      case Op::kEq:
        becomes({"~="}, "comparison");
        break;
      case Op::kNe:
        becomes({"=="}, "comparison");
        break;
      case Op::kAdd:
        becomes({"-"}, "arithmetic");
        break;
      case Op::kSub:
        becomes({"+"}, "arithmetic");
        break;
      case Op::kMul:
        becomes({"//"}, "arithmetic");
        break;
      case Op::kIDiv:
        becomes({"*"}, "arithmetic");
        break;
      case Op::kMod:
        becomes({"//"}, "arithmetic");
        break;
      default:
        break;
    }
  }

  // `decides`: a text there is compared or looked up; elsewhere it is only for reading.
  void walk(const Expr& expr, bool decides = false) {
    operators(expr);
    switch (expr.kind) {
      case Expr::Kind::kTrue:
        replace(expr.span, "false", "logic", expr.line);
        break;
      case Expr::Kind::kFalse:
        replace(expr.span, "true", "logic", expr.line);
        break;
      case Expr::Kind::kInteger:
        if (expr.integer < INT64_MAX)
          replace(expr.span, std::to_string(expr.integer + 1), "constant", expr.line);
        if (expr.integer > 0)
          replace(expr.span, std::to_string(expr.integer - 1), "constant", expr.line);
        break;
      case Expr::Kind::kText:
        // Not one that stands for a name: `t.name`, `{ name = … }`.
        if (decides && source_[expr.span.begin] != '[' &&
            (source_[expr.span.begin] == '"' || source_[expr.span.begin] == '\'')) {
          Span quote{expr.span.end - 1, expr.span.end - 1};
          replace(quote, "x", "constant", expr.line);
        }
        break;
      default:
        break;
    }
    bool compares = expr.kind == Expr::Kind::kBinary && is_comparison(expr.op);
    bool named = expr.kind == Expr::Kind::kCall && expr.a->kind == Expr::Kind::kGlobal &&
                 expr.a->text == "contains";
    if (expr.a) walk(*expr.a, compares);
    if (expr.b && !(expr.kind == Expr::Kind::kIndex && expr.b->kind == Expr::Kind::kText))
      walk(*expr.b, compares);
    for (const auto& each : expr.list)
      walk(*each, named || (expr.kind == Expr::Kind::kTable && decides));
    for (const auto& each : expr.keys) {
      if (each && each->kind != Expr::Kind::kText) walk(*each);
    }
    if (expr.function) walk(*expr.function->body);
  }

  std::string_view source_;
  std::vector<std::pair<uint32_t, Mutant>> made_;
};

}  // namespace

Result<std::vector<Mutant>> mutants_of(std::string_view policy, size_t most) {
  uint32_t site = 1;
  auto chunk = TRY(parse_chunk(std::string(policy), site));
  Maker maker(policy);
  maker.walk(*chunk->main.body);
  auto made = maker.take(most);
  // One that does not parse says nothing about the tests.
  made.erase(std::remove_if(made.begin(), made.end(),
                            [](const Mutant& mutant) {
                              uint32_t first = 1;
                              return !parse_chunk(mutant.source, first);
                            }),
             made.end());
  return made;
}

Result<MutationReport> mutation_report(std::string_view policy,
                                       const std::function<bool(const std::string& source)>& passes,
                                       size_t most) {
  MutationReport report;
  for (Mutant& mutant : TRY(mutants_of(policy, most))) {
    ++report.mutants;
    if (passes(mutant.source)) {
      report.survivors.push_back(std::move(mutant));
    } else {
      ++report.killed;
    }
  }
  return report;
}

}  // namespace souk::policy::analysis
