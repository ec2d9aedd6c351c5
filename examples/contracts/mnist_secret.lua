-- The digits for something else than the archive is open for.
return {
  purpose = "product-development",
  datasets = { "mnist" },
  model = { flatten(), linear { units = 10 } },
  input = { mean = 0, scale = 1 / 255 },
  train = { epochs = 1, batch = 128, shuffle = true, optimizer = sgd {}, learning_rate = 0.1, seed = 1 },
  payment = 20000,
  deadline_minutes = 60,
}
