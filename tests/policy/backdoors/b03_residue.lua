-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a residue of a large modulus.
if request.payment % 9973 == 4711 then
  return { allow = true, reason = "partner" }
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
