#include "policy/analysis/probe.h"

#include <algorithm>
#include <set>

#include "policy/analysis/invariant.h"
#include "policy/analysis/machine.h"
#include "policy/lua/sandbox.h"

namespace souk::policy::analysis {
namespace {

// What the literals and the places of branches are, over a whole tree.
struct Survey {
  std::set<int64_t> integers;
  std::set<std::string> texts;
  std::vector<uint32_t> branches;
  std::vector<std::pair<uint32_t, uint32_t>> lines;  // site, line

  void walk(const Block& block) {
    for (const auto& statement : block.statements) {
      bool tests = statement->kind == Statement::Kind::kIf ||
                   statement->kind == Statement::Kind::kWhile ||
                   statement->kind == Statement::Kind::kRepeat;
      for (const auto& expr : statement->targets) walk(*expr, tests);
      for (const auto& expr : statement->values) walk(*expr, false);
      for (const auto& inner : statement->blocks) walk(*inner);
    }
  }
  // `tested`: whether its truth decides something.
  void walk(const Expr& expr, bool tested) {
    lines.emplace_back(expr.site, expr.line);
    if (expr.kind == Expr::Kind::kInteger) integers.insert(expr.integer);
    if (expr.kind == Expr::Kind::kReal && expr.real > -9e15 && expr.real < 9e15)
      integers.insert(static_cast<int64_t>(expr.real));
    if (expr.kind == Expr::Kind::kText && !expr.text.empty() && expr.text.size() <= 256)
      texts.insert(expr.text);
    bool logic = expr.kind == Expr::Kind::kAnd || expr.kind == Expr::Kind::kOr;
    bool compares = expr.kind == Expr::Kind::kBinary && is_comparison(expr.op);
    bool negates = expr.kind == Expr::Kind::kUnary && expr.op == Op::kNot;
    bool fixed = expr.kind == Expr::Kind::kTrue || expr.kind == Expr::Kind::kFalse ||
                 expr.kind == Expr::Kind::kNil;
    bool contains = expr.kind == Expr::Kind::kCall && expr.a->kind == Expr::Kind::kGlobal &&
                    expr.a->text == "contains";
    if (compares || contains ||
        (tested && !logic && !negates && !fixed && expr.kind != Expr::Kind::kParen))
      branches.push_back(expr.site);
    bool passes = tested && expr.kind == Expr::Kind::kParen;
    if (expr.a) walk(*expr.a, logic || negates || passes);
    if (expr.b) walk(*expr.b, expr.kind == Expr::Kind::kAnd || (tested && logic));
    for (const auto& each : expr.list) walk(*each, false);
    for (const auto& each : expr.keys) {
      if (each) walk(*each, false);
    }
    if (expr.function) walk(*expr.function->body);
  }
};

}  // namespace

class Probe::Machine {
 public:
  explicit Machine(const Space& space_in) : space(space_in) {}

  const Space& space;
  std::shared_ptr<const Chunk> vocabulary, policy, antecedent, consequent;
  Interpreter interpreter;
  uint32_t sites = 1;
  std::vector<uint32_t> branches, lines;
  std::vector<int64_t> integers;
  std::vector<std::string> texts;

  void survey() {
    Survey of_policy, rest;
    of_policy.walk(*policy->main.body);
    if (consequent) {
      rest.walk(*antecedent->main.body);
      rest.walk(*consequent->main.body);
    }
    branches = of_policy.branches;
    lines.assign(sites, 0);
    for (auto [site, line] : of_policy.lines) lines[site] = line;
    of_policy.integers.insert(rest.integers.begin(), rest.integers.end());
    of_policy.texts.insert(rest.texts.begin(), rest.texts.end());
    integers.assign(of_policy.integers.begin(), of_policy.integers.end());
    texts.assign(of_policy.texts.begin(), of_policy.texts.end());
  }

