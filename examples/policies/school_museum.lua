-- School Museum: benchmarks and teaching, priced by how often its digits are read.
local r = rules()

local purposes = { "benchmark", "teaching" }
r.require(contains(purposes, request.purpose), "purpose", "request.purpose", request.purpose, purposes)
r.require(request.dp.enabled or request.epochs <= 3, "max_epochs", "request.epochs", request.epochs,
  "at most 3 without differential privacy", "a model that reads a digit too often learns it by heart")

return r.decision {
  price = 500 * request.epochs,
  obligations = { output_form = "weights", waive_privacy = true },
}
