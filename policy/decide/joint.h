// What several providers say together. policy/SPEC.md, Composition.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "ledger/base/result.h"
#include "policy/decide/decide.h"

namespace souk::policy {

// The conjunction of decisions: allowed where all allow, under the meet of their
// obligations, for the sum of their prices. Never looser than any part. The order of
// the parts changes the order of the reasons and nothing else.
class Joint {
 public:
  // kExhausted, changing nothing, when the prices do not add up below 2^53.
  Status add(const PolicyDecision& part);

  // What a part that is not asked obliges to, beside those that are: of a model that is started
  // from.
  void inherit(const Obligations& obligations);

  bool allowed() const { return parts_ > 0 && refusals_ == 0; }  // of nobody: no
  int64_t price_minor() const { return allowed() ? price_minor_ : 0; }
  // The meet over the parts that allow; nothing before one did.
  const std::optional<Obligations>& obligations() const { return obligations_; }
  const std::vector<Reason>& reasons() const { return reasons_; }

 private:
  size_t parts_ = 0, refusals_ = 0;
  int64_t price_minor_ = 0;
  std::optional<Obligations> obligations_;
  std::vector<Reason> reasons_;
};

}  // namespace souk::policy
