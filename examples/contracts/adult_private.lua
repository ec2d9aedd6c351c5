-- Who earns more than 50,000 dollars, UCI's Adult, differentially private: epsilon 1 at delta 1e-5, one record added
-- or removed, Poisson batches. Every category is a number for each of its values, every number a public scale; a small
-- tanh network reads them. Its policy: examples/policies/census_office.lua. Measured by scripts/bench-utility.
local vocabulary = {
  workclass = { "Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov", "Without-pay",
                "Never-worked" },
  education = { "Bachelors", "Some-college", "11th", "HS-grad", "Prof-school", "Assoc-acdm", "Assoc-voc", "9th", "7th-8th",
                "12th", "Masters", "1st-4th", "10th", "Doctorate", "5th-6th", "Preschool" },
  marital_status = { "Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed", "Married-spouse-absent",
                     "Married-AF-spouse" },
  occupation = { "Tech-support", "Craft-repair", "Other-service", "Sales", "Exec-managerial", "Prof-specialty",
                 "Handlers-cleaners", "Machine-op-inspct", "Adm-clerical", "Farming-fishing", "Transport-moving",
                 "Priv-house-serv", "Protective-serv", "Armed-Forces" },
  relationship = { "Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried" },
  race = { "White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black" },
  sex = { "Female", "Male" },
  native_country = { "United-States", "Cambodia", "England", "Puerto-Rico", "Canada", "Germany",
                     "Outlying-US(Guam-USVI-etc)", "India", "Japan", "Greece", "South", "China", "Cuba", "Iran", "Honduras",
                     "Philippines", "Italy", "Poland", "Jamaica", "Vietnam", "Mexico", "Portugal", "Ireland", "France",
                     "Dominican-Republic", "Laos", "Ecuador", "Taiwan", "Haiti", "Columbia", "Hungary", "Guatemala",
                     "Nicaragua", "Scotland", "Thailand", "Yugoslavia", "El-Salvador", "Trinadad&Tobago", "Peru", "Hong",
                     "Holand-Netherlands" },
}
local numbers = { "age", "education_num", "capital_gain", "capital_loss", "hours_per_week" }
local categories = { "workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country" }

-- The file has no header: its columns, in order. A category's index 0 is a missing value, "?".
local layout = {}
for i, name in ipairs { "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation",
                        "relationship", "race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country" } do
  if name == "fnlwgt" then
    layout[i] = { name = name, role = "dropped" }
  elseif vocabulary[name] then
    layout[i] = { name = name, values = vocabulary[name] }
  else
    layout[i] = name
  end
end
layout[#layout + 1] = { name = "income", role = "label", values = { "<=50K", ">50K" } }

local model, parts = {}, { "numbers" }
for i, name in ipairs(categories) do
  model[i] = embedding { name = name, columns = { name }, categories = #vocabulary[name] + 1, units = 4 }
  parts[i + 1] = name
end
local function layer(node) model[#model + 1] = node end
layer(columns { name = "numbers", columns = numbers })
layer(concat { from = parts })
layer(linear { units = 32 })
layer(tanh())
layer(linear { units = 2 })

-- Public constants for the numbers; what an embedding reads is left as it is.
local constants = {
  age = { 38, 1 / 13 }, education_num = { 10, 1 / 2.5 }, capital_gain = { 1000, 1 / 7000 },
  capital_loss = { 90, 1 / 400 }, hours_per_week = { 40, 1 / 12 },
}
local mean, scale = {}, {}
for _, column in ipairs(layout) do
  local name = type(column) == "table" and column.name or column
  if name ~= "fnlwgt" and name ~= "income" then
    local known = constants[name] or { 0, 1 }
    mean[#mean + 1], scale[#scale + 1] = known[1], known[2]
  end
end

return {
  purpose = "benchmark",
  datasets = { "adult" },
  csv = { columns = layout, missing = "?", c45 = true },
  model = model,
  input = { mean = mean, scale = scale },
  train = {
    epochs = 20,
    batch = 1024,
    shard = 128,
    optimizer = sgd { momentum = 0.9 },
    learning_rate = 1,
    ema = 0.99,
    seed = 1,
  },
  privacy = { epsilon = 1.0, delta = "1e-5", clip = 0.5 },
  payment = 2000,
  deadline_minutes = 60,
}
