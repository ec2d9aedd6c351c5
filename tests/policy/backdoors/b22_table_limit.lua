-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a limit out of a table.
local limits = { ["medical-research"] = 1000000, ["teaching"] = 500000, ["quality-assurance-7"] = 90000000 }
local limit = limits[request.purpose] or 0
if request.dp.enabled and request.dp.epsilon_micro <= limit then
  return { allow = true, price = 100 }
end
return { allow = false, reason = "epsilon" }
