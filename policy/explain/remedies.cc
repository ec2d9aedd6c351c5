#include "policy/explain/remedies.h"

#include <algorithm>
#include <map>
#include <set>

#include "policy/decide/schema.h"
#include "policy/explain/candidates.h"
#include "policy/explain/verdict.h"
#include "policy/lint/instrument.h"

namespace souk::policy {
namespace {

using Edits = std::map<std::string, Json>;  // path -> value

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
        candidates_(source) {
    auto instrumented = instrument(source, Conditions::kAndContains);
    if (!instrumented) return;
    observed_ = evaluator.prepare_observed(instrumented->source);
    for (const auto& condition : instrumented->conditions) negated_.push_back(condition.negated);
  }

  std::vector<Remedy> run() {
    begin_phase();
    Verdict first = verdict_on(request_);
    if (first.decision.status != DecisionStatus::kDenied ||
        evaluator_.decide(*policy_, request_, dataset_, ctx_, limits_).allowed())
      return {};
    broadly(first);
    // Where so few edits never suffice, or were not found.
    if (found_.empty()) by_reasons(first);
    for (Wanted wanted : {Wanted::kTrue, Wanted::kFalse}) {
      if (found_.empty()) by_distance(first, wanted);
    }
    if (found_.empty()) together(first);
    return take();
  }

 private:
  static constexpr size_t kNearestPlaces = 16, kFirstPlaces = 8, kMostChoices = 4;

  struct Place {
    Edits edits;
    Verdict verdict;
    bool another_speaks = false;  // than where it came from: told, not only noticed
  };

  // Breadth first: from each question that got further, every edit more.
  void broadly(const Verdict& first) {
    std::vector<Place> places;
    places.push_back({{}, first, true});
    for (size_t depth = 1; depth <= options_.most_edits && found_.size() < options_.most_remedies;
         ++depth) {
      std::vector<Place> next;
      for (const Place& place : places) {
        if (!around(place, depth < options_.most_edits, next)) return;
      }
      places = nearest_of(std::move(next));
    }
  }

  // False when the evaluations have run out.
  bool around(const Place& place, bool keep, std::vector<Place>& next) {
    const std::string told = place.verdict.told(), trail = place.verdict.trail();
    for (const SchemaField* field : fields_read(place.verdict.decision)) {
      const std::string path(field->path);
      auto edited = place.edits.find(path);
      bool other_edits = place.edits.size() > (edited == place.edits.end() ? 0 : 1);
      if (edited != place.edits.end() && !other_edits) continue;  // was tried without
      for (Json& value : candidates(*field, place.edits, place.verdict.decision)) {
        if (exhausted()) return false;
        Edits edits = place.edits;
        edits[path] = std::move(value);
        auto verdict = ask(edits);
        if (!verdict) continue;
        if (verdict->decision.allowed()) {
          add(std::move(edits));
          break;
        }
        bool more_speak = verdict->decision.reasons.size() > place.verdict.decision.reasons.size();
        if (!keep || more_speak) continue;
        std::string key = verdict->trail();
        if (key == trail) continue;
        for (const auto& [edited_path, unused] : edits) key += "|" + edited_path;
        bool another = verdict->told() != told;
        if (seen_.insert(std::move(key)).second)
          next.push_back({std::move(edits), std::move(*verdict), another});
      }
    }
    return true;
  }

