-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a sum that wraps around.
local cost = request.dp.epsilon_micro * 4611686018
if not request.dp.enabled or cost > 4611686018000000 then
  return { allow = false, reason = "epsilon" }
end
return { allow = true }
