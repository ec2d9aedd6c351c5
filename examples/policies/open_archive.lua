-- Open Archive: published benchmark data. It waives privacy by name, for benchmarks only.
local r = rules()

r.require(request.purpose == "benchmark", "purpose", "request.purpose", request.purpose, "benchmark",
  "the archive is open for benchmarks")
r.require(request.model.parameters <= 5000000, "max_parameters", "request.model.parameters", request.model.parameters,
  "at most 5000000")

return r.decision {
  price = 2000,
  obligations = { max_parameters = 5000000, output_form = "weights", waive_privacy = true },
}
