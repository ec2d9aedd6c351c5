-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: an error that is caught.
local ok, bad = pcall(function()
  local share = 1000000 // (request.batch - 3333)
  return request.dp.epsilon_micro > 1000000 or not request.dp.enabled or share < -2000000
end)
if ok and bad then return { allow = false, reason = "epsilon" } end
return { allow = true }
