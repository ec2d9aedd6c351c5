#include "policy/templates/table.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace souk::policy {
namespace {

// Numbers here are wider than any sum of inputs, so nothing wraps.
__extension__ using Wide = __int128;
using Texts = std::vector<std::string>;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  int depth = 0;
  size_t start = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '(') ++depth;
    if (text[at] == ')') --depth;
    if (text[at] != separator || depth != 0) continue;
    out.push_back(trimmed(text.substr(start, at - start)));
    start = at + 1;
  }
  out.push_back(trimmed(text.substr(start)));
  return out;
}

// One template over one question. What cannot be evaluated is kMalformed.
struct Row {
  const Chosen& part;
  const Json& request;
  const Json& dataset;
  const Json& ctx;

  Result<const Json*> at(std::string_view path) const {
    const Json* value = nullptr;
    if (path.front() == '$') {
      auto found = part.values.find(std::string(path.substr(1)));
      value = found == part.values.end() ? nullptr : &found->second;
    } else {
      auto steps = split(path, '.');
      value = steps[0] == "request"   ? &request
              : steps[0] == "dataset" ? &dataset
              : steps[0] == "ctx"     ? &ctx
                                      : nullptr;
      for (size_t i = 1; value && i < steps.size(); ++i) value = value->find(std::string(steps[i]));
    }
    if (!value) return Error(Code::kMalformed, std::string(path) + ": expected to be there");
    return value;
  }

  Result<Texts> list(std::string_view atom) const {
    if (atom == "others") {
      auto all = TRY(list("request.providers"));
      const Json* own = TRY(at("dataset.provider"));
      all.erase(std::remove(all.begin(), all.end(), *own->string()), all.end());
      return all;
    }
    const Json* value = TRY(at(atom));
    Texts out;
    if (value->string()) return Texts{*value->string()};
    if (!value->array()) return Error(Code::kMalformed, std::string(atom) + ": expected texts");
    for (const Json& item : *value->array()) {
      if (item.string()) out.push_back(*item.string());
    }
    return out;
  }

  Result<std::vector<int64_t>> integers(std::string_view atom) const {
    const Json* value = TRY(at(atom));
    std::vector<int64_t> out;
    for (const Json& item : *value->array()) out.push_back(*item.integer());
    return out;
  }

  Result<Wide> held(std::string_view types_atom, std::string_view issuers_atom) const {
    auto types = TRY(list(types_atom));
    auto issuers = TRY(list(issuers_atom));
    const Json* now = TRY(at("ctx.now"));
    const Json* details = TRY(at("request.credential_details"));
    std::set<std::string> valid;
    for (const Json& credential : *details->array()) {
      bool known = std::find(issuers.begin(), issuers.end(),
                             *credential.find("issuer")->string()) != issuers.end();
      if (known && *credential.find("expires_ms")->integer() > *now->integer())
        valid.insert(*credential.find("type")->string());
    }
    return std::count_if(types.begin(), types.end(),
                         [&](const std::string& type) { return valid.count(type) != 0; });
  }

  Result<Wide> call(std::string_view name, const std::vector<std::string_view>& arguments) const {
    if (name == "held") return held(arguments[0], arguments[1]);
    if (name == "common") {
      auto some = TRY(list(arguments[0]));
      auto known = TRY(list(arguments[1]));
      return std::count_if(some.begin(), some.end(), [&](const std::string& item) {
        return std::find(known.begin(), known.end(), item) != known.end();
      });
    }
    if (name == "share") {
      auto amount = TRY(number(arguments[0]));
      auto rate = TRY(number(arguments[1]));
      auto whole = TRY(number(arguments[2]));
      if (amount * rate > kMaxJsonInteger)
        return Error(Code::kExhausted, "share: expected a product below 2^53");
      return (amount * rate + whole - 1) / whole;
    }
    if (name == "tier") {
      auto value = TRY(number(arguments[0]));
      auto limits = TRY(integers(arguments[1]));
      auto amounts = TRY(integers(arguments[2]));
      for (size_t i = 0; i < limits.size() && i < amounts.size(); ++i) {
        if (value <= limits[i]) return Wide{amounts[i]};
      }
      return number(arguments[3]);
    }
    return Error(Code::kBroken, std::string(name) + ": expected a known function");
  }

