#include "policy/decide/schema.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

#include "policy/decide/nearest.h"
#include "policy/lua/utf8.h"

namespace souk::policy {
namespace {

using Presence = SchemaField::Presence;
constexpr Presence kRequired = Presence::kRequired, kOptional = Presence::kOptional;
constexpr int64_t kMost = kMaxJsonInteger;

constexpr SchemaField kSchema[] = {
    {"request", FieldKind::kBlock, kRequired, 0, 0, "the training contract"},
    {"request.id", FieldKind::kToken, kRequired, 1, 128, "of the contract"},
    {"request.consumer", FieldKind::kToken, kRequired, 1, 128, "who asks"},
    {"request.purpose", FieldKind::kText, kRequired, 1, 256, "what the model is for"},
    {"request.region", FieldKind::kText, kRequired, 0, 256, "where it is to be used; may be empty"},
    {"request.algorithm", FieldKind::kToken, kRequired, 1, 32,
     "logreg, mlp or cnn; obligations know no other"},
    {"request.epochs", FieldKind::kInteger, kRequired, 1, kMost,
     "passes over the data, rounded up"},
    {"request.payment", FieldKind::kInteger, kRequired, 0, kMost, "offered, in minor units"},
    {"request.dp", FieldKind::kBlock, kRequired, 0, 0, "differential privacy"},
    {"request.dp.enabled", FieldKind::kBoolean, kRequired, 0, 0, "whether the run has it"},
    {"request.dp.epsilon_micro", FieldKind::kInteger, kRequired, 0, kMost, "millionths of epsilon"},
    {"request.dp.delta_pico", FieldKind::kInteger, kRequired, 0, 999'999'999'999,
     "delta in 10^-12"},
    {"request.dp.noise_micro", FieldKind::kInteger, kOptional, 0, kMost,
     "noise multiplier in millionths, rounded down"},
    {"request.dp.clip_micro", FieldKind::kInteger, kOptional, 0, kMost,
     "clipping norm in millionths, rounded up"},
    {"request.dp.user_cap", FieldKind::kInteger, kOptional, 1, 1024,
     "rows of one person that epsilon covers; 1: a row is the unit"},
    {"request.credentials", FieldKind::kTokens, kRequired, 0, 64, "types the consumer holds"},
    {"request.credential_details", FieldKind::kBlocks, kOptional, 0, 64,
     "the same, each with its issuer"},
    {"request.credential_details[].type", FieldKind::kToken, kRequired, 1, 128,
     "of the credential"},
    {"request.credential_details[].issuer", FieldKind::kToken, kRequired, 1, 128, "who says it"},
    {"request.credential_details[].expires_ms", FieldKind::kInteger, kRequired, 0, kMost,
     "Unix time"},
    {"request.model", FieldKind::kBlock, kOptional, 0, 0, "of the run"},
    {"request.model.parameters", FieldKind::kInteger, kRequired, 1, kMost,
     "numbers that are trained"},
    {"request.model.layers", FieldKind::kInteger, kRequired, 1, 256, "nodes of the graph"},
    {"request.model.ops", FieldKind::kTokens, kRequired, 0, 256, "operations in it"},
    {"request.steps", FieldKind::kInteger, kOptional, 1, 1'000'000, "of the optimiser"},
    {"request.batch", FieldKind::kInteger, kOptional, 1, 65536, "examples of a step"},
    {"request.currency", FieldKind::kToken, kOptional, 1, 128, "of the payment"},
    {"request.output", FieldKind::kBlock, kOptional, 0, 0, "what comes out"},
    {"request.output.form", FieldKind::kToken, kRequired, 1, 32, "weights"},
    {"request.datasets", FieldKind::kInteger, kOptional, 1, 256, "how many the contract joins"},
    {"request.providers", FieldKind::kTokens, kOptional, 0, 256, "of all datasets of the contract"},
    {"request.dataset_ids", FieldKind::kTokens, kOptional, 0, 256,
     "all datasets of the contract, and those its initial weights have learned from"},
    {"request.dataset_names", FieldKind::kTexts, kOptional, 0, 256, "their names"},
    {"dataset", FieldKind::kBlock, kRequired, 0, 0, "the provider's own"},
    {"dataset.id", FieldKind::kToken, kRequired, 1, 128, "of the dataset"},
    {"dataset.rows", FieldKind::kInteger, kRequired, 0, kMost, "records"},
    {"dataset.price", FieldKind::kInteger, kRequired, 0, kMost,
     "list price in minor units; the price unless the policy names one"},
    {"dataset.user_cap", FieldKind::kInteger, kOptional, 1, 1024,
     "rows of one person at most, as its provider counted; 1: a row is the unit"},
    {"dataset.name", FieldKind::kText, kOptional, 0, 256, "its name"},
    {"dataset.provider", FieldKind::kToken, kOptional, 1, 128, "whose it is"},
    {"dataset.provider_name", FieldKind::kText, kOptional, 0, 256, "the name of that"},
    {"dataset.budget", FieldKind::kBlock, kOptional, 0, 0, "privacy budget for all runs together"},
    {"dataset.budget.epsilon_micro", FieldKind::kInteger, kRequired, 0, kMost,
     "millionths of epsilon"},
    {"dataset.budget.delta_pico", FieldKind::kInteger, kRequired, 0, kMost, "delta in 10^-12"},
    {"ctx", FieldKind::kBlock, kRequired, 0, 0, "the moment"},
    {"ctx.now", FieldKind::kInteger, kRequired, 0, kMost,
     "ledger time; the market gives milliseconds"},
    {"ctx.spent_epsilon_micro", FieldKind::kInteger, kRequired, 0, kMost,
     "spent or reserved of this dataset"},
    {"ctx.runs", FieldKind::kInteger, kRequired, 0, kMost, "so far on this dataset"},
    {"ctx.head", FieldKind::kInteger, kOptional, 0, kMost, "size of the ledger"},
    {"ctx.consumer", FieldKind::kBlock, kOptional, 0, 0, "what this dataset gave to this consumer"},
    {"ctx.consumer.spent_epsilon_micro", FieldKind::kInteger, kRequired, 0, kMost,
     "millionths of epsilon"},
    {"ctx.consumer.runs", FieldKind::kInteger, kRequired, 0, kMost, "so far"},
    {"ctx.consumer.last_run", FieldKind::kInteger, kRequired, 0, kMost,
     "time of the latest; 0: none"},
    {"ctx.purpose", FieldKind::kBlock, kOptional, 0, 0, "what this dataset gave to this purpose"},
    {"ctx.purpose.spent_epsilon_micro", FieldKind::kInteger, kRequired, 0, kMost,
     "millionths of epsilon"},
    {"ctx.purpose.runs", FieldKind::kInteger, kRequired, 0, kMost, "so far"},
    {"ctx.purpose.last_run", FieldKind::kInteger, kRequired, 0, kMost,
     "time of the latest; 0: none"},
};

bool is_token(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-' || c == ':' || c == '/';
  });
}

