#include "policy/lint/instrument.h"

#include <algorithm>
#include <map>

#include "policy/syntax/syntax.h"

namespace souk::policy {
namespace {

using Kind = Expression::Kind;

class Collector {
 public:
  Collector(std::string_view source, Conditions wanted) : source_(source), wanted_(wanted) {}

  struct Condition {
    const Expression* expression;
    bool negated;
  };
  std::vector<Condition> conditions;
  std::map<int, int> lines;  // first -> last

  void walk(const Block& block) {
    for (const auto& s : block.statements) walk(*s);
  }

 private:
  void walk(const Statement& s) {
    if (s.kind != Statement::Kind::kLabel && s.kind != Statement::Kind::kGoto) {  // never shown
      auto text = source_.substr(s.begin, s.end - s.begin);
      int last = s.line + static_cast<int>(std::count(text.begin(), text.end(), '\n'));
      int& known = lines[s.line];
      known = std::max(known, last);
    }
    bool asks = s.kind == Statement::Kind::kIf || s.kind == Statement::Kind::kWhile ||
                s.kind == Statement::Kind::kRepeat;
    for (const auto& e : s.expressions) {
      if (asks) {
        split(*e, Asked::kYes);
      } else {
        walk(*e);
      }
    }
    for (const auto& e : s.targets) {
      if (s.kind != Statement::Kind::kFunction) walk(*e);
    }
    for (const auto& block : s.blocks) walk(*block);
  }

  void walk(const Expression& e) {
    bool logical = e.is_binary("and") || e.is_binary("or") || e.is_comparison() ||
                   (e.kind == Kind::kUnary && e.text == "not") || asks_contains(e);
    if (logical) return split(e, Asked::kNo);
    inside(e);
  }
  bool asks_contains(const Expression& e) const {
    return wanted_ == Conditions::kAndContains && e.kind == Kind::kCall &&
           e.parts[0]->kind == Kind::kName && e.parts[0]->text == "contains";
  }
  void inside(const Expression& e) {
    for (const auto& part : e.parts) walk(*part);
    for (const auto& field : e.fields) {
      if (field.key && field.key->kind != Kind::kText) walk(*field.key);
      walk(*field.value);
    }
    if (e.body) walk(*e.body);
  }

  // The parts that are true or false by themselves.
  enum class Asked : uint8_t { kYes, kNo };
  void split(const Expression& e, Asked asked, bool negated = false) {
    if (e.kind == Kind::kParen) return split(*e.parts[0], asked, negated);
    if (e.is_binary("and") || e.is_binary("or")) {
      split(*e.parts[0], Asked::kYes, negated);
      split(*e.parts[1], asked, negated);
      return;
    }
    if (e.kind == Kind::kUnary && e.text == "not") return split(*e.parts[0], Asked::kYes, !negated);
    bool literal = e.kind == Kind::kNil || e.kind == Kind::kTrue || e.kind == Kind::kFalse ||
                   e.kind == Kind::kNumber || e.kind == Kind::kText || e.kind == Kind::kTable ||
                   e.kind == Kind::kFunction || e.kind == Kind::kVararg;
    if (!literal && (asked == Asked::kYes || e.is_comparison() || asks_contains(e)))
      conditions.push_back({&e, negated});
    inside(e);
  }

  std::string_view source_;
  const Conditions wanted_;
};

}  // namespace

Result<Instrumented> instrument(std::string_view source, Conditions conditions) {
  auto chunk = parse_lua(source);
  if (!chunk) return Error(Code::kRefused, chunk.error().expected());
  Collector collector(source, conditions);
  collector.walk(**chunk);
  struct Insertion {
    size_t at;
    bool closing;
    size_t length;  // of what it encloses
    std::string text;
  };
  std::vector<Insertion> insertions;
  Instrumented out;
  for (auto [e, negated] : collector.conditions) {
    const std::string number = std::to_string(out.conditions.size());
    insertions.push_back({e->begin, false, e->end - e->begin, "souk_condition(" + number + ","});
    insertions.push_back({e->end, true, e->end - e->begin, ")"});
    out.conditions.push_back(
        {e->line, e->column, std::string(source.substr(e->begin, e->end - e->begin)), negated});
  }
  // At one place the inner ends before the outer, and the outer begins before the inner.
  std::stable_sort(insertions.begin(), insertions.end(),
                   [](const Insertion& a, const Insertion& b) {
                     if (a.at != b.at) return a.at < b.at;
                     if (a.closing != b.closing) return a.closing;
                     return a.closing ? a.length < b.length : a.length > b.length;
                   });
  size_t at = 0;
  for (const Insertion& insertion : insertions) {
    out.source += source.substr(at, insertion.at - at);
    out.source += insertion.text;
    at = insertion.at;
  }
  out.source += source.substr(at);
  for (auto [first, last] : collector.lines) out.lines.push_back({first, last});
  return out;
}

}  // namespace souk::policy
