-- North Hospital: medical research only, under a modest privacy loss.
local r = rules()

r.require(request.purpose == "medical-research", "purpose", "request.purpose", request.purpose, "medical-research",
  "North Hospital shares its patients' data for medical research only")
r.require(request.dp.enabled, "privacy", "request.dp.enabled", request.dp.enabled, true,
  "training must be differentially private")
r.require(request.dp.epsilon_micro <= 3000000, "max_epsilon", "request.dp.epsilon_micro", request.dp.epsilon_micro, "at most 3000000",
  "epsilon may be at most 3.0")
r.require(ctx.runs < 20, "max_runs", "ctx.runs", ctx.runs, "fewer than 20", "twenty trainings are enough")

return r.decision {
  price = 5000,
  obligations = { max_epsilon_micro = 3000000, max_delta_pico = 10000000, output_form = "weights" },
}
