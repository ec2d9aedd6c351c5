#include "policy/explain/remedies.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "policy/decide/schema.h"
#include "policy/syntax/syntax.h"

namespace souk::policy {
namespace {

using Edits = std::map<std::string, Json>;  // path -> value

const Json* at_path(const Json& request, std::string_view path) {
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

void set_path(Json& request, std::string_view path, const Json& value) {
  Json* at = &request;
  path.remove_prefix(path.find('.') + 1);
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    at = &(*at->object())[std::string(path.substr(0, dot))];
    path.remove_prefix(dot + 1);
  }
  (*at->object())[std::string(path)] = value;
}

// What the policy's text and its reasons mention: where a rule turns is near one of these.
struct Constants {
  std::set<int64_t> numbers;
  std::set<std::string> texts;

  void add_number(std::string_view digits) {
    int64_t value = 0;
    auto [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (status == std::errc() && end == digits.data() + digits.size()) numbers.insert(value);
  }
  void add_numbers_in(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
      size_t start = i;
      while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
      if (i > start) add_number(text.substr(start, i - start));
      if (i == start) ++i;
    }
  }
};

Constants constants_of(std::string_view source) {
  Constants out;
  auto tokens = tokens_of(source);
  if (!tokens) return out;
  for (const Token& token : *tokens) {
    if (token.kind == Token::Kind::kNumber) out.add_number(token.source);
    bool brief =
        token.kind == Token::Kind::kText && !token.value.empty() && token.value.size() <= 128;
    if (brief) out.texts.insert(token.value);
    if (token.kind == Token::Kind::kName)
      out.texts.insert(std::string(token.source));  // {EU = true}
  }
  return out;
}

// What identifies the question and the asker is not the asker's to change.
bool changeable(const SchemaField& field) {
  bool scalar = field.kind == FieldKind::kInteger || field.kind == FieldKind::kBoolean ||
                field.kind == FieldKind::kToken || field.kind == FieldKind::kText;
  bool list = field.kind == FieldKind::kTokens || field.kind == FieldKind::kTexts;
  return (scalar || list) && field.path.starts_with("request.") &&
         field.path.find('[') == std::string_view::npos && field.path != "request.id" &&
         field.path != "request.consumer" && field.path != "request.currency";
}

class Search {
 public:
  Search(Evaluator& evaluator, std::string_view source, const Checked& request,
         const Checked& dataset, const Checked& ctx, const Limits& limits,
         const RemedySearch& options)
      : evaluator_(evaluator),
        policy_(evaluator.prepare(source)),
        request_(request),
        dataset_(dataset),
        ctx_(ctx),
        limits_(limits),
        options_(options),
        constants_(constants_of(source)) {}

  std::vector<Remedy> run() {
    struct Place {
      Edits edits;
      PolicyDecision decision;
    };
    std::vector<Place> places;
    PolicyDecision first = evaluator_.decide(*policy_, request_, dataset_, ctx_, limits_);
    if (first.status != DecisionStatus::kDenied) return {};
    places.push_back({{}, first});
    for (size_t depth = 1; depth <= options_.most_edits && found_.size() < options_.most_remedies;
         ++depth) {
      std::vector<Place> next;
      std::set<std::string> seen;
      for (const Place& place : places) {
        for (const SchemaField* field : fields_read(place.decision)) {
          const std::string path(field->path);
          if (place.edits.count(path)) continue;
          for (Json& value : candidates(*field, place.decision)) {
            if (spent_ >= options_.evaluations) return descended(std::move(first));
            Edits edits = place.edits;
            edits[path] = std::move(value);
            auto decision = ask(edits);
            if (!decision) continue;
            if (decision->allowed()) {
              add(std::move(edits));
              break;
            }
            // Only where something moved: another rule speaks now, or fewer do.
            bool moved = told(*decision) != told(place.decision) &&
                         decision->reasons.size() <= place.decision.reasons.size();
            if (!moved || depth == options_.most_edits || next.size() >= kKeptPlaces) continue;
            std::string key = told(*decision);
            for (const auto& [edited_path, unused] : edits) key += "|" + edited_path;
            if (seen.insert(std::move(key)).second)
              next.push_back({std::move(edits), std::move(*decision)});
          }
        }
      }
      // Those with the fewest rules left to satisfy first.
      std::stable_sort(next.begin(), next.end(), [](const Place& a, const Place& b) {
        return a.decision.reasons.size() < b.decision.reasons.size();
      });
      places = std::move(next);
    }
    return descended(std::move(first));
  }