bool is_words(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    auto character = utf8_at(text, at);
    if (character.length == 0 || is_invisible(character.point)) return false;
    at += character.length;
  }
  return true;
}

bool fits(const SchemaField& field, const std::string& text) {
  bool words = field.kind == FieldKind::kText || field.kind == FieldKind::kTexts;
  bool list = field.kind == FieldKind::kTokens || field.kind == FieldKind::kTexts;
  auto most = list ? (words ? 256u : 128u) : static_cast<size_t>(field.max);
  auto least = list ? 1u : static_cast<size_t>(field.min);
  return text.size() >= least && text.size() <= most && (words ? is_words(text) : is_token(text));
}

std::string expectation(const SchemaField& field) {
  const std::string range = std::to_string(field.min) + " to " + std::to_string(field.max);
  switch (field.kind) {
    case FieldKind::kBlock:
      return "a block";
    case FieldKind::kBlocks:
      return "a list of at most " + std::to_string(field.max) + " blocks";
    case FieldKind::kInteger:
      return "a whole number from " + range;
    case FieldKind::kBoolean:
      return "true or false";
    case FieldKind::kToken:
      return range + " letters, digits and ._-:/";
    case FieldKind::kText:
      return range + " bytes of printable UTF-8";
    case FieldKind::kTokens:
      return "a list of at most " + std::to_string(field.max) +
             " names of letters, digits and ._-:/, each once";
    case FieldKind::kTexts:
      return "a list of at most " + std::to_string(field.max) + " printable texts, each once";
  }
  return "";
}

std::string kind_of(const Json& value) {
  if (const Json* real = value.find("$float"); real && real->string())
    return ", not the number " + real->string()->substr(0, 32);
  if (auto* whole = value.integer()) return ", not " + std::to_string(*whole);
  if (value.is_null()) return ", not null";
  if (value.string()) return ", not a text";
  if (value.boolean()) return ", not true or false";
  if (value.array()) return ", not a list";
  if (value.object()) return ", not a block";
  return "";
}

Error wrong(const std::string& path, const std::string& expected) {
  return Error(Code::kMalformed, path + ": expected " + expected);
}

// Of a text where texts belong: what is wrong with it.
std::string flaw_of(const SchemaField& field, const std::string& text) {
  if (fits(field, text)) return ", not the same twice";
  bool right_length = fits(field, std::string(text.size(), 'x'));
  if (right_length) return ", not a text with other characters";
  return ", not a text of " + std::to_string(text.size()) + " bytes";
}

