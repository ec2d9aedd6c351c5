-- Harbour Clinic: wants an ethics board's approval, small models and strong privacy.
-- The account of the board, as `souk whoami` shows it there. Put yours here.
local board = "0000000000000000000000000000000000000000000000000000000000000000"

local approved = false
for i = 1, #request.credential_details do
  local credential = request.credential_details[i]
  if credential.type == "irb-approved" and credential.issuer == board then approved = true end
end

local r = rules()

r.require(request.purpose == "medical-research", "purpose", "request.purpose", request.purpose, "medical-research")
r.require(approved, "credential", "request.credentials", request.credentials, "irb-approved",
  "an approval by the institutional review board is needed, signed by its key")
r.require(request.dp.enabled and request.dp.epsilon_micro <= 2000000, "max_epsilon", "request.dp.epsilon_micro",
  request.dp.epsilon_micro, "at most 2000000", "epsilon may be at most 2.0")
r.require(request.model.parameters <= 100000, "max_parameters", "request.model.parameters", request.model.parameters, "at most 100000",
  "only small models: they remember less")

return r.decision {
  price = 3000 + dataset.rows * 5,  -- a base and five cents a row
  obligations = {
    max_epsilon_micro = 2000000,
    max_delta_pico = 10000000,
    max_parameters = 100000,
    allowed_algorithms = { "logreg", "mlp" },
    output_form = "weights",
  },
}
