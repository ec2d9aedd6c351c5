#include "policy/explain/verdict.h"

#include <set>

#include "policy/decide/schema.h"

namespace souk::policy {

std::string Verdict::told() const {
  std::string out = status_name(decision.status);
  for (const auto& reason : decision.reasons)
    out += "\n" + reason.code + " " + reason.path + " " + reason.need + " " +
           (reason.code == "policy" ? reason.message : "");
  return out;
}

std::string Verdict::trail() const {
  std::string out = told();
  for (const auto& path : decision.read_set) out += "\n" + path;
  for (const auto& [never, ever] : conditions)
    out += "\n" + std::to_string(never) + " " + std::to_string(ever);
  return out;
}

Distance distance_of(const Verdict& verdict, Wanted wanted) {
  Distance out;
  out.reasons = verdict.decision.reasons.size();
  std::set<const SchemaField*> read;  // however many items of a list
  for (const auto& path : verdict.decision.read_set) read.insert(schema_field(path));
  out.unasked = -static_cast<int64_t>(read.size());
  for (const auto& [never, ever] : verdict.conditions) {
    out.unasked -= never + ever > 0;
    bool holds = ever > 0 && never == 0, fails = never > 0 && ever == 0;
    if (holds || fails) out.against += holds == (wanted == Wanted::kTrue) ? -1 : 1;
  }
  return out;
}

}  // namespace souk::policy
