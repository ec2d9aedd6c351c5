-- Census Office: what people earn, for benchmarks and research, at a privacy loss of one and not often.
local r = rules()

local purposes = { "benchmark", "research" }
r.require(contains(purposes, request.purpose), "purpose", "request.purpose", request.purpose, purposes)
r.require(request.dp.enabled, "privacy", "request.dp.enabled", request.dp.enabled, true,
  "training must be differentially private")
r.require(request.dp.epsilon_micro <= 1000000, "max_epsilon", "request.dp.epsilon_micro", request.dp.epsilon_micro, "at most 1000000",
  "epsilon may be at most 1.0")
r.require(request.dp.delta_pico <= 10000000, "max_delta", "request.dp.delta_pico", request.dp.delta_pico, "at most 10000000",
  "delta may be at most 1e-5")
r.require(ctx.runs < 20, "max_runs", "ctx.runs", ctx.runs, "fewer than 20", "twenty trainings are enough")

return r.decision {
  price = 1500,
  obligations = { max_epsilon_micro = 1000000, max_delta_pico = 10000000, output_form = "weights" },
}
