#include "policy/lua/contract_parts.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace souk::policy {

Error wrong(const std::string& place, const std::string& expected) {
  return Error(Code::kMalformed, place + ": expected " + expected);
}

Result<double> real_of(const Json& value, const std::string& place) {
  if (auto* whole = value.integer()) return static_cast<double>(*whole);
  auto* text = value.string();
  if (!text) return wrong(place, "a number");
  double real = 0;
  auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), real);
  if (status != std::errc() || end != text->data() + text->size() || !std::isfinite(real))
    return wrong(place, "a number");
  return real;
}

Result<int64_t> scaled(const Json& value, double scale, int64_t most, const std::string& unit,
                       const std::string& place) {
  double real = TRY(real_of(value, place));
  double units = real * scale;
  double whole = std::nearbyint(units);
  if (!(whole >= 1)) return wrong(place, "more than zero, at least one " + unit);
  if (whole > static_cast<double>(most))
    return wrong(place, "at most " + real_text(static_cast<double>(most) / scale));
  if (std::fabs(units - whole) > 1e-9 * whole) return wrong(place, "whole " + unit + "s");
  return static_cast<int64_t>(whole);
}

Result<Table> Table::of(const Json& value, std::string place) {
  static const Json::Object none;
  if (auto* object = value.object()) return Table(object, std::move(place));
  if (value.array() && value.array()->empty()) return Table(&none, std::move(place));  // {}
  return wrong(place.empty() ? "contract" : place, "a table of named members");
}

const Json* Table::find(const std::string& name) {
  taken_.push_back(name);
  auto it = members_->find(name);
  return it == members_->end() ? nullptr : &it->second;
}

Result<const Json*> Table::need(const std::string& name, const std::string& what) {
  const Json* value = find(name);
  if (!value) return wrong(place(name), what);
  return value;
}

Result<int64_t> Table::whole(const std::string& name, int64_t min, int64_t max,
                             std::optional<int64_t> otherwise) {
  const std::string what =
      "a whole number from " + std::to_string(min) + " to " + std::to_string(max);
  const Json* value = find(name);
  if (!value && otherwise) return *otherwise;
  auto* whole = value ? value->integer() : nullptr;
  if (!whole || *whole < min || *whole > max)
    return wrong(place(name),
                 what + (value && value->string() ? " (// divides whole numbers)" : ""));
  return *whole;
}

Result<double> Table::real(const std::string& name, double otherwise) {
  const Json* value = find(name);
  if (!value) return otherwise;
  return real_of(*value, place(name));
}

Result<bool> Table::boolean(const std::string& name, bool otherwise) {
  const Json* value = find(name);
  if (!value) return otherwise;
  if (!value->boolean()) return wrong(place(name), "true or false");
  return *value->boolean();
}

Result<std::string> Table::text(const std::string& name, std::optional<std::string> otherwise) {
  const Json* value = find(name);
  if (!value && otherwise) return *otherwise;
  if (!value || !value->string() || value->string()->size() > 256)
    return wrong(place(name), "a text of at most 256 bytes");
  return *value->string();
}

Status Table::done() const {
  for (const auto& [name, value] : *members_) {
    if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
      std::string known;
      for (const auto& t : taken_) known += (known.empty() ? "" : ", ") + t;
      return wrong(place(name), "no such member; there are " + known);
    }
  }
  return Done{};
}

}  // namespace souk::policy
