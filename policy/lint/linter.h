// Inside of policy/lint: one walk over a policy, noting what it finds. Of its values it knows
// types, the input they came from, and between what an integer of the input lies.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "policy/decide/schema.h"
#include "policy/lint/lint.h"
#include "policy/lint/shape.h"

namespace souk::policy {

class Linter {
 public:
  Linter(std::string_view source, LintReport& report) : source_(source), report_(report) {}
  void run(const Block& chunk);

 private:
  void add(std::string code, int line, int column, std::string message, std::string meant = "",
           Finding::Weight weight = Finding::Weight::kError);
  void add(std::string code, const Expression& where, std::string message, std::string meant = "",
           Finding::Weight weight = Finding::Weight::kError);
  std::string source_of(const Expression& e) const;
  // The function that is returned for the decision, if the policy is of that form.
  void find_decider(const Block& chunk);
  void collect_globals(const Block& block);

  // --- names ---------------------------------------------------------------------
  Binding* find(const std::string& name);
  void declare(const std::string& name, Value value, int line, int column, bool parameter = false);
  void open();
  void close();

  // --- statements (lint.cc) ------------------------------------------------------------------
  void walk(const Block& block, Ranges ranges);
  void walk(const Statement& s, Ranges& ranges);
  // A local that is given another value later is of no known type.
  bool reassigned(const std::string& name) const;
  void assign(const Expression& target, Ranges& ranges);
  void walk_function(const Expression& function, Ranges ranges, const std::string& own_name = "");
  void walk_if(const Statement& s, Ranges& ranges);
  void walk_generic_for(const Statement& s, Ranges& ranges);
  void walk_return(const Statement& s, Ranges& ranges);

  // --- decisions ---------------------------------------------------------------------
  enum class Complete : uint8_t { kYes, kNo };
  void check_answer(const Expression& table, Ranges& ranges, Complete complete);
  void check_keys(const Expression& table, const std::set<std::string>& known, const char* code,
                  const std::string& message);
  void check_allow(const Expression& value, Ranges& ranges);
  // `a and b` is b or what made a false: any part that is no boolean may come out.
  Type boolean_type(const Expression& value, Ranges& ranges);

  // --- conditions ----------------------------------------------------------------------
  void condition(const Expression& test, Ranges& ranges, bool may_be_constant);
  std::optional<Bound> bound_of(const Expression& e);
  // What is known of integers where `e` came out as `outcome`.
  void narrow(const Expression& e, bool outcome, Ranges& ranges);
  // The path of an integer input, saying nothing about it.
  std::string quiet_path(const Expression& e);

  // --- expressions -----------------------------------------------------------------------
  Value infer(const Expression& e, Ranges& ranges);
  Value infer_name(const Expression& e);
  Value infer_index(const Expression& e, Ranges& ranges);
  Value infer_call(const Expression& e, Ranges& ranges);
  // A rule that can never hold, or always does, is not a rule.
  void check_constant_rule(const Expression& rule, Ranges& ranges);
  Value infer_unary(const Expression& e, Ranges& ranges);
  Value infer_binary(const Expression& e, Ranges& ranges);
  void check_comparison(const Expression& e, const Value& left, const Value& right);
  // Epsilon and noise are in millionths, delta in 10^-12: a small constant is a mistake of unit.
  void check_unit(const Expression& e);

  std::string_view source_;
  LintReport& report_;
  std::vector<Scope> scopes_;
  std::set<std::string> assigned_;
  std::vector<std::string> functions_;  // whose bodies we are in
  const Expression* decider_ = nullptr;
  bool deciding_ = false;  // a return here is the decision
};

}  // namespace souk::policy