Error wrong_value(const std::string& path, const SchemaField& field, const Json& value) {
  const bool of_text = field.kind == FieldKind::kToken || field.kind == FieldKind::kText;
  const bool text = of_text && value.string();
  return wrong(path,
               expectation(field) + (text ? flaw_of(field, *value.string()) : kind_of(value)));
}

Error wrong_item(const std::string& path, const SchemaField& field, const Json& item) {
  return wrong(
      path, expectation(field) + (item.string() ? flaw_of(field, *item.string()) : kind_of(item)));
}

// Of a list that is no list, or too long.
Error wrong_list(const std::string& path, const SchemaField& field, const Json& value) {
  auto* items = value.array();
  return wrong(path, expectation(field) +
                         (items ? ", not " + std::to_string(items->size()) : kind_of(value)));
}

// The table as a tree, so that a member is found among its block's few.
struct Place {
  const SchemaField* field = nullptr;
  std::vector<std::pair<std::string_view, const Place*>> members;  // as the document has them
  std::vector<std::pair<std::string_view, const Place*>> by_name;  // the same
  size_t required = 0;
};

struct Tree {
  std::map<std::string_view, Place> places;  // by the path of the table
  Tree() {
    for (const SchemaField& field : kSchema) places[field.path].field = &field;
    for (const SchemaField& field : kSchema) {
      size_t dot = field.path.rfind('.');
      if (dot == std::string_view::npos) continue;
      std::string_view block = field.path.substr(0, dot);
      if (block.ends_with("[]")) block.remove_suffix(2);
      Place& place = places[block];
      place.members.emplace_back(field.path.substr(dot + 1), &places[field.path]);
      place.required += field.required();
    }
    for (auto& [path, place] : places) {
      place.by_name = place.members;
      std::sort(place.by_name.begin(), place.by_name.end());
    }
  }
};
const Tree& tree() {
  static const Tree table;
  return table;
}

// Where we are, written out only when something is wrong there.
struct Trail {
  const Trail* up = nullptr;
  std::string_view name;
  size_t item = 0;  // from 1; 0: no item

  std::string text() const {
    std::string out = up ? up->text() : "";
    if (item > 0) return out + "[" + std::to_string(item) + "]";
    return out.empty() ? std::string(name) : out + "." + std::string(name);
  }
};

Status check_value(const Trail& trail, const Place& place, const Json& value);

Status check_block(const Trail& trail, const Place& place, const Json& value) {
  size_t required = 0;
  auto found = place.by_name.begin();
  for (const auto& [name, member] : *value.object()) {
    Trail inner{&trail, name, 0};
    // Both are in the order of their names.
    while (found != place.by_name.end() && found->first < name) ++found;
    if (found == place.by_name.end() || found->first != name) {
      const std::string path = inner.text();
      std::string meant = nearest_path(path);
      return Error(Code::kMalformed, path.substr(0, 200) + ": there is no such field" +
                                         (meant.empty() ? "" : "; did you mean " + meant + "?"));
    }
    TRY(check_value(inner, *found->second, member));
    required += found->second->field->required();
  }
  if (required == place.required) return Done{};
  for (const auto& [name, member] : place.members) {
    if (!member->field->required() || value.find(std::string(name))) continue;
    return Error(Code::kMalformed, Trail{&trail, name, 0}.text() + ": missing; expected " +
                                       expectation(*member->field));
  }
  return Done{};
}

Status check_list(const Trail& trail, const SchemaField& field, const Json& value) {
  auto* items = value.array();
  if (!items || items->size() > static_cast<size_t>(field.max))
    return wrong_list(trail.text(), field, value);
  for (const Json& item : *items) {
    if (!item.string() || !fits(field, *item.string()))
      return wrong_item(trail.text(), field, item);
  }
  std::vector<std::string_view> seen;
  for (const Json& item : *items) seen.push_back(*item.string());
  std::sort(seen.begin(), seen.end());
  auto twice = std::adjacent_find(seen.begin(), seen.end());
  if (twice != seen.end()) return wrong_item(trail.text(), field, Json(*twice));
  return Done{};
}

