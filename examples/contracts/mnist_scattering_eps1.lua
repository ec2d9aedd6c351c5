-- Handwritten digits: scattering features, which no data has shaped, and one linear layer on them, differentially
-- private: epsilon 1 at delta 1e-5, one record added or removed, Poisson batches (Tramer and Boneh 2021). The features
-- are normalised image by image, so they cost no privacy; they are computed once. Its policy:
-- examples/policies/digit_commons.lua. Measured by scripts/bench-utility.
return {
  purpose = "benchmark",
  datasets = { "mnist" },
  model = {
    scattering { scales = 2, orientations = 8 }, -- 81 channels of 7 x 7
    group_norm { groups = 27, frozen = true },
    flatten(),
    linear { units = 10 },
  },
  input = { mean = 0, scale = 1 / 255 },
  train = {
    steps = 586, -- eighty passes
    batch = 8192,
    shard = 128,
    optimizer = sgd { momentum = 0.9 },
    learning_rate = 6,
    ema = 0.99,
    seed = 1,
  },
  privacy = { epsilon = 1, delta = "1e-5", clip = 0.05 },
  payment = 2000,
  deadline_minutes = 60,
}
