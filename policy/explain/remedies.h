// What a consumer could change so that a denial becomes an allowance.
// policy/SPEC.md, Remedies.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/codec/json.h"
#include "policy/decide/evaluator.h"

namespace souk::policy {

struct Edit {
  std::string path;  // "request.dp.epsilon_micro"
  Json from, to;
};
struct Remedy {
  std::vector<Edit>
      edits;  // in the order of their paths; together they are allowed, no strict part of them is
  Json request;       // with the edits made
  int64_t price = 0;  // of the decision then
};
Json to_json(const Remedy& remedy);

struct RemedySearch {
  size_t most_edits = 3;
  size_t edits_of_descent =
      8;  // where nothing was found with so few, with as many evaluations again
  size_t most_remedies = 5;
  uint64_t evaluations = 4000;  // at most
};

// The smallest found, the fewest edits first; each was evaluated. Empty when nothing
// was found, or when `request` is allowed as it is.
std::vector<Remedy> find_remedies(Evaluator& evaluator, std::string_view source,
                                  const Checked& request, const Checked& dataset,
                                  const Checked& ctx, const Limits& limits,
                                  const RemedySearch& search = {});

// `request` with the edits made.
Json edited(Json request, const std::vector<Edit>& edits);

}  // namespace souk::policy