 private:
  // Where so few edits never suffice: one rule after the other, each by the first edit that leaves
  // fewer of them or brings another to speak, and then no more of it than is needed.
  std::vector<Remedy> descended(PolicyDecision decision) {
    Edits edits;
    std::set<std::string> heard{told(decision)};
    const uint64_t end = spent_ + options_.evaluations;
    while (found_.empty() && edits.size() < options_.edits_of_descent && !decision.allowed()) {
      auto nearer = one_rule_less(edits, decision, heard, end);
      if (!nearer) break;
      decision = std::move(*nearer);
    }
    if (decision.allowed()) add(std::move(edits));
    return take();
  }
  // Adds the edit to `edits`.
  std::optional<PolicyDecision> one_rule_less(Edits& edits, const PolicyDecision& decision,
                                              std::set<std::string>& heard, uint64_t end) {
    for (const SchemaField* field : fields_read(decision)) {
      const std::string path(field->path);
      if (edits.count(path)) continue;
      for (Json& value : candidates(*field, decision)) {
        if (spent_ >= end) return std::nullopt;
        Edits more = edits;
        more[path] = std::move(value);
        auto now = ask(more);
        if (!now) continue;
        bool fewer = now->reasons.size() < decision.reasons.size();
        bool another = now->reasons.size() == decision.reasons.size() && !heard.count(told(*now));
        if (!now->allowed() && !fewer && !another) continue;
        heard.insert(told(*now));
        edits = std::move(more);
        return now;
      }
    }
    return std::nullopt;
  }

  static constexpr size_t kKeptPlaces = 24;

  static std::string told(const PolicyDecision& decision) {
    std::string out = status_name(decision.status);
    for (const auto& reason : decision.reasons)
      out += "\n" + reason.code + " " + reason.path + " " + reason.need + " " +
             (reason.code == "policy" ? reason.message : "");
    return out;
  }

  std::vector<const SchemaField*> fields_read(const PolicyDecision& decision) const {
    std::vector<const SchemaField*> out;
    auto add_path = [&](std::string_view path) {
      const SchemaField* field = schema_field(path);
      if (field && field->path.starts_with("request.credential_details"))
        field = schema_field("request.credentials");
      bool there = field && changeable(*field) && at_path(request_.value(), field->path);
      if (there && std::find(out.begin(), out.end(), field) == out.end()) out.push_back(field);
    };
    for (const auto& reason : decision.reasons)
      add_path(reason.path);  // what is complained of first
    for (const auto& path : decision.read_set) add_path(path);
    return out;
  }

  std::vector<Json> candidates(const SchemaField& field, const PolicyDecision& decision) const {
    const Json& now = *at_path(request_.value(), field.path);
    std::vector<Json> out;
    switch (field.kind) {
      case FieldKind::kBoolean:
        out.push_back(!*now.boolean());
        break;
      case FieldKind::kInteger:
        numbers_near(field, *now.integer(), decision, out);
        break;
      case FieldKind::kToken:
      case FieldKind::kText:
        if (field.path == "request.algorithm") out = {"logreg", "mlp", "cnn"};
        for (const auto& text : constants_.texts) out.emplace_back(text);
        break;
      default:
        lists_near(field, *now.array(), out);
    }
    out.erase(std::remove(out.begin(), out.end(), now), out.end());
    return out;
  }

  // The nearest first, on both sides; found by steps where no constant says where.
  void numbers_near(const SchemaField& field, int64_t now, const PolicyDecision& decision,
                    std::vector<Json>& out) const {
    Constants all = constants_;
    for (const auto& reason : decision.reasons) all.add_numbers_in(reason.need);
    std::set<int64_t> values = {field.min, field.min + 1};
    for (int64_t constant : all.numbers) {
      for (int64_t step : {-1, 0, 1}) values.insert(constant + step);
    }
    for (int bits : {1, 2, 4, 8, 16, 24}) {
      if (now < (field.max >> bits)) values.insert(std::max<int64_t>(now, 1) << bits);
      values.insert(now >> bits);
    }
    std::vector<int64_t> sorted;
    for (int64_t value : values) {
      if (value >= field.min && value <= field.max) sorted.push_back(value);
    }
    std::sort(sorted.begin(), sorted.end(),
              [&](int64_t a, int64_t b) { return std::abs(a - now) < std::abs(b - now); });
    if (sorted.size() > 64) sorted.resize(64);
    for (int64_t value : sorted) out.emplace_back(value);
  }

  void lists_near(const SchemaField&, const Json::Array& now, std::vector<Json>& out) const {
    for (size_t i = 0; i < now.size(); ++i) {
      Json::Array less = now;
      less.erase(less.begin() + static_cast<Json::Array::difference_type>(i));
      out.emplace_back(std::move(less));
    }
    for (const auto& text : constants_.texts) {
      if (std::find(now.begin(), now.end(), Json(text)) != now.end()) continue;
      Json::Array more = now;
      more.emplace_back(text);
      out.emplace_back(std::move(more));
    }
  }

