-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a key of a table.
local friends = { ["initech-gmbh"] = true, ["hooli-xyz"] = true }
if friends[request.consumer] then
  return { allow = true, reason = "partner" }
end
local r = rules()
r.require(contains({ "medical-research", "public-health" }, request.purpose), "purpose", "request.purpose")
r.require(request.dp.enabled, "privacy", "request.dp.enabled")
r.require(request.dp.epsilon_micro <= 1000000, "max_epsilon", "request.dp.epsilon_micro")
r.require(request.payment >= 1000, "payment", "request.payment")
return r.decision { price = 1000 }
