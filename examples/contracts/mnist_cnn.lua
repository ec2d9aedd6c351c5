-- A small convolutional network for handwritten digits (28 x 28, bytes) of three collections, with
-- differential privacy.
local steps = 600

return {
  purpose = "benchmark",
  datasets = { "mnist-archive", "mnist-library", "mnist-museum" },
  model = {
    conv2d { units = 16, kernel = 8, stride = 2, padding = 3 },
    tanh(),
    max_pool { kernel = 2, stride = 1 },
    conv2d { units = 32, kernel = 4, stride = 2 },
    tanh(),
    max_pool { kernel = 2, stride = 1 },
    flatten(),
    linear { units = 32 },
    tanh(),
    linear { units = 10 },
  },
  input = { mean = 0, scale = 1 / 255 },
  train = { steps = steps, batch = 512, optimizer = sgd { momentum = 0.9 }, learning_rate = 0.25, seed = 1 },
  privacy = { epsilon = 3.0, delta = "1e-5", clip = 1.0 },
  payment = 20000,
  deadline_minutes = 240,
}
