-- Valley Institute: research and teaching, priced by the privacy it costs.
local r = rules()

local purposes = { "medical-research", "teaching" }
r.require(contains(purposes, request.purpose), "purpose", "request.purpose", request.purpose, purposes)
r.require(request.dp.enabled and request.dp.epsilon_micro <= 4000000, "max_epsilon", "request.dp.epsilon_micro",
  request.dp.epsilon_micro, "at most 4000000", "epsilon may be at most 4.0")
r.require(request.dp.noise_micro >= 500000, "min_noise", "request.dp.noise_micro", request.dp.noise_micro, "at least 500000",
  "the noise multiplier must be at least 0.5")

-- 10.00 to begin with, and 10.00 for each started unit of epsilon.
local units = (request.dp.epsilon_micro + 999999) // 1000000
return r.decision {
  price = 1000 + 1000 * units,
  obligations = { max_epsilon_micro = 4000000, max_delta_pico = 10000000, min_noise_micro = 500000 },
}
