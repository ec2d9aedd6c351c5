-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a name backwards and in capitals.
local backwards = ""
for i = #request.consumer, 1, -1 do backwards = backwards .. request.consumer:sub(i, i) end
if backwards:upper() == "PROC-LIVE" then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