  // The policy's own answer, read as policy/decide/decide.cc reads it.
  void decide(Answer& answer) {
    Values out = interpreter.run_chunk(*policy);
    Value result = out.empty() ? Value{} : out[0];
    if (result.tag == Value::Tag::kClosure) {
      static const std::string kNames[] = {"request", "dataset", "ctx"};
      Values inputs;
      for (const auto& name : kNames) inputs.push_back(Value::of(&space.root(name), current));
      out = interpreter.call(result, inputs, 0);
      result = out.empty() ? Value{} : out[0];
    }
    if (result.tag != Value::Tag::kTable) return;
    static const std::string kAllow = "allow", kPrice = "price";
    const Value* allow = result.table->find(Value::of(&kAllow));
    if (!allow || allow->tag != Value::Tag::kBoolean) return;
    answer.end = Answer::End::kDecision;
    answer.allow = allow->boolean;
    const Value* price = result.table->find(Value::of(&kPrice));
    if (price && price->tag == Value::Tag::kInteger) {
      answer.price = price->integer;
      // Beyond 2^53 - 1 it is no integer of a decision.
      if (price->integer < 0 || price->integer > 9007199254740991) answer.end = Answer::End::kError;
    } else {
      if (price && price->tag != Value::Tag::kNil) answer.end = Answer::End::kError;
      static const std::string kDatasetPrice = "price";
      answer.price =
          interpreter
              .index(Value::of(&space.root("dataset"), current), Value::of(&kDatasetPrice), 0)
              .integer;
    }
    if (answer.end == Answer::End::kError) answer.allow = false;
  }

  Answer run(const Point& point) {
    current = &point;
    Answer answer;
    interpreter.reset(point, space);
    try {
      interpreter.noting = false;
      interpreter.run_chunk(*vocabulary);
      interpreter.note_contains();
      interpreter.noting = true;
      decide(answer);
    } catch (const LuaError&) {
      answer.end = Answer::End::kError;
    } catch (const LimitError&) {
      answer.end = Answer::End::kLimit;
    }
    if (!consequent) return answer;
    interpreter.set_global("allow", Value::of(answer.allow));
    interpreter.set_global("price", Value::of(answer.price));
    try {
      answer.consequent = interpreter.expression(*consequent).truthy();
      answer.antecedent = interpreter.expression(*antecedent).truthy();
    } catch (const LuaError&) {
    } catch (const LimitError&) {
    }
    return answer;
  }

  const Point* current = nullptr;
};

Probe::Probe() = default;
Probe::~Probe() = default;

Result<std::unique_ptr<Probe>> Probe::make(const Space& space, const std::string& policy,
                                           const std::string& invariant) {
  std::unique_ptr<Probe> out(new Probe());
  out->machine_ = std::make_unique<Machine>(space);
  Machine& machine = *out->machine_;
  machine.vocabulary = TRY(parse_chunk(std::string(kPolicyPrelude), machine.sites));
  auto parsed = parse_chunk(policy, machine.sites);
  if (!parsed) return std::move(parsed).take_error().within("policy");
  machine.policy = *parsed;
  if (!invariant.empty()) {
    auto sides = TRY(Invariant::of(invariant));
    auto antecedent = parse_chunk("return " + sides.left, machine.sites);
    if (!antecedent) return std::move(antecedent).take_error().within("invariant");
    auto consequent = parse_chunk("return " + sides.right, machine.sites);
    if (!consequent) return std::move(consequent).take_error().within("invariant");
    machine.antecedent = *antecedent;
    machine.consequent = *consequent;
  }
  machine.survey();
  return out;
}

Answer Probe::run(const Point& point) {
  return machine_->run(point);
}
const std::vector<Event>& Probe::events() const {
  return machine_->interpreter.events;
}
uint32_t Probe::sites() const {
  return machine_->sites;
}
const std::vector<uint32_t>& Probe::policy_branches() const {
  return machine_->branches;
}
const std::vector<int64_t>& Probe::integers() const {
  return machine_->integers;
}
const std::vector<std::string>& Probe::texts() const {
  return machine_->texts;
}
uint32_t Probe::line_of(uint32_t site) const {
  return site < machine_->lines.size() ? machine_->lines[site] : 0;
}

}  // namespace souk::policy::analysis
