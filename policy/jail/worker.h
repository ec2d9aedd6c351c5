// Policies and contracts evaluated in the nursery. A dead or hanging worker is an
// error or a limit, never an allow.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy/decide/decide.h"
#include "policy/decide/evaluator.h"
#include "policy/jail/nursery.h"
#include "policy/lint/instrument.h"
#include "policy/lua/elaborate.h"

namespace souk::policy {

inline constexpr int kPolicyWallMs = 1000;
inline constexpr int kContractWallMs = 20000;

// The job of such a nursery; answers both evaluate_jailed and elaborate_jailed.
Nursery::Job lua_job();
inline Result<std::unique_ptr<Nursery>> start_lua_nursery() {
  return Nursery::start(lua_job());
}

// Source and schema are checked here, the policy runs there.
PolicyDecision evaluate_jailed(Nursery& nursery, std::string_view policy_source,
                               const Json& request, const Json& dataset, const Json& ctx,
                               const Limits& limits = {}, int wall_ms = kPolicyWallMs);

// The same for a policy whose text was looked at, and a question whose schema was: what is known of
// them is not found out again.
class ReadyPolicy {
 public:
  explicit ReadyPolicy(std::string source);
  const std::string& source() const { return source_; }
  const Digest& digest() const { return digest_; }
  const Status& characters() const { return characters_; }

 private:
  std::string source_;
  Digest digest_;
  Status characters_;
};
PolicyDecision evaluate_jailed(Nursery& nursery, const ReadyPolicy& policy, const Checked& request,
                               const Checked& dataset, const Checked& ctx,
                               const Limits& limits = {}, int wall_ms = kPolicyWallMs);

// One policy, many questions, in one journey. `wall_ms` and the worker are for all of
// them together; each has its own `limits`.
inline constexpr size_t kMaxAsked = 20000;
struct Batch {
  std::vector<const Json*> requests, datasets, contexts;  // borrowed
  std::vector<std::array<size_t, 3>> asks;                // places in the three, at most kMaxAsked
};
std::vector<PolicyDecision> evaluate_jailed(Nursery& nursery, std::string_view policy_source,
                                            const Batch& batch, const Limits& limits, int wall_ms);

// What ran of a policy over all questions of a batch that its schema accepts.
Result<Trace> observe_jailed(Nursery& nursery, const Instrumented& prepared, const Batch& batch,
                             const Limits& limits, int wall_ms);

// find_remedies (policy/explain/remedies.h), each asked again by evaluate_jailed: a
// list of {"edits":[{path,from,to}],"price","request"}. kExhausted after wall_ms.
Result<Json::Array> remedies_jailed(Nursery& nursery, std::string_view source, const Json& request,
                                    const Json& dataset, const Json& ctx, const Limits& limits,
                                    int most, int wall_ms);

// The plain value a program without inputs returns.
Result<Json> table_jailed(Nursery& nursery, std::string_view source, const Limits& limits,
                          int wall_ms = kPolicyWallMs);

Result<Elaborated> elaborate_jailed(Nursery& nursery, std::string_view source,
                                    const std::vector<CatalogEntry>& catalog,
                                    const Calibrate& calibrate, const ModelSource& models = {},
                                    const Limits& limits = kContractLimits,
                                    int wall_ms = kContractWallMs);
// The first step alone: the table that the contract returns.
Result<Json> run_contract_jailed(Nursery& nursery, std::string_view source,
                                 const std::vector<CatalogEntry>& catalog,
                                 const Limits& limits = kContractLimits,
                                 int wall_ms = kContractWallMs);

}  // namespace souk::policy
