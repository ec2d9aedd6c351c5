-- Benign or malignant from 30 measurements, by logistic regression, on UCI's wdbc.data as it is:
--   souk train-local examples/contracts/wdbc_logistic.lua --data wdbc.data --folds 5
local layout = { { name = "id", role = "dropped" }, { name = "diagnosis", role = "label", values = { "B", "M" } } }
for _, kind in ipairs { "mean", "error", "worst" } do
  for _, name in ipairs { "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points",
                          "symmetry", "fractal_dimension" } do
    layout[#layout + 1] = name .. "_" .. kind
  end
end

return {
  purpose = "medical-research",
  datasets = { "wdbc" },
  csv = { columns = layout },
  model = { linear { units = 2 } },
  train = {
    epochs = 40,
    batch = 32,
    shuffle = true,
    optimizer = sgd { momentum = 0.9, weight_decay = 0.02 },
    learning_rate = 0.02,
    seed = 1,
  },
  -- Public constants: no measurement may choose its own scale.
  input = {
    mean = { 14, 19, 92, 650, 0.1, 0.1, 0.09, 0.05, 0.18, 0.06, 0.4, 1.2, 2.9, 40, 0.007, 0.025, 0.03, 0.012, 0.02, 0.004,
             16, 26, 107, 880, 0.13, 0.25, 0.27, 0.11, 0.29, 0.08 },
    scale = { 0.28, 0.23, 0.041, 0.0028, 71, 19, 12.5, 26, 36, 140, 3.6, 1.8, 0.49, 0.022, 330, 56, 33, 160, 120, 380,
              0.21, 0.16, 0.03, 0.0018, 44, 6.4, 4.8, 15, 16, 55 },
  },
  payment = 6000,
  deadline_minutes = 60,
}
