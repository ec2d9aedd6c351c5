#include "policy/lint/lint.h"

#include <algorithm>
#include <charconv>

#include "policy/decide/source.h"
#include "policy/lint/linter.h"
#include "policy/lua/sandbox.h"

namespace souk::policy {
namespace {

using Kind = Expression::Kind;
using StatementKind = Statement::Kind;

bool is_given(const std::string& name) {
  return global_names().count(name) != 0 || name == "request" || name == "dataset" || name == "ctx";
}

}  // namespace

void Linter::run(const Block& chunk) {
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

void Linter::add(std::string code, int line, int column, std::string message, std::string meant,
                 Finding::Weight weight) {
  for (const auto& known : report_.findings) {
    if (known.code == code && known.line == line && known.column == column) return;
  }
  report_.findings.push_back(
      {std::move(code), weight, line, column, std::move(message), std::move(meant)});
}

void Linter::add(std::string code, const Expression& where, std::string message, std::string meant,
                 Finding::Weight weight) {
  add(std::move(code), where.line, where.column, std::move(message), std::move(meant), weight);
}

std::string Linter::source_of(const Expression& e) const {
  return std::string(source_.substr(e.begin, e.end - e.begin));
}

void Linter::find_decider(const Block& chunk) {
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

void Linter::collect_globals(const Block& block) {
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

Binding* Linter::find(const std::string& name) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (auto it = scope->find(name); it != scope->end()) return &it->second;
  }
  return nullptr;
}

void Linter::declare(const std::string& name, Value value, int line, int column, bool parameter) {
  scopes_.back().insert_or_assign(name, Binding{std::move(value), line, column, false, parameter});
}

void Linter::open() {
  scopes_.emplace_back();
}

void Linter::close() {
  for (const auto& [name, binding] : scopes_.back()) {
    if (binding.read || binding.parameter || name[0] == '_') continue;
    add("unused", binding.line, binding.column, "local " + name + " is never read", "",
        Finding::Weight::kNote);
  }
  scopes_.pop_back();
}

void Linter::walk(const Block& block, Ranges ranges) {
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

void Linter::walk(const Statement& s, Ranges& ranges) {
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

bool Linter::reassigned(const std::string& name) const {
  return assigned_.count(name) != 0;
}

void Linter::assign(const Expression& target, Ranges& ranges) {
  if (target.kind == Kind::kName) {
    if (find(target.text)) return;
    if (is_given(target.text)) {
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

void Linter::walk_function(const Expression& function, Ranges ranges, const std::string& own_name) {
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

void Linter::walk_if(const Statement& s, Ranges& ranges) {
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

void Linter::walk_generic_for(const Statement& s, Ranges& ranges) {
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

void Linter::walk_return(const Statement& s, Ranges& ranges) {
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
  auto reject = [&](const char* code, const std::string& why) {
    Finding finding{code, Finding::Weight::kError, 1, 1, why, ""};
    if (auto place = refused_character(source)) {
      finding.line = place->line;
      finding.column = place->column;
    } else if (size_t at = why.find("line"); at != std::string::npos) {
      at = why.find_first_of("0123456789", at);
      if (at != std::string::npos)
        std::from_chars(why.data() + at, why.data() + why.size(), finding.line);
    }
    report.findings.push_back(std::move(finding));
    return report;
  };
  if (auto good = check_source(source); !good) {
    bool no_policy = good.error().code() == Code::kMalformed;
    return reject(no_policy ? "invalid_policy" : "publish_rejected", good.error().expected());
  }
  auto chunk = parse_lua(source);
  if (!chunk) return reject("publish_rejected", chunk.error().expected());
  Linter(source, report).run(**chunk);
  return report;
}

}  // namespace souk::policy