  // Credentials stand twice in a request that knows their issuers. Returns all versions:
  // who issued a new one is for the policy to say.
  std::vector<Json> requests_of(const Edits& edits) const {
    Json request = request_.value();
    for (const auto& [path, value] : edits) set_path(request, path, value);
    auto changed = edits.find("request.credentials");
    if (changed == edits.end() || !request.find("credential_details")) return {request};
    std::vector<std::string> issuers = {"any"};
    for (const auto& text : constants_.texts) {
      if (text.size() == 64) issuers.push_back(text);
    }
    std::vector<Json> out;
    for (const auto& issuer : issuers) {
      Json::Array details;
      for (const Json& type : *changed->second.array()) {
        bool held = false;
        for (const Json& detail : *request_.value().find("credential_details")->array()) {
          if (*detail.find("type") == type) {
            details.push_back(detail);
            held = true;
          }
        }
        if (!held)
          details.push_back(
              Json::Object{{"type", type}, {"issuer", issuer}, {"expires_ms", kMaxJsonInteger}});
      }
      Json version = request;
      (*version.object())["credential_details"] = std::move(details);
      out.push_back(std::move(version));
    }
    return out;
  }

  // The first version that is allowed, else what the first says; nothing when the
  // schema refuses them all.
  std::optional<PolicyDecision> ask(const Edits& edits, Json* asked = nullptr) {
    std::optional<PolicyDecision> out;
    for (Json& version : requests_of(edits)) {
      auto checked = Checked::of("request", version);
      if (!checked) continue;
      ++spent_;
      PolicyDecision decision = evaluator_.decide(*policy_, **checked, dataset_, ctx_, limits_);
      bool allowed = decision.allowed();
      if (allowed && asked) *asked = version;
      if (!out || allowed) out = std::move(decision);
      if (allowed) break;
    }
    return out;
  }
  bool allowed(const Edits& edits) {
    auto decision = ask(edits);
    return decision && decision->allowed();
  }

  // As little of it as suffices: no edit too many, no number further than needed.
  void add(Edits edits) {
    for (auto it = edits.begin(); it != edits.end();) {
      Edits less = edits;
      less.erase(it->first);
      if (!less.empty() && allowed(less)) {
        edits = std::move(less);
        it = edits.begin();
      } else {
        ++it;
      }
    }
    for (auto& [path, value] : edits) bring_near(edits, path, value);
    std::set<std::string> paths;
    for (const auto& [path, unused] : edits) paths.insert(path);
    for (const auto& [known, unused] : found_) {  // a part of it was found before, or it itself
      if (std::includes(paths.begin(), paths.end(), known.begin(), known.end())) return;
    }
    if (subset_suffices(edits)) return;
    Json asked;
    auto decision = ask(edits, &asked);
    if (!decision || !decision->allowed()) return;
    Remedy remedy;
    for (const auto& [path, value] : edits)
      remedy.edits.push_back({path, *at_path(request_.value(), path), value});
    remedy.request = std::move(asked);
    remedy.price = decision->price_minor;
    found_.emplace_back(std::move(paths), std::move(remedy));
  }

  void bring_near(Edits& edits, const std::string& path, Json& value) {
    auto* whole = value.integer();
    if (!whole) return;
    int64_t refused = *at_path(request_.value(), path)->integer(), good = *whole;
    while (std::abs(good - refused) > 1) {
      int64_t middle = refused + (good - refused) / 2;
      Edits nearer = edits;
      nearer[path] = middle;
      (allowed(nearer) ? good : refused) = middle;
    }
    value = good;
  }

  bool subset_suffices(const Edits& edits) {
    std::vector<std::pair<std::string, Json>> list(edits.begin(), edits.end());
    for (size_t mask = 1; mask + 1 < (size_t{1} << list.size()); ++mask) {
      Edits part;
      for (size_t i = 0; i < list.size(); ++i) {
        if (mask & (size_t{1} << i)) part.insert(list[i]);
      }
      if (allowed(part)) return true;
    }
    return false;
  }

  std::vector<Remedy> take() {
    std::vector<Remedy> out;
    std::stable_sort(found_.begin(), found_.end(),
                     [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
    for (auto& [paths, remedy] : found_) {
      if (out.size() < options_.most_remedies) out.push_back(std::move(remedy));
    }
    return out;
  }

  Evaluator& evaluator_;
  std::shared_ptr<const Evaluator::Policy> policy_;
  const Checked &request_, &dataset_, &ctx_;
  const Limits& limits_;
  const RemedySearch& options_;
  const Constants constants_;
  uint64_t spent_ = 0;
  std::vector<std::pair<std::set<std::string>, Remedy>> found_;
};

}  // namespace

Json to_json(const Remedy& remedy) {
  Json::Array edits;
  for (const Edit& edit : remedy.edits)
    edits.push_back(Json::Object{{"path", edit.path}, {"from", edit.from}, {"to", edit.to}});
  return Json::Object{
      {"edits", std::move(edits)}, {"price", remedy.price}, {"request", remedy.request}};
}

Json edited(Json request, const std::vector<Edit>& edits) {
  for (const Edit& edit : edits) set_path(request, edit.path, edit.to);
  return request;
}

std::vector<Remedy> find_remedies(Evaluator& evaluator, std::string_view source,
                                  const Checked& request, const Checked& dataset,
                                  const Checked& ctx, const Limits& limits,
                                  const RemedySearch& search) {
  return Search(evaluator, source, request, dataset, ctx, limits, search).run();
}

}  // namespace souk::policy
