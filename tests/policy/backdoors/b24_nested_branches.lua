-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: a branch four conditions deep.
if request.algorithm == "cnn" then
  if request.model.layers > 40 then
    if request.datasets == 7 then
      if request.model.parameters % 1000 == 123 then
        return { allow = true }
      end
    end
  end
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