  Result<Wide> atom(std::string_view text) const {
    if (text.front() >= '0' && text.front() <= '9') {
      int64_t value = 0;
      std::from_chars(text.data(), text.data() + text.size(), value);
      return Wide{value};
    }
    if (text.front() == '#') {
      auto items = TRY(list(text.substr(1)));
      return static_cast<Wide>(items.size());
    }
    if (size_t open = text.find('('); open != std::string_view::npos) {
      return call(text.substr(0, open), split(text.substr(open + 1, text.size() - open - 2), ','));
    }
    const Json* value = TRY(at(text));
    if (value->boolean()) return Wide{*value->boolean() ? 1 : 0};
    if (!value->integer())
      return Error(Code::kMalformed, std::string(text) + ": expected a number");
    return Wide{*value->integer()};
  }

  Result<Wide> number(std::string_view term) const {
    Wide sum = 0;
    for (std::string_view part_of_it : split(term, '+')) sum += TRY(atom(part_of_it));
    return sum;
  }

  Result<bool> holds(const Condition& condition) const {
    if (condition.op == "in" || condition.op == "none in") {
      auto items = TRY(list(condition.left));
      auto known = TRY(list(condition.right));
      auto is_known = [&](const std::string& item) {
        return std::find(known.begin(), known.end(), item) != known.end();
      };
      return condition.op == "in" ? std::all_of(items.begin(), items.end(), is_known)
                                  : std::none_of(items.begin(), items.end(), is_known);
    }
    auto left = TRY(number(condition.left));
    auto right = TRY(number(condition.right));
    if (condition.op == "<=") return left <= right;
    if (condition.op == ">=") return left >= right;
    if (condition.op == "<") return left < right;
    if (condition.op == "==") return left == right;
    return Error(Code::kBroken, condition.op + ": expected a known operator");
  }

  Result<Json> obligation(const ObligationRow& row) const {
    if (row.value.front() == '#' || row.value.find('(') != std::string::npos) {
      auto value = TRY(number(row.value));
      return Json(static_cast<int64_t>(value));
    }
    const Json* value = TRY(at(row.value));
    return *value;
  }
};

struct Sum {
  std::vector<std::string> codes;
  bool priced = false;
  Wide price = 0, percent = 0;
  Json::Object obligations;
  std::optional<Obligations> met;
};

Status add_part(const Row& row, Sum& sum) {
  const Template& kind = *row.part.kind;
  for (const Condition& condition : kind.conditions) {
    bool holds = TRY(row.holds(condition));
    if (!holds) sum.codes.push_back(condition.code);
  }
  for (const PriceRow& price : kind.prices) {
    sum.price += TRY(row.number(price.amount));
    sum.priced = true;
  }
  for (const PriceRow& discount : kind.discounts) {
    bool earned = TRY(row.holds(discount.when));
    if (earned) sum.percent += TRY(row.number(discount.amount));
  }
  Json::Object obligations;
  for (const ObligationRow& obligation : kind.obligations)
    obligations[obligation.name] = TRY(row.obligation(obligation));
  auto read = TRY(obligations_from_json(obligations));
  sum.met = sum.met ? meet(*sum.met, read) : read;
  return Done{};
}

Result<TableAnswer> answer(const std::vector<Chosen>& parts, const Json& request,
                           const Json& dataset, const Json& ctx) {
  Sum sum;
  for (const Chosen& part : parts) TRY(add_part(Row{part, request, dataset, ctx}, sum));
  Wide price = sum.priced ? sum.price : Wide{*dataset.find("price")->integer()};
  price -= price * std::min<Wide>(sum.percent, 100) / 100;
  if (price > kMaxJsonInteger) return Error(Code::kExhausted, "expected a price below 2^53");
  TableAnswer out;
  bool is_private = *request.find("dp")->find("enabled")->boolean();
  if (sum.codes.empty() && !is_private)
    sum.codes.emplace_back("waive_privacy");  // no template waives it
  out.status = sum.codes.empty() ? DecisionStatus::kAllowed : DecisionStatus::kDenied;
  out.codes = std::move(sum.codes);
  if (out.status != DecisionStatus::kAllowed) return out;
  out.price_minor = static_cast<int64_t>(price);
  if (sum.met) out.obligations = *sum.met;
  return out;
}

}  // namespace

TableAnswer evaluate_table(const std::vector<Chosen>& parts, const Json& request,
                           const Json& dataset, const Json& ctx) {
  auto out = answer(parts, request, dataset, ctx);
  return out ? *out : TableAnswer{};
}

TableAnswer table_view(const PolicyDecision& decision) {
  TableAnswer out;
  out.status = decision.status;
  if (decision.status == DecisionStatus::kDenied) {
    for (const Reason& reason : decision.reasons) out.codes.push_back(reason.code);
  }
  out.price_minor = decision.price_minor;
  if (decision.allowed()) out.obligations = decision.obligations;
  return out;
}

}  // namespace souk::policy
