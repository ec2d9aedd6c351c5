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
      edits;     // in the order of their paths; together they suffice, no strict part of them does
  Json request;  // with the edits made
  int64_t price = 0;  // of the decision then
};
Json to_json(const Remedy& remedy);

struct RemedySearch {
  size_t most_edits = 3;
  size_t edits_of_descent = 8;  // where nothing was found with so few
  size_t most_remedies = 5;
  // At most, and again for each of four other ways where nothing was found; what is found is made
  // small beyond them.
  uint64_t evaluations = 8000;
  uint64_t gas = 150'000'000;  // of those evaluations, with what observing costs
};

// The smallest found, the fewest edits first; each was evaluated: the policy allows it for a price
// that its payment reaches. Empty when nothing was found, or when `request` is allowed as it is.
std::vector<Remedy> find_remedies(Evaluator& evaluator, std::string_view source,
                                  const Checked& request, const Checked& dataset,
                                  const Checked& ctx, const Limits& limits,
                                  const RemedySearch& search = {});

// `request` with the edits made.
Json edited(Json request, const std::vector<Edit>& edits);

}  // namespace souk::policy
