-- Digit Commons: benchmarks and teaching by anybody, always differentially private, a bounded number of times.
local r = rules()

local purposes = { "benchmark", "teaching" }
r.require(contains(purposes, request.purpose), "purpose", "request.purpose", request.purpose, purposes)
r.require(request.dp.enabled, "privacy", "request.dp.enabled", request.dp.enabled, true,
  "training must be differentially private")
r.require(request.dp.epsilon_micro <= 3000000, "max_epsilon", "request.dp.epsilon_micro", request.dp.epsilon_micro, "at most 3000000",
  "epsilon may be at most 3.0")
r.require(request.dp.delta_pico <= 10000000, "max_delta", "request.dp.delta_pico", request.dp.delta_pico, "at most 10000000",
  "delta may be at most 1e-5")

return r.decision {
  price = 1000,
  obligations = { max_epsilon_micro = 3000000, max_delta_pico = 10000000, output_form = "weights" },
}