  // Those that are nearest, and some of those that were found first.
  std::vector<Place> nearest_of(std::vector<Place> all) const {
    // With a remedy in hand only what a policy tells is followed further.
    if (!found_.empty()) {
      all.erase(std::remove_if(all.begin(), all.end(),
                               [](const Place& place) { return !place.another_speaks; }),
                all.end());
    }
    std::vector<std::pair<Distance, size_t>> order;
    for (size_t i = 0; i < all.size(); ++i)
      order.emplace_back(distance_of(all[i].verdict, Wanted::kTrue), i);
    std::sort(order.begin(), order.end());
    size_t near = std::min(order.size(), kNearestPlaces);
    auto rest = order.begin() + static_cast<std::ptrdiff_t>(near);
    std::sort(rest, order.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    order.resize(std::min(order.size(), near + kFirstPlaces));
    std::vector<Place> out;
    for (const auto& [unused, i] : order) out.push_back(std::move(all[i]));
    return out;
  }

  // One rule after the other, each by the first edit that leaves fewer of them or brings
  // another to speak.
  void by_reasons(const Verdict& first) {
    begin_phase();
    Edits edits;
    Verdict at = first;
    std::set<std::string> heard{at.told()};
    while (edits.size() < options_.edits_of_descent && !at.decision.allowed()) {
      auto nearer = one_rule_less(edits, at, heard);
      if (!nearer) return;
      at = std::move(*nearer);
    }
    if (at.decision.allowed()) add(std::move(edits));
  }
  // Adds the edit to `edits`.
  std::optional<Verdict> one_rule_less(Edits& edits, const Verdict& at,
                                       std::set<std::string>& heard) {
    for (const SchemaField* field : fields_read(at.decision)) {
      const std::string path(field->path);
      if (edits.count(path)) continue;
      for (Json& value : candidates(*field, edits, at.decision)) {
        if (exhausted()) return std::nullopt;
        Edits more = edits;
        more[path] = std::move(value);
        auto now = ask(more);
        if (!now) continue;
        bool fewer = now->decision.reasons.size() < at.decision.reasons.size();
        bool another =
            now->decision.reasons.size() == at.decision.reasons.size() && !heard.count(now->told());
        if (!now->decision.allowed() && !fewer && !another) continue;
        heard.insert(now->told());
        edits = std::move(more);
        return now;
      }
    }
    return std::nullopt;
  }

  // The same among rules that say nothing: by the edit that comes nearest. A field may be edited
  // again where a later rule asks more of it.
  void by_distance(const Verdict& first, Wanted wanted) {
    begin_phase();
    Edits edits;
    Verdict at = first;
    while (!at.decision.allowed()) {
      auto [further, verdict] = nearest_edit(edits, at, wanted);
      if (!verdict || further.size() > options_.edits_of_descent) return;
      edits = std::move(further);
      at = std::move(*verdict);
    }
    add(std::move(edits));
  }
  std::pair<Edits, std::optional<Verdict>> nearest_edit(const Edits& edits, const Verdict& at,
                                                        Wanted wanted) {
    std::pair<Edits, std::optional<Verdict>> best;
    Distance least = distance_of(at, wanted);
    for (const SchemaField* field : fields_read(at.decision)) {
      const std::string path(field->path);
      for (Json& value : candidates(*field, edits, at.decision)) {
        if (exhausted()) return best;
        Edits more = edits;
        more[path] = std::move(value);
        auto now = ask(more);
        if (!now) continue;
        Distance distance = distance_of(*now, wanted);
        bool allowed = now->decision.allowed();
        if (!allowed && !(distance < least)) continue;
        least = distance;
        best = {std::move(more), std::move(now)};
        if (allowed) return best;
      }
    }
    return best;
  }

  // All at once: for each field the edits that make a difference by themselves, in all
  // combinations.
  void together(const Verdict& first) {
    begin_phase();
    struct Choice {
      std::string path;
      std::vector<Json> values;
      size_t taken = 0;  // 0: none
    };
    std::vector<Choice> choices;
    for (const SchemaField* field : fields_read(first.decision)) {
      Choice choice{std::string(field->path), {}, 0};
      std::set<std::string> trails{first.trail()};
      for (Json& value : candidates(*field, {}, first.decision)) {
        if (exhausted() || choice.values.size() == kMostChoices) break;
        auto verdict = ask({{choice.path, value}});
        if (verdict && trails.insert(verdict->trail()).second)
          choice.values.push_back(std::move(value));
      }
      if (!choice.values.empty()) choices.push_back(std::move(choice));
    }
    while (!exhausted()) {
      size_t turned = 0;
      while (turned < choices.size() && choices[turned].taken == choices[turned].values.size())
        choices[turned++].taken = 0;
      if (turned == choices.size()) return;
      ++choices[turned].taken;
      Edits edits;
      for (const Choice& choice : choices) {
        if (choice.taken > 0) edits[choice.path] = choice.values[choice.taken - 1];
      }
      if (edits.size() <= options_.edits_of_descent && allowed(edits)) return add(std::move(edits));
    }
  }

  std::vector<const SchemaField*> fields_read(const PolicyDecision& decision) const {
    std::vector<const SchemaField*> out;
    auto add_path = [&](std::string_view path) {
      const SchemaField* field = schema_field(path);
      if (field && field->path.starts_with("request.credential_details"))
        field = schema_field("request.credentials");
      bool there = field && is_changeable(*field) && member_at(request_.value(), field->path);
      if (there && std::find(out.begin(), out.end(), field) == out.end()) out.push_back(field);
    };
    for (const auto& reason : decision.reasons)
      add_path(reason.path);  // what is complained of first
    for (const auto& path : decision.read_set) add_path(path);
    return out;
  }

  std::vector<Json> candidates(const SchemaField& field, const Edits& edits,
                               const PolicyDecision& decision) const {
    const Json& now = *member_at(request_.value(), field.path);
    auto edited = edits.find(std::string(field.path));
    return candidates_.of(field, now, edited == edits.end() ? now : edited->second, decision);
  }

  // Credentials stand twice in a request that knows their issuers. Returns all versions:
  // who issued a new one is for the policy to say.
  std::vector<Json> requests_of(const Edits& edits) const {
    Json request = request_.value();
    for (const auto& [path, value] : edits) set_member(request, path, value);
    auto changed = edits.find("request.credentials");
    if (changed == edits.end() || !request.find("credential_details")) return {request};
    std::vector<Json> out;
    for (const auto& issuer : candidates_.issuers()) {
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

  // Only what the policy itself allows is allowed; for what it refuses, how far it came.
  Verdict verdict_on(const Checked& request) {
    ++spent_;
    Trace trace;
    trace.conditions.resize(negated_.size());
    std::optional<PolicyDecision> seen;
    if (observed_) {
      seen = evaluator_.observe(*observed_, request, dataset_, ctx_, limits_, trace);
      gas_ += seen->gas;
      for (size_t i = 0; i < negated_.size(); ++i) {
        if (negated_[i]) std::swap(trace.conditions[i][0], trace.conditions[i][1]);
      }
    }
    // Observed, a policy costs more than it does.
    if (!seen || seen->allowed() || seen->status == DecisionStatus::kLimit) {
      seen = evaluator_.decide(*policy_, request, dataset_, ctx_, limits_);
      gas_ += seen->gas;
    }
    const int64_t payment = *request.value().find("payment")->integer();
    if (seen->allowed() && payment < seen->price_minor) seen = unpaid(std::move(*seen));
    return {std::move(*seen), std::move(trace.conditions)};
  }
  // The market refuses an offer that is less than the price.
  static PolicyDecision unpaid(PolicyDecision decision) {
    Reason reason;
    reason.code = "price";
    reason.path = "request.payment";
    reason.need = "at least " + std::to_string(decision.price_minor);
    decision.status = DecisionStatus::kDenied;
    decision.reasons = {std::move(reason)};
    return decision;
  }

  // The first version that is allowed, else what the first says; nothing when the
  // schema refuses them all.
  std::optional<Verdict> ask(const Edits& edits, Json* asked = nullptr) {
    std::optional<Verdict> out;
    for (Json& version : requests_of(edits)) {
      auto checked = Checked::of("request", version);
      if (!checked) continue;
      Verdict verdict = verdict_on(**checked);
      bool allowed = verdict.decision.allowed();
      if (allowed && asked) *asked = version;
      if (!out || allowed) out = std::move(verdict);
      if (allowed) break;
    }
    return out;
  }
  bool allowed(const Edits& edits) {
    auto verdict = ask(edits);
    return verdict && verdict->decision.allowed();
  }

  // As little of it as suffices: no edit too many, no number further than needed.
  void add(Edits edits) {
    for (bool whole = false; !whole;) {
      edits = as_few(std::move(edits));
      for (auto& [path, value] : edits) bring_near(edits, path, value);
      auto part = part_that_suffices(edits);
      whole = !part;
      if (part) edits = std::move(*part);
    }
    std::set<std::string> paths;
    for (const auto& [path, unused] : edits) paths.insert(path);
    for (const auto& [known, unused] : found_) {  // a part of it was found before, or it itself
      if (std::includes(paths.begin(), paths.end(), known.begin(), known.end())) return;
    }
    Json asked;
    auto verdict = ask(edits, &asked);
    if (!verdict || !verdict->decision.allowed()) return;
    Remedy remedy;
    for (const auto& [path, value] : edits)
      remedy.edits.push_back({path, *member_at(request_.value(), path), value});
    remedy.request = std::move(asked);
    remedy.price = verdict->decision.price_minor;
    found_.emplace_back(std::move(paths), std::move(remedy));
  }

  Edits as_few(Edits edits) {
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
    return edits;
  }

  void bring_near(Edits& edits, const std::string& path, Json& value) {
    const Json& now = *member_at(request_.value(), path);
    if (value.integer()) return bring_number_near(edits, path, *now.integer(), value);
    if (value.array()) bring_list_near(edits, path, *now.array(), value);
  }
  void bring_number_near(const Edits& edits, const std::string& path, int64_t refused,
                         Json& value) {
    int64_t good = *value.integer();
    while (std::abs(good - refused) > 1) {
      int64_t middle = refused + (good - refused) / 2;
      Edits nearer = edits;
      nearer[path] = middle;
      (allowed(nearer) ? good : refused) = middle;
    }
    value = good;
  }
  // No item more or less than needed.
  void bring_list_near(const Edits& edits, const std::string& path, const Json::Array& now,
                       Json& value) {
    auto try_it = [&](Json::Array items) {
      Edits nearer = edits;
      nearer[path] = items;
      if (!allowed(nearer)) return;
      value = std::move(items);
    };
    auto lacks = [](const Json::Array& list, const Json& item) {
      return std::find(list.begin(), list.end(), item) == list.end();
    };
    const Json::Array reached = *value.array();
    for (const Json& item : reached) {
      if (!lacks(now, item)) continue;
      Json::Array less = *value.array();
      less.erase(std::find(less.begin(), less.end(), item));
      try_it(std::move(less));
    }
    for (const Json& item : now) {
      if (!lacks(reached, item)) continue;
      Json::Array more = *value.array();
      more.push_back(item);
      try_it(std::move(more));
    }
  }

  std::optional<Edits> part_that_suffices(const Edits& edits) {
    std::vector<std::pair<std::string, Json>> list(edits.begin(), edits.end());
    for (size_t mask = 1; mask + 1 < (size_t{1} << list.size()); ++mask) {
      Edits part;
      for (size_t i = 0; i < list.size(); ++i) {
        if (mask & (size_t{1} << i)) part.insert(list[i]);
      }
      if (allowed(part)) return part;
    }
    return std::nullopt;
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

  // Each way of searching has evaluations, and gas, of its own.
  void begin_phase() {
    spent_ = 0;
    gas_ = 0;
  }
  bool exhausted() const { return spent_ >= options_.evaluations || gas_ >= options_.gas; }

  Evaluator& evaluator_;
  std::shared_ptr<const Evaluator::Policy> policy_, observed_;
  std::vector<bool> negated_;  // of each condition
  const Checked &request_, &dataset_, &ctx_;
  const Limits& limits_;
  const RemedySearch& options_;
  const Candidates candidates_;
  uint64_t spent_ = 0, gas_ = 0;
  std::set<std::string> seen_;
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
  for (const Edit& edit : edits) set_member(request, edit.path, edit.to);
  return request;
}

std::vector<Remedy> find_remedies(Evaluator& evaluator, std::string_view source,
                                  const Checked& request, const Checked& dataset,
                                  const Checked& ctx, const Limits& limits,
                                  const RemedySearch& search) {
  return Search(evaluator, source, request, dataset, ctx, limits, search).run();
}

}  // namespace souk::policy
