// Inside of policy/explain: what a remedy may change, and into what.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/codec/json.h"
#include "policy/decide/decide.h"
#include "policy/decide/schema.h"

namespace souk::policy {

// The member of `request` at "request.dp.enabled"; null where there is none.
const Json* member_at(const Json& request, std::string_view path);
void set_member(Json& request, std::string_view path, const Json& value);

// What identifies the question and the asker is not the asker's to change.
bool is_changeable(const SchemaField& field);

// Where a rule turns is near something that the policy's text or its reasons mention.
class Candidates {
 public:
  explicit Candidates(std::string_view source);

  // Values other than `now`, those that the schema refuses among them; of numbers the nearest
  // first. `tried` is what stands there in the question of `decision`.
  std::vector<Json> of(const SchemaField& field, const Json& now, const Json& tried,
                       const PolicyDecision& decision) const;
  // Who may have issued a credential that the policy asks for.
  std::vector<std::string> issuers() const;

 private:
  std::vector<Json> numbers(const SchemaField& field, int64_t now, int64_t tried,
                            const PolicyDecision& decision) const;
  std::vector<Json> lists(const Json::Array& now) const;

  std::set<int64_t> numbers_;
  std::set<std::string> texts_;
  bool divides_ = false;  // the text asks for remainders
};

}  // namespace souk::policy
