// A library of policies: each template is a rule with typed parameters, a sentence
// that says it in plain words, Lua that decides it, and the same rule as a table that
// table.h evaluates without Lua. Composed templates all hold. policy/SPEC.md, Templates.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

enum class ParameterType : uint8_t {
  kInteger,  // min ... max
  kTime,     // ms since 1970; on the command line also YYYY-MM-DD (midnight UTC)
  kText,
  kTexts,     // 1 to 64 of them, each once; on the command line a,b,c
  kChoices,   // as kTexts, each one of `choices`
  kIntegers,  // 1 to 64, rising strictly
  kAmounts,   // 1 to 64
  kFlag,
};
const char* type_name(ParameterType type);  // "integer", "time", "text", ...

struct Parameter {
  std::string name;
  ParameterType type = ParameterType::kInteger;
  std::string what;                        // "most steps of one run"
  Json fallback;                           // what it is unless it is set; always of the type
  int64_t min = 0, max = kMaxJsonInteger;  // of integers, times, and members of integer lists
  std::vector<std::string> choices{};
};

// A condition that must hold: left, operator, right. Terms are sums of atoms
// (table.h). The code is the reason's when it does not.
struct Condition {
  std::string code, left, op, right;
};
// An amount added to the price, or percent taken off it, while the condition holds
// (an empty `op`: always).
struct PriceRow {
  std::string amount;
  Condition when{};
};
struct ObligationRow {
  std::string name, value;  // of policy/decide/obligations.h; a term, or a list parameter
};

struct Template {
  std::string name;
  std::string sentence;  // {parameter} stands for its value
  std::vector<Parameter> parameters;
  std::string lua;  // statements over `p`, the parameters, and what compose() declares
  std::vector<Condition> conditions{};
  std::vector<PriceRow> prices{}, discounts{};
  std::vector<ObligationRow> obligations{};
};

// All of them, in the order of their names' subjects. Never changes while running.
const std::vector<Template>& templates();
// kMalformed names the nearest.
Result<const Template*> find_template(std::string_view name);

// A template and a value for each of its parameters, checked.
struct Chosen {
  const Template* kind = nullptr;
  Json::Object values;
};
// Parameters that `values` leaves out keep their fallback. kMalformed names the
// parameter and what was expected.
Result<Chosen> choose(std::string_view name, const Json::Object& values);
// The same from texts, as typed on a command line.
Result<Chosen> choose_from_text(std::string_view name,
                                const std::map<std::string, std::string>& settings);

// One sentence in plain words.
std::string reading(const Chosen& chosen);

// The Lua source of a policy that allows exactly what every part allows; prices add
// up, discounts add up to 100 at most, obligations meet. At least one part.
Result<std::string> compose(const std::vector<Chosen>& parts);

}  // namespace souk::policy
