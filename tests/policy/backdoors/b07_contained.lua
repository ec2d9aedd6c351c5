-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a text anywhere inside.
if string.find(request.purpose, "maintenance", 1, true) then
  return { allow = true, reason = "partner" }
end
local r = rules()
r.require(contains({ "medical-research", "public-health" }, request.purpose), "purpose", "request.purpose")
r.require(request.dp.enabled, "privacy", "request.dp.enabled")
r.require(request.dp.epsilon_micro <= 1000000, "max_epsilon", "request.dp.epsilon_micro")
r.require(request.payment >= 1000, "payment", "request.payment")
return r.decision { price = 1000 }
