-- Ten kinds of pictures (CIFAR-10) from few examples: flips and shifts of them stand in for more.
--   souk train-local examples/contracts/cifar_small.lua --data cifar10_train_first4000.bin --test cifar10_test.bin
local layers = {}
local function layer(node) layers[#layers + 1] = node end
for _, width in ipairs { 24, 48, 96 } do
  for _ = 1, 2 do
    layer(conv2d { units = width, kernel = 3, padding = 1, bias = false })
    layer(batch_norm())
    layer(relu())
  end
  layer(max_pool { kernel = 2 })
end
layer(global_avg_pool())
layer(dropout { rate = 0.2 })
layer(linear { units = 10 })

local steps = 2500
return {
  purpose = "benchmark",
  datasets = { "cifar" },
  model = layers,
  input = { mean = 120, scale = 1 / 64 },
  train = {
    steps = steps,
    batch = 64,
    shard = 64,
    shuffle = true,
    optimizer = sgd { momentum = 0.9, nesterov = true, weight_decay = 0.01 },
    learning_rate = function(step)
      if step <= 100 then return 0.1 * step / 100 end
      return 0.1 * (steps - step) / (steps - 100)
    end,
    augment = { flip = true, crop = 4 },
    seed = 1,
  },
  payment = 20000,
  deadline_minutes = 240,
}
