// Any text is answered, within its limits, twice the same; what is published
// is also evaluated. Contracts go through the same sandbox and the assembler.
#include "policy/decide/decide.h"
#include "policy/lua/elaborate.h"
#include "tests/policy/samples.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace souk;
  using namespace souk::policy;
  static const Json request = samples::sample_request();
  static const Json dataset = samples::sample_dataset();
  static const Json ctx = samples::sample_context();
  auto source = as_text(ByteView(data, size));
  const Limits limits{.gas = 20000, .memory_bytes = 1 << 20, .output_bytes = 4 << 10};

  auto decision = evaluate(source, request, dataset, ctx, limits);
  CHECK(decision.gas <= limits.gas + 1);
  CHECK(decision.allowed() || !decision.reasons.empty());
  CHECK(evaluate(source, request, dataset, ctx, limits) == decision);
  auto text = canonical(decision.to_json());
  auto back = PolicyDecision::from_json(*parse_canonical(text));
  CHECK(back && *back == decision);

  CatalogEntry entry;
  entry.name = "d";
  entry.rows = 100;
  entry.feature_shape = {4};
  auto elaborated = elaborate(source, {entry}, nullptr, limits);
  if (elaborated) CHECK(contracts::check_spec(elaborated->spec));
  return 0;
}
