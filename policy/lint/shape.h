// Inside of policy/lint: what can be seen of a part of a policy by itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "policy/syntax/syntax.h"

namespace souk::policy {

enum class Type : uint8_t { kUnknown, kNil, kBoolean, kInteger, kReal, kText, kTable, kFunction };
const char* type_name(Type type);  // for people
bool is_number(Type type);

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

// Without the parentheses around it.
const Expression& bare(const Expression& expression);
// Of a comparison: with its sides changed, and where it does not hold.
std::string mirrored(const std::string& op);
std::string opposite(const std::string& op);
// What is left of a range where `op value` holds.
Range narrowed(Range range, const std::string& op, int64_t value);
// The whole number that is written there, products and signs worked out.
std::optional<int64_t> whole_constant(const Expression& expression);
// A call of the function of this name.
bool calls(const Expression& expression, std::string_view name);
// What comes after it is never reached.
bool leaves(const Statement& statement);
bool leaves(const Block& block);

}  // namespace souk::policy
