-- What the lab asked for first: a product, a large network, and no agreement with the library.
return {
  purpose = "product-development",
  datasets = { "mnist-archive", "mnist-library", "mnist-museum" },
  model = { flatten(), linear { units = 1024 }, relu(), linear { units = 10 } },
  input = { mean = 0, scale = 1 / 255 },
  train = { epochs = 5, batch = 125, shuffle = true, optimizer = sgd {}, learning_rate = 0.1, seed = 1 },
  payment = 20000,
  deadline_minutes = 60,
}
