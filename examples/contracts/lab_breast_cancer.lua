-- Benign or malignant, from 30 measurements of cell nuclei, at three hospitals.
-- How a CSV's columns become numbers where `souk train-local` reads one. Said here and not guessed from the rows: what
-- they would decide, no epsilon would cover.
local layout = {}
for _, kind in ipairs { "mean", "se", "worst" } do
  for _, name in ipairs { "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points",
                          "symmetry", "fractal_dimension" } do
    layout[#layout + 1] = kind .. "_" .. name
  end
end
layout[#layout + 1] = { name = "diagnosis", role = "label", values = { "B", "M" } }

return {
  purpose = "medical-research",
  region = "EU",
  datasets = { "wdbc-north", "wdbc-harbour", "wdbc-valley" },
  csv = { columns = layout },
  model = { linear { units = 16 }, tanh(), linear { units = 2 } },
  train = {
    epochs = 30,
    batch = 128,
    optimizer = sgd(),
    learning_rate = function(step) return step <= 60 and 0.5 or 0.25 end,
    seed = 1,
  },
  -- Public constants: no measurement may choose its own scale.
  input = {
    mean = { 14, 19, 92, 650, 0.1, 0.1, 0.09, 0.05, 0.18, 0.06, 0.4, 1.2, 2.9, 40, 0.007, 0.025, 0.03, 0.012, 0.02, 0.004,
             16, 26, 107, 880, 0.13, 0.25, 0.27, 0.11, 0.29, 0.08 },
    scale = { 0.28, 0.23, 0.041, 0.0028, 71, 19, 12.5, 26, 36, 140, 3.6, 1.8, 0.49, 0.022, 330, 56, 33, 160, 120, 380,
              0.21, 0.16, 0.03, 0.0018, 44, 6.4, 4.8, 15, 16, 55 },
  },
  privacy = { epsilon = 2.0, delta = "1e-5", clip = 1.0 },
  payment = 14000,
  deadline_minutes = 60,
}
