// A policy that reads has a quorum that everybody together meets, and nobody alone
// unless it is none.
#include "ledger/base/bytes.h"
#include "ledger/proof/tlog_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::ledger;
  auto policy = TlogPolicy::parse(as_text(ByteView(data, size)));
  if (!policy) return 0;
  std::set<std::string> everybody;
  for (const auto& witness : policy->witnesses()) everybody.insert(witness.name);
  CHECK(policy->satisfied_by(everybody));
  CHECK(policy->satisfied_by({}) == (policy->quorum() == "none"));
  return 0;
}
