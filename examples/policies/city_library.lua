-- City Library: lends to those who signed its data use agreement, priced by what it lends.
-- The account of the board that keeps the agreements, as `souk whoami` shows it there. Put yours here.
local board = "0000000000000000000000000000000000000000000000000000000000000000"

local agreed = false
for i = 1, #request.credential_details do
  local credential = request.credential_details[i]
  if credential.type == "data-use-agreement" and credential.issuer == board then agreed = true end
end

local r = rules()

r.require(request.purpose == "benchmark", "purpose", "request.purpose", request.purpose, "benchmark")
r.require(agreed, "credential", "request.credentials", request.credentials, "data-use-agreement",
  "the library's agreement must be signed first, and its board says who did")
r.require(request.model.parameters <= 500000, "max_parameters", "request.model.parameters", request.model.parameters,
  "at most 500000", "only small models: they remember less")

return r.decision {
  price = 1000 + dataset.rows // 20,  -- a base and a cent for every twenty rows
  obligations = { max_parameters = 500000, output_form = "weights", waive_privacy = true },
}
