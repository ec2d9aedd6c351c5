#include "policy/templates/template.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <set>

#include "policy/decide/nearest.h"
#include "policy/lua/utf8.h"
#include "policy/templates/library.h"

namespace souk::policy {
namespace {

constexpr size_t kMaxItems = 64;
constexpr size_t kMaxTextBytes = 128;
constexpr int64_t kDayMs = 86'400'000;
constexpr std::array<const char*, 8> kTypeNames = {"integer", "time",     "text",    "texts",
                                                   "choices", "integers", "amounts", "flag"};

// The name that may have been meant, for a message.
template <class Items>
std::string did_you_mean(const Items& items, std::string_view asked) {
  std::set<std::string> names;
  for (const auto& item : items) names.insert(item.name);
  const std::string meant = nearest(std::string(asked), names);
  return meant.empty() ? "" : "; did you mean " + meant + "?";
}

Error wrong(const Template& kind, const Parameter& parameter, const std::string& expected) {
  return Error(Code::kMalformed, kind.name + "." + parameter.name + ": expected " + expected);
}

// Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
int64_t days_from_civil(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2 ? 1 : 0;
  int64_t era = (year >= 0 ? year : year - 399) / 400;
  int64_t of_era = year - era * 400;
  int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146'097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719'468;
}

std::string date_text(int64_t ms) {
  int64_t shifted = ms / kDayMs + 719'468;
  int64_t era = shifted / 146'097, of_era = shifted % 146'097;
  int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36'524 - of_era / 146'096) / 365;
  int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  int64_t shifted_month = (5 * of_year + 2) / 153;
  int64_t day = of_year - (153 * shifted_month + 2) / 5 + 1;
  int64_t month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  int64_t year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
  int64_t second = ms % kDayMs / 1000;
  char text[96];
  if (ms % kDayMs == 0) {
    std::snprintf(text, sizeof text, "%04lld-%02lld-%02lld", static_cast<long long>(year),
                  static_cast<long long>(month), static_cast<long long>(day));
  } else {
    std::snprintf(text, sizeof text, "%04lld-%02lld-%02lld %02lld:%02lld:%02lld UTC",
                  static_cast<long long>(year), static_cast<long long>(month),
                  static_cast<long long>(day), static_cast<long long>(second / 3600),
                  static_cast<long long>(second / 60 % 60), static_cast<long long>(second % 60));
  }
  return text;
}

bool is_plain(std::string_view text) {
  if (text.empty() || text.size() > kMaxTextBytes) return false;
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    if (character.length == 0 || character.point < 0x20 || is_invisible(character.point))
      return false;
    at += character.length;
  }
  return true;
}

std::string range_text(const Parameter& parameter) {
  return "a whole number from " + std::to_string(parameter.min) + " to " +
         std::to_string(parameter.max);
}

bool in_range(const Parameter& parameter, const Json& value) {
  return value.integer() && *value.integer() >= parameter.min && *value.integer() <= parameter.max;
}

Status check_items(const Template& kind, const Parameter& parameter, const Json& value) {
  const Json::Array* items = value.array();
  if (!items || items->empty() || items->size() > kMaxItems)
    return wrong(kind, parameter, "a list of 1 to 64 items");
  std::set<std::string> seen;
  int64_t last = -1;
  for (const Json& item : *items) {
    switch (parameter.type) {
      case ParameterType::kIntegers:
        if (!in_range(parameter, item) || *item.integer() <= last)
          return wrong(kind, parameter, "rising whole numbers");
        last = *item.integer();
        break;
      case ParameterType::kAmounts:
        if (!in_range(parameter, item))
          return wrong(kind, parameter, range_text(parameter) + " as each item");
        break;
      default:
        if (!item.string() || !is_plain(*item.string()) || !seen.insert(*item.string()).second) {
          return wrong(kind, parameter, "printable texts of at most 128 bytes, each once");
        }
        if (!parameter.choices.empty() &&
            std::find(parameter.choices.begin(), parameter.choices.end(), *item.string()) ==
                parameter.choices.end()) {
          std::string known;
          for (const auto& choice : parameter.choices)
            known += (known.empty() ? "" : ", ") + choice;
          return wrong(kind, parameter, "each item to be one of " + known);
        }
    }
  }
  return Done{};
}

Status check_value(const Template& kind, const Parameter& parameter, const Json& value) {
  switch (parameter.type) {
    case ParameterType::kInteger:
    case ParameterType::kTime:
      if (!in_range(parameter, value)) return wrong(kind, parameter, range_text(parameter));
      return Done{};
    case ParameterType::kText:
      if (!value.string() || !is_plain(*value.string()))
        return wrong(kind, parameter, "a printable text of 1 to 128 bytes");
      return Done{};
    case ParameterType::kFlag:
      if (!value.boolean()) return wrong(kind, parameter, "true or false");
      return Done{};
    default:
      return check_items(kind, parameter, value);
  }
}