Status check_value(const Trail& trail, const Place& place, const Json& value) {
  const SchemaField& field = *place.field;
  switch (field.kind) {
    case FieldKind::kBlock:
      if (!value.object() || value.find("$float")) return wrong_value(trail.text(), field, value);
      return check_block(trail, place, value);
    case FieldKind::kBlocks: {
      auto* items = value.array();
      if (!items || items->size() > static_cast<size_t>(field.max))
        return wrong_list(trail.text(), field, value);
      for (size_t i = 0; i < items->size(); ++i) {
        Trail item{&trail, "", i + 1};
        if (!(*items)[i].object()) return wrong(item.text(), "a block" + kind_of((*items)[i]));
        TRY(check_block(item, place, (*items)[i]));
      }
      return Done{};
    }
    case FieldKind::kInteger: {
      auto* whole = value.integer();
      if (!whole || *whole < field.min || *whole > field.max)
        return wrong_value(trail.text(), field, value);
      return Done{};
    }
    case FieldKind::kBoolean:
      if (!value.boolean()) return wrong_value(trail.text(), field, value);
      return Done{};
    case FieldKind::kToken:
    case FieldKind::kText:
      if (!value.string() || !fits(field, *value.string()))
        return wrong_value(trail.text(), field, value);
      return Done{};
    case FieldKind::kTokens:
    case FieldKind::kTexts:
      return check_list(trail, field, value);
  }
  return Done{};
}

// Both say the same where both are given.
Status check_credentials(const Json& request) {
  const Json* details = request.find("credential_details");
  if (!details) return Done{};
  std::set<std::string_view> held, named;
  for (const Json& item : *details->array()) held.insert(*item.find("type")->string());
  for (const Json& type : *request.find("credentials")->array()) named.insert(*type.string());
  if (held != named)
    return wrong("request.credentials", "exactly the types of request.credential_details");
  return Done{};
}

std::string_view last_name(std::string_view path) {
  return path.substr(path.rfind('.') + 1);
}
std::string_view block_of(std::string_view path) {
  return path.substr(0, std::min(path.rfind('.'), path.size()));
}
// "details[2]" as the table has it: "details[]".
std::string without_places(std::string_view path) {
  std::string out;
  bool inside = false;
  for (char c : path) {
    inside = inside && c != ']';
    if (!inside) out.push_back(c);
    inside = inside || c == '[';
  }
  return out;
}

}  // namespace

std::span<const SchemaField> schema() {
  return kSchema;
}

const SchemaField* schema_field(std::string_view path) {
  if (!path.empty() && path.front() == '#') path.remove_prefix(1);
  std::string pattern;
  for (size_t at = 0; at < path.size(); ++at) {
    pattern.push_back(path[at]);
    if (path[at] != '[') continue;
    size_t close = path.find(']', at);
    if (close == std::string_view::npos) return nullptr;
    if (close + 1 == path.size()) {  // an item stands for its list
      pattern.pop_back();
    } else {
      pattern.push_back(']');
    }
    at = close;
  }
  auto found = tree().places.find(pattern);
  return found == tree().places.end() ? nullptr : found->second.field;
}

// In its own block whatever is near; elsewhere only what is very like it, and first under the same
// root.
std::string nearest_path(std::string_view unknown) {
  const std::string_view name = last_name(unknown);
  const std::string_view root = unknown.substr(0, unknown.find('.'));
  const std::string block = without_places(block_of(unknown));
  struct Match {
    int away = 0;  // 0: in its block
    Nearness near;
    auto operator<=>(const Match&) const = default;
  };
  std::optional<Match> best;
  std::string_view found;
  for (const SchemaField& field : kSchema) {
    if (field.path.find('.') == std::string_view::npos) continue;
    Match match{0, nearness(name, last_name(field.path))};
    if (match.near.likeness == Likeness::kNone) continue;
    if (block_of(field.path) != block) {
      const bool same_root = field.path.substr(0, field.path.find('.')) == root;
      const bool misspelt =
          match.near.likeness == Likeness::kMisspelt && match.near.letters * 5 <= name.size();
      const bool like = match.near.likeness == Likeness::kSame || misspelt ||
                        (same_root && (match.near.likeness == Likeness::kPart ||
                                       match.near.likeness == Likeness::kAbbreviated));
      if (!like) continue;
      match.away = same_root ? 1 : 2;
    }
    if (best && !(match < *best)) continue;
    best = match;
    found = field.path;
  }
  return std::string(found);
}

Status check_schema(std::string_view root, const Json& value) {
  auto place = tree().places.find(root);
  CHECK(place != tree().places.end() && place->second.field->kind == FieldKind::kBlock);
  TRY(check_value(Trail{nullptr, root, 0}, place->second, value));
  if (root == "request") return check_credentials(value);
  return Done{};
}

void remove_absent(Json& value) {
  if (auto* items = value.array()) {
    for (Json& item : *items) remove_absent(item);
  }
  auto* members = value.object();
  if (!members) return;
  for (auto it = members->begin(); it != members->end();) {
    const Json* absent = it->second.find("$absent");
    if (absent && absent->boolean() && *absent->boolean() && it->second.object()->size() == 1) {
      it = members->erase(it);
    } else {
      remove_absent(it->second);
      ++it;
    }
  }
}

}  // namespace souk::policy
