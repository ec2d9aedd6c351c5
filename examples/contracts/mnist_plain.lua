-- Handwritten digits (28 x 28, bytes) of three collections, without differential privacy: each
-- collection's policy waives it by name. One pass over the data.
return {
  purpose = "benchmark",
  datasets = { "mnist-archive", "mnist-library", "mnist-museum" },
  model = {
    conv2d { units = 16, kernel = 5, stride = 1, padding = 2 },
    relu(),
    max_pool { kernel = 2, stride = 2 },
    conv2d { units = 32, kernel = 5, stride = 1, padding = 2 },
    relu(),
    max_pool { kernel = 2, stride = 2 },
    flatten(),
    linear { units = 10 },
  },
  input = { mean = 0, scale = 1 / 255 },
  train = { epochs = 1, batch = 125, shuffle = true, optimizer = sgd { momentum = 0.9 }, learning_rate = 0.05, seed = 1 },
  payment = 20000,
  deadline_minutes = 240,
}