std::optional<int64_t> whole(std::string_view text) {
  int64_t value = 0;
  auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int64_t> date(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') return std::nullopt;
  auto year = whole(text.substr(0, 4)), month = whole(text.substr(5, 2)),
       day = whole(text.substr(8, 2));
  if (!year || !month || !day || *year < 1970 || *month < 1 || *month > 12 || *day < 1)
    return std::nullopt;
  int64_t ms = days_from_civil(*year, *month, *day) * kDayMs;
  return date_text(ms) == text ? std::optional(ms) : std::nullopt;  // no 31st of February
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> items;
  size_t start = 0;
  for (size_t at = 0; at <= text.size(); ++at) {
    if (at < text.size() && text[at] != ',') continue;
    items.push_back(text.substr(start, at - start));
    start = at + 1;
  }
  return items;
}

Result<Json> read_value(const Template& kind, const Parameter& parameter, const std::string& text) {
  switch (parameter.type) {
    case ParameterType::kText:
      return Json(text);
    case ParameterType::kFlag:
      if (text == "true" || text == "false") return Json(text == "true");
      return wrong(kind, parameter, "true or false");
    case ParameterType::kTime:
      if (auto ms = date(text)) return Json(*ms);
      [[fallthrough]];
    case ParameterType::kInteger: {
      auto value = whole(text);
      if (!value)
        return wrong(kind, parameter,
                     range_text(parameter) +
                         (parameter.type == ParameterType::kTime ? ", or YYYY-MM-DD" : ""));
      return Json(*value);
    }
    default: {
      Json::Array items;
      bool numbers =
          parameter.type == ParameterType::kIntegers || parameter.type == ParameterType::kAmounts;
      for (const auto& item : split(text)) {
        auto value = whole(item);
        if (numbers && !value) return wrong(kind, parameter, "whole numbers with commas between");
        items.push_back(numbers ? Json(*value) : Json(item));
      }
      return Json(std::move(items));
    }
  }
}

std::string spoken(const Parameter& parameter, const Json& value) {
  if (auto* text = value.string()) return *text;
  if (auto* flag = value.boolean()) return *flag ? "true" : "false";
  if (auto* number = value.integer())
    return parameter.type == ParameterType::kTime ? date_text(*number) : std::to_string(*number);
  std::string out;
  for (const Json& item : *value.array())
    out += (out.empty() ? "" : ", ") +
           (item.string() ? *item.string() : std::to_string(*item.integer()));
  return out;
}

}  // namespace

const char* type_name(ParameterType type) {
  return kTypeNames[static_cast<size_t>(type)];
}

const std::vector<Template>& templates() {
  static const std::vector<Template> all = [] {
    std::vector<Template> list = run_templates();
    for (auto part : {money_templates(), party_templates()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

Result<const Template*> find_template(std::string_view name) {
  for (const Template& kind : templates()) {
    if (kind.name == name) return &kind;
  }
  return Error(Code::kMalformed,
               "expected the name of a template (souk policy templates lists them)" +
                   did_you_mean(templates(), name));
}

Result<Chosen> choose(std::string_view name, const Json::Object& values) {
  const Template* kind = TRY(find_template(name));
  Chosen chosen{kind, {}};
  for (const Parameter& parameter : kind->parameters) {
    auto set = values.find(parameter.name);
    const Json& value = set == values.end() ? parameter.fallback : set->second;
    TRY(check_value(*kind, parameter, value));
    chosen.values[parameter.name] = value;
  }
  for (const auto& [given, value] : values) {
    if (!chosen.values.count(given)) {
      return Error(Code::kMalformed, kind->name + ": expected no parameter " + one_line(given, 64) +
                                         did_you_mean(kind->parameters, given));
    }
  }
  return chosen;
}

Result<Chosen> choose_from_text(std::string_view name,
                                const std::map<std::string, std::string>& settings) {
  const Template* kind = TRY(find_template(name));
  Json::Object values;
  for (const auto& [name_given, text] : settings) {
    const std::string& given = name_given;  // clang 14 captures no structured binding
    auto parameter = std::find_if(kind->parameters.begin(), kind->parameters.end(),
                                  [&](const Parameter& p) { return p.name == given; });
    if (parameter == kind->parameters.end()) {
      values[given] = text;  // choose() says what is wrong with it
      continue;
    }
    values[given] = TRY(read_value(*kind, *parameter, text));
  }
  return choose(name, values);
}

std::string reading(const Chosen& chosen) {
  std::string out = chosen.kind->sentence;
  for (const Parameter& parameter : chosen.kind->parameters) {
    const std::string mark = "{" + parameter.name + "}";
    std::string value = spoken(parameter, chosen.values.at(parameter.name));
    for (size_t at = out.find(mark); at != std::string::npos;
         at = out.find(mark, at + value.size()))
      out.replace(at, mark.size(), value);
  }
  return out;
}

}  // namespace souk::policy
