-- Handwritten digits with a network in the manner of LeNet, five passes, no privacy:
--   souk train-local examples/contracts/mnist_lenet.lua --data train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz
--     --test t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz
return {
  purpose = "benchmark",
  datasets = { "mnist" },
  model = {
    conv2d { units = 16, kernel = 5, padding = 2 },
    relu(),
    max_pool { kernel = 2 },
    conv2d { units = 32, kernel = 5, padding = 2 },
    relu(),
    max_pool { kernel = 2 },
    flatten(),
    linear { units = 128 },
    relu(),
    linear { units = 10 },
  },
  input = { mean = 33.3, scale = 1 / 78.6 },
  train = {
    epochs = 5,
    batch = 64,
    shuffle = true,
    optimizer = adam { weight_decay = 0.01 },
    -- 4,688 steps in all, down to zero.
    learning_rate = function(step) return 0.002 * (1 - (step - 1) / 4688) end,
    seed = 1,
  },
  payment = 20000,
  deadline_minutes = 240,
}
