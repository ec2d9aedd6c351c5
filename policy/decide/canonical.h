// Questions that every policy must be able to answer before it is published: one that looks
// like something to allow and one that looks like something to deny. A policy that fails on
// both fails on everything anybody would ask. policy/SPEC.md, Publication.
#pragma once

#include <functional>
#include <vector>

#include "policy/decide/decide.h"

namespace souk::policy {

struct CanonicalQuestion {
  const char* name;
  Json request, dataset, ctx;
};
const std::vector<CanonicalQuestion>& canonical_questions();

using AskPolicy =
    std::function<PolicyDecision(const Json& request, const Json& dataset, const Json& ctx)>;
// Done when one of them is allowed or denied. Otherwise kRefused: "publish_rejected", the
// status it had and its first reason. `ask` runs the policy, in the jail outside tests.
Status answers_canonical(const AskPolicy& ask);

}  // namespace souk::policy
