// What a policy can call (policy/lua/library.cc), again.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "policy/analysis/machine.h"

namespace souk::policy::analysis {
namespace {

constexpr size_t kMaxText = 16'384;

const char* kind_name(const Value& value) {
  switch (value.tag) {
    case Value::Tag::kNil:
      return "nil";
    case Value::Tag::kBoolean:
      return "boolean";
    case Value::Tag::kInteger:
    case Value::Tag::kReal:
      return "number";
    case Value::Tag::kText:
      return "string";
    case Value::Tag::kClosure:
    case Value::Tag::kBuiltin:
      return "function";
    default:
      return "table";
  }
}

const Value& at(const Values& values, size_t index) {
  static const Value none{};
  return index < values.size() ? values[index] : none;
}

}  // namespace

void Interpreter::install() {
  auto name = [&](const char* text) {
    library_texts_.emplace_back(text);
    return Value::of(&library_texts_.back());
  };
  auto global = [&](const char* text, Builtin which) {
    library_.emplace_back(text, Value::of(which));
  };
  global("type", Builtin::kType);
  global("tostring", Builtin::kToString);
  global("tonumber", Builtin::kToNumber);
  global("select", Builtin::kSelect);
  global("error", Builtin::kError);
  global("assert", Builtin::kAssert);
  global("pcall", Builtin::kPcall);
  global("ipairs", Builtin::kIpairs);
  global("pairs", Builtin::kPairs);
  auto library = [&](const char* text,
                     std::initializer_list<std::pair<const char*, Builtin>> functions) {
    library_tables_.emplace_back();
    Table& table = library_tables_.back();
    for (auto [inner, which] : functions) table.set(name(inner), Value::of(which));
    library_.emplace_back(text, Value::of(&table));
    return &table;
  };
  Table* math = library("math", {{"floor", Builtin::kFloor},
                                 {"ceil", Builtin::kCeil},
                                 {"abs", Builtin::kAbs},
                                 {"min", Builtin::kMin},
                                 {"max", Builtin::kMax},
                                 {"tointeger", Builtin::kToInteger},
                                 {"type", Builtin::kMathType}});
  math->set(name("maxinteger"), Value::of(INT64_MAX));
  math->set(name("mininteger"), Value::of(INT64_MIN));
  strings_ = library("string", {{"len", Builtin::kLen},
                                {"sub", Builtin::kSub},
                                {"upper", Builtin::kUpper},
                                {"lower", Builtin::kLower},
                                {"rep", Builtin::kRep},
                                {"reverse", Builtin::kReverse},
                                {"byte", Builtin::kByte},
                                {"char", Builtin::kChar},
                                {"find", Builtin::kFind},
                                {"format", Builtin::kFormat}});
  library("table", {{"insert", Builtin::kInsert},
                    {"remove", Builtin::kRemove},
                    {"concat", Builtin::kConcat},
                    {"unpack", Builtin::kUnpack},
                    {"sort", Builtin::kSort}});
}

Values Interpreter::ordered_keys(const Value& object) {
  Values keys;
  if (object.tag == Value::Tag::kInput) {
    const FieldNode& node = *object.input;
    if (node.field->kind == FieldKind::kBlock || object.self) {
      std::vector<const std::string*> names;
      for (const FieldNode* member : node.members) {
        if (Space::is_there(*member, *object.slots)) names.push_back(&member->name);
      }
      std::sort(names.begin(), names.end(), [](auto* a, auto* b) { return *a < *b; });
      for (auto* text_of_name : names) keys.push_back(Value::of(text_of_name));
      return keys;
    }
    for (int64_t i = 1; i <= length(object); ++i) keys.push_back(Value::of(i));
    return keys;
  }
  if (object.tag != Value::Tag::kTable) fail("expected a table");
  for (size_t i = 1; i <= object.table->items.size(); ++i)
    keys.push_back(Value::of(static_cast<int64_t>(i)));
  for (const auto& [key, value] : object.table->named) keys.push_back(key);
  auto rank = [](const Value& value) {
    return value.tag == Value::Tag::kInteger ? 0 : value.tag == Value::Tag::kText ? 1 : 2;
  };
  std::stable_sort(keys.begin(), keys.end(), [&](const Value& a, const Value& b) {
    if (rank(a) != rank(b)) return rank(a) < rank(b);
    if (rank(a) == 0) return a.integer < b.integer;
    return rank(a) == 1 ? *a.text < *b.text : false;
  });
  return keys;
}

bool Interpreter::contains(const Value& list, const Value& wanted, uint32_t site) {
  bool found = false;
  Value last;
  for (int64_t i = 1;; ++i) {
    Value item = index(list, Value::of(i), 0);
    if (item.tag == Value::Tag::kNil) break;
    step();
    last = item;
    if (same(item, wanted)) found = true;
    if (!found && i <= 16) note(site, Event::Kind::kContains, Op::kEq, false, item, wanted);
  }
  if (found) note(site, Event::Kind::kContains, Op::kEq, true, wanted, wanted);
  if (!found && last.tag == Value::Tag::kNil)
    note(site, Event::Kind::kContains, Op::kEq, false, {}, wanted);
  return found;
}

Values Interpreter::protected_call(Values& arguments, uint32_t site) {
  if (arguments.empty()) fail("value expected");
  Value function = arguments[0];
  arguments.erase(arguments.begin());
  size_t top = top_;
  int depth = depth_;
  Values out;
  try {
    out = call(function, arguments, site);
    out.insert(out.begin(), Value::of(true));
  } catch (const LuaError& error) {
    top_ = top;
    depth_ = depth;
    out = {Value::of(false), error.value};
  }
  note(site, Event::Kind::kTruth, Op::kEq, out[0].boolean, out[0], {});
  return out;
}

Values Interpreter::builtin(Builtin which, Values& arguments, uint32_t site) {
  step();
  switch (which) {
    case Builtin::kType:
      return {text(kind_name(at(arguments, 0)))};
    case Builtin::kToString:
      return {text(text_of(at(arguments, 0)))};
    case Builtin::kToNumber: {
      const Value& value = at(arguments, 0);
      if (value.is_number() && arguments.size() < 2) return {value};
      if (value.tag != Value::Tag::kText) return {Value{}};
      int base = arguments.size() > 1 && arguments[1].tag == Value::Tag::kInteger
                     ? static_cast<int>(arguments[1].integer)
                     : 10;
      if (base < 2 || base > 36) fail("base out of range");
      int64_t number = 0;
      const std::string& digits = *value.text;
      auto read = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
      if (read.ec == std::errc() && read.ptr == digits.data() + digits.size())
        return {Value::of(number)};
      if (base != 10 || digits.empty()) return {Value{}};
      char* end = nullptr;
      double real = std::strtod(digits.c_str(), &end);
      return {end == digits.c_str() + digits.size() ? Value::of(real) : Value{}};
    }
    case Builtin::kSelect: {
      const Value& first = at(arguments, 0);
      if (first.tag == Value::Tag::kText && *first.text == "#")
        return {Value::of(static_cast<int64_t>(arguments.size() - 1))};
      if (first.tag != Value::Tag::kInteger || first.integer < 1) fail("index out of range");
      if (static_cast<uint64_t>(first.integer) >= arguments.size()) return {};
      return Values(arguments.begin() + first.integer, arguments.end());
    }
    case Builtin::kError:
      throw LuaError{at(arguments, 0)};
    case Builtin::kAssert:
      note(site, Event::Kind::kTruth, Op::kEq, at(arguments, 0).truthy(), at(arguments, 0), {});
      if (at(arguments, 0).truthy()) return arguments;
      fail("assertion failed");
    case Builtin::kPcall:
      return protected_call(arguments, site);
    case Builtin::kIpairs:
    case Builtin::kPairs:
      return {Value::of(which), at(arguments, 0),
              which == Builtin::kIpairs ? Value::of(int64_t{0}) : Value{}};
    case Builtin::kContains:
      return {Value::of(contains(at(arguments, 0), at(arguments, 1), site))};
    default:
      break;
  }
  if (which <= Builtin::kMathType) return math_builtin(which, arguments, site);
  if (which <= Builtin::kFormat) return text_builtin(which, arguments, site);
  return table_builtin(which, arguments, site);
}

Values Interpreter::math_builtin(Builtin which, Values& arguments, uint32_t site) {
  const Value& value = at(arguments, 0);
  if (which == Builtin::kMathType) {
    if (!value.is_number()) return {Value{}};
    return {text(value.tag == Value::Tag::kInteger ? "integer" : "float")};
  }
  if (!value.is_number()) {
    if (which == Builtin::kToInteger) return {Value{}};
    fail("number expected");
  }
  switch (which) {
    case Builtin::kFloor:
    case Builtin::kCeil: {
      if (value.tag == Value::Tag::kInteger) return {value};
      double rounded = which == Builtin::kFloor ? std::floor(value.real) : std::ceil(value.real);
      if (!(std::fabs(rounded) < 9.2e18)) fail("expected a number that fits 64 bits");
      return {Value::of(static_cast<int64_t>(rounded))};
    }
    case Builtin::kAbs:
      if (value.tag == Value::Tag::kReal) return {Value::of(std::fabs(value.real))};
      return {Value::of(value.integer < 0
                            ? static_cast<int64_t>(0 - static_cast<uint64_t>(value.integer))
                            : value.integer)};
    case Builtin::kToInteger:
      if (value.tag == Value::Tag::kInteger) return {value};
      if (std::floor(value.real) != value.real || std::fabs(value.real) >= 9.2e18) return {Value{}};
      return {Value::of(static_cast<int64_t>(value.real))};
    default:
      break;
  }
  Value best = value;  // min or max
  for (const Value& other : arguments) {
    if (!other.is_number()) fail("number expected");
    bool smaller = other.number()<best.number(), larger = other.number()> best.number();
    bool better = which == Builtin::kMin ? smaller : larger;
    note(site, Event::Kind::kCompare, which == Builtin::kMin ? Op::kLt : Op::kGt, better, other,
         best);
    if (better) best = other;
  }
  return {best};
}

Values Interpreter::text_builtin(Builtin which, Values& arguments, uint32_t site) {
  auto integer = [&](size_t index, int64_t fallback) {
    const Value& value = at(arguments, index);
    if (value.tag == Value::Tag::kNil) return fallback;
    if (!value.is_number()) fail("number expected");
    return value.tag == Value::Tag::kInteger ? value.integer : static_cast<int64_t>(value.real);
  };
  if (which == Builtin::kChar) {
    std::string out;
    for (size_t i = 0; i < arguments.size(); ++i) {
      int64_t code = integer(i, 0);
      if (code < 0 || code > 255) fail("value out of range");
      out += static_cast<char>(code);
    }
    return {text(std::move(out))};
  }
  if (at(arguments, 0).tag != Value::Tag::kText) fail("string expected");
  const std::string& subject = *arguments[0].text;
  auto size = static_cast<int64_t>(subject.size());
  auto from = [&](int64_t position) {
    return position > 0 ? position : position == 0 || position < -size ? 1 : size + position + 1;
  };
  auto to = [&](int64_t position) {
    return position > size    ? size
           : position >= 0    ? position
           : position < -size ? 0
                              : size + position + 1;
  };
  std::string out;
  switch (which) {
    case Builtin::kLen:
      return {Value::of(size)};
    case Builtin::kSub: {
      int64_t first = from(integer(1, 1)), last = to(integer(2, -1));
      if (first <= last)
        out = subject.substr(static_cast<size_t>(first - 1), static_cast<size_t>(last - first + 1));
      return {text(std::move(out))};
    }
    case Builtin::kUpper:
    case Builtin::kLower:
      out = subject;
      for (char& c : out) {
        if (which == Builtin::kUpper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
        if (which == Builtin::kLower && c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
      }
      return {text(std::move(out))};
    case Builtin::kReverse:
      return {text(std::string(subject.rbegin(), subject.rend()))};
    case Builtin::kRep: {
      int64_t times = integer(1, 0);
      const std::string between =
          at(arguments, 2).tag == Value::Tag::kText ? *arguments[2].text : "";
      if (times > 0 &&
          static_cast<uint64_t>(times) * (subject.size() + between.size() + 1) > kMaxText)
        throw LimitError{};
      for (int64_t i = 0; i < times; ++i) out += (i > 0 ? between : "") + subject;
      return {text(std::move(out))};
    }
    case Builtin::kByte: {
      int64_t first = from(integer(1, 1)), last = to(integer(2, integer(1, 1)));
      Values bytes;
      for (int64_t i = first; i <= last && bytes.size() < 1000; ++i) {
        bytes.push_back(Value::of(
            static_cast<int64_t>(static_cast<uint8_t>(subject[static_cast<size_t>(i - 1)]))));
      }
      return bytes;
    }
    case Builtin::kFind: {
      const Value& wanted = at(arguments, 1);
      if (wanted.tag != Value::Tag::kText) fail("string expected");
      if (!at(arguments, 3).truthy() &&
          wanted.text->find_first_of("^$*+?.([%-") != std::string::npos)
        fail("patterns do not exist here");
      auto start = static_cast<size_t>(from(integer(2, 1)) - 1);
      size_t found = start > subject.size() ? std::string::npos : subject.find(*wanted.text, start);
      note(site, Event::Kind::kFind, Op::kEq, found != std::string::npos, arguments[0], wanted);
      if (found == std::string::npos) return {Value{}};
      return {Value::of(static_cast<int64_t>(found + 1)),
              Value::of(static_cast<int64_t>(found + wanted.text->size()))};
    }
    case Builtin::kFormat:
      return {text(format(arguments))};
    default:
      fail("unknown function");
  }
}

std::string Interpreter::format(const Values& arguments) {
  const std::string& pattern = *arguments[0].text;
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      out += pattern[i];
      continue;
    }
    if (i + 1 < pattern.size() && pattern[i + 1] == '%') {
      out += '%';
      ++i;
      continue;
    }
    size_t end = pattern.find_first_of("diuxXcsqfgeaGEAo", i + 1);
    if (end == std::string::npos || end - i > 8) fail("invalid conversion");
    std::string conversion = pattern.substr(i, end - i + 1);
    const Value& value = at(arguments, next++);
    char made[512];
    switch (conversion.back()) {
      case 's':
      case 'q':
        out += text_of(value);
        break;
      case 'c':
        if (!value.is_number()) fail("number expected");
        out += static_cast<char>(static_cast<int64_t>(value.number()));
        break;
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        if (!value.is_number()) fail("number expected");
        conversion.insert(conversion.size() - 1, "ll");
        std::snprintf(made, sizeof made, conversion.c_str(),
                      value.tag == Value::Tag::kInteger ? static_cast<long long>(value.integer)
                                                        : static_cast<long long>(value.real));
        out += made;
        break;
      default:
        if (!value.is_number()) fail("number expected");
        std::snprintf(made, sizeof made, conversion.c_str(), value.number());
        out += made;
    }
    if (out.size() > kMaxText) throw LimitError{};
    i = end;
  }
  return out;
}

Values Interpreter::table_builtin(Builtin which, Values& arguments, uint32_t site) {
  const Value& object = at(arguments, 0);
  if (which == Builtin::kConcat) {
    std::string between = at(arguments, 1).tag == Value::Tag::kText ? *arguments[1].text : "", out;
    for (int64_t i = 1, end = length(object); i <= end; ++i) {
      Value item = index(object, Value::of(i), 0);
      if (item.tag != Value::Tag::kText && !item.is_number())
        fail("invalid value in table for concat");
      out += (i > 1 ? between : "") + text_of(item);
      if (out.size() > kMaxText) throw LimitError{};
    }
    return {text(std::move(out))};
  }
  if (which == Builtin::kUnpack) {
    Values out;
    for (int64_t i = 1, end = std::min<int64_t>(length(object), 200); i <= end; ++i)
      out.push_back(index(object, Value::of(i), 0));
    return out;
  }
  if (object.tag != Value::Tag::kTable) fail("table expected");
  auto& items = object.table->items;
  switch (which) {
    case Builtin::kInsert:
      if (arguments.size() == 2) {
        object.table->set(Value::of(static_cast<int64_t>(items.size() + 1)), arguments[1]);
        return {};
      }
      if (at(arguments, 1).tag != Value::Tag::kInteger || arguments[1].integer < 1 ||
          static_cast<uint64_t>(arguments[1].integer) > items.size() + 1) {
        fail("position out of bounds");
      }
      items.insert(items.begin() + (arguments[1].integer - 1), at(arguments, 2));
      return {};
    case Builtin::kRemove: {
      if (items.empty()) return {Value{}};
      size_t place = at(arguments, 1).tag == Value::Tag::kInteger
                         ? static_cast<size_t>(arguments[1].integer - 1)
                         : items.size() - 1;
      if (place >= items.size()) fail("position out of bounds");
      Value gone = items[place];
      items.erase(items.begin() + static_cast<std::ptrdiff_t>(place));
      return {gone};
    }
    case Builtin::kSort:
      sort(*object.table, at(arguments, 1), site);
      return {};
    default:
      fail("unknown function");
  }
}

// By insertion: total whatever the order says, and policies sort little.
void Interpreter::sort(Table& table, const Value& order, uint32_t site) {
  auto less = [&](const Value& a, const Value& b) {
    step();
    if (order.tag != Value::Tag::kNil) {
      Values said = call(order, {a, b}, site);
      return !said.empty() && said[0].truthy();
    }
    if (a.is_number() && b.is_number()) return a.number() < b.number();
    if (a.tag == Value::Tag::kText && b.tag == Value::Tag::kText) return *a.text < *b.text;
    fail("attempt to compare different things");
  };
  auto& items = table.items;
  for (size_t i = 1; i < items.size(); ++i) {
    for (size_t k = i; k > 0 && less(items[k], items[k - 1]); --k)
      std::swap(items[k], items[k - 1]);
  }
}

}  // namespace souk::policy::analysis
