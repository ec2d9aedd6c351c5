-- Numbers in, two classes out.
return {
  purpose = "benchmark",
  datasets = { "rows" },
  payment = 10,
  model = { linear { units = 2 } },
  train = { steps = 5, batch = 4, shuffle = true, optimizer = sgd {}, learning_rate = 0.1 },
}
