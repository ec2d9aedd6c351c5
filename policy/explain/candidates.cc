#include "policy/explain/candidates.h"

#include <algorithm>
#include <charconv>

#include "policy/syntax/syntax.h"

namespace souk::policy {
namespace {

constexpr size_t kMostNumbers = 96;
constexpr size_t kMostConstantsOfRemainders = 12;

void add_number(std::string_view digits, std::set<int64_t>& out) {
  int64_t value = 0;
  auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (status == std::errc() && end == digits.data() + digits.size()) out.insert(value);
}

void add_numbers_in(std::string_view text, std::set<int64_t>& out) {
  for (size_t i = 0; i < text.size();) {
    size_t start = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    if (i > start) add_number(text.substr(start, i - start), out);
    if (i == start) ++i;
  }
}

// The nearest on both sides of `now` that leave one of the constants when divided by another.
void add_remainders(const std::set<int64_t>& constants, int64_t now, std::set<int64_t>& out) {
  std::vector<int64_t> small;
  for (int64_t each : constants) {
    if (each >= 0 && each <= INT32_MAX && small.size() < kMostConstantsOfRemainders)
      small.push_back(each);
  }
  for (int64_t divisor : small) {
    if (divisor < 2) continue;
    for (int64_t rest : small) {
      if (rest >= divisor) continue;
      int64_t below = now - now % divisor + rest;
      for (int64_t value : {below - divisor, below, below + divisor}) out.insert(value);
    }
  }
}

}  // namespace

const Json* member_at(const Json& request, std::string_view path) {
  const Json* at = &request;
  path.remove_prefix(path.find('.') + 1);  // "request."
  while (at) {
    size_t dot = path.find('.');
    at = at->find(std::string(path.substr(0, dot)));
    if (dot == std::string_view::npos) return at;
    path.remove_prefix(dot + 1);
  }
  return nullptr;
}

void set_member(Json& request, std::string_view path, const Json& value) {
  Json* at = &request;
  path.remove_prefix(path.find('.') + 1);
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    at = &(*at->object())[std::string(path.substr(0, dot))];
    path.remove_prefix(dot + 1);
  }
  (*at->object())[std::string(path)] = value;
}

bool is_changeable(const SchemaField& field) {
  bool scalar = field.kind == FieldKind::kInteger || field.kind == FieldKind::kBoolean ||
                field.kind == FieldKind::kToken || field.kind == FieldKind::kText;
  bool list = field.kind == FieldKind::kTokens || field.kind == FieldKind::kTexts;
  return (scalar || list) && field.path.starts_with("request.") &&
         field.path.find('[') == std::string_view::npos && field.path != "request.id" &&
         field.path != "request.consumer" && field.path != "request.currency";
}

Candidates::Candidates(std::string_view source) {
  auto tokens = tokens_of(source);
  if (!tokens) return;
  for (const Token& token : *tokens) {
    if (token.kind == Token::Kind::kNumber) add_number(token.source, numbers_);
    bool brief =
        token.kind == Token::Kind::kText && !token.value.empty() && token.value.size() <= 128;
    if (brief) texts_.insert(token.value);
    if (token.kind == Token::Kind::kName) texts_.insert(std::string(token.source));  // {EU = true}
    divides_ = divides_ || token.source == "%";
  }
}

std::vector<Json> Candidates::of(const SchemaField& field, const Json& now, const Json& tried,
                                 const PolicyDecision& decision) const {
  std::vector<Json> out;
  switch (field.kind) {
    case FieldKind::kBoolean:
      out.push_back(!*now.boolean());
      break;
    case FieldKind::kInteger:
      out = numbers(field, *now.integer(), *tried.integer(), decision);
      break;
    case FieldKind::kToken:
    case FieldKind::kText:
      if (field.path == "request.algorithm") out = {"logreg", "mlp", "cnn"};
      for (const auto& text : texts_) out.emplace_back(text);
      break;
    default:
      out = lists(*tried.array());
  }
  out.erase(std::remove(out.begin(), out.end(), now), out.end());
  return out;
}

std::vector<std::string> Candidates::issuers() const {
  std::vector<std::string> out = {"any"};
  for (const auto& text : texts_) {
    if (text.size() == 64) out.push_back(text);
  }
  return out;
}

// On both sides; found by steps where no constant says where.
std::vector<Json> Candidates::numbers(const SchemaField& field, int64_t now, int64_t tried,
                                      const PolicyDecision& decision) const {
  std::set<int64_t> constants = numbers_;
  for (const auto& reason : decision.reasons) add_numbers_in(reason.need, constants);
  std::set<int64_t> values = {field.min, field.min + 1};
  for (int64_t constant : constants) {
    // No field has room beyond these.
    if (constant > kMaxJsonInteger) continue;
    for (int64_t step : {-1, 0, 1}) values.insert(constant + step);
  }
  for (int bits : {1, 2, 4, 8, 16, 24}) {
    if (now < (field.max >> bits)) values.insert(std::max<int64_t>(now, 1) << bits);
    values.insert(now >> bits);
  }
  if (divides_) add_remainders(constants, tried, values);
  std::vector<int64_t> sorted;
  for (int64_t value : values) {
    if (value >= field.min && value <= field.max) sorted.push_back(value);
  }
  std::sort(sorted.begin(), sorted.end(),
            [&](int64_t a, int64_t b) { return std::abs(a - now) < std::abs(b - now); });
  if (sorted.size() > kMostNumbers) sorted.resize(kMostNumbers);
  return {sorted.begin(), sorted.end()};
}

// One item less or more.
std::vector<Json> Candidates::lists(const Json::Array& now) const {
  std::vector<Json> out;
  for (size_t i = 0; i < now.size(); ++i) {
    Json::Array less = now;
    less.erase(less.begin() + static_cast<Json::Array::difference_type>(i));
    out.emplace_back(std::move(less));
  }
  for (const auto& text : texts_) {
    if (std::find(now.begin(), now.end(), Json(text)) != now.end()) continue;
    Json::Array more = now;
    more.emplace_back(text);
    out.emplace_back(std::move(more));
  }
  return out;
}

}  // namespace souk::policy
