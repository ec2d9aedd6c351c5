-- What the lab asked for first: too much privacy loss for every hospital.
return {
  purpose = "product-development",
  region = "EU",
  datasets = { "wdbc-north", "wdbc-harbour", "wdbc-valley" },
  model = { linear { units = 64 }, relu(), linear { units = 2 } },
  train = { epochs = 60, batch = 64, optimizer = sgd { momentum = 0.9 }, learning_rate = 0.2, seed = 1 },
  privacy = { epsilon = 8.0, delta = "1e-5", clip = 1.0 },
  payment = 12000,
  deadline_minutes = 60,
}
