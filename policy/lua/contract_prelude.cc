// The vocabulary of training contracts, in their own language: contracts/SPEC.md, Training
// contracts. Layers are tables with an `op`; elaborate.h reads them.
#include "policy/lua/confined.h"

namespace souk::policy {

const std::string_view kContractPrelude = R"lua(
local pairs, type, error, math = pairs, type, error, math
local function kind(field, name)
  return function(arguments)
    local node = { [field] = name }
    if arguments == nil then return node end
    if type(arguments) ~= "table" then error(name .. ": expected a table in braces", 2) end
    for key, value in pairs(arguments) do node[key] = value end
    return node
  end
end
linear, conv2d, max_pool, avg_pool = kind("op", "linear"), kind("op", "conv2d"), kind("op", "max_pool"), kind("op", "avg_pool")
global_avg_pool, relu, leaky_relu = kind("op", "global_avg_pool"), kind("op", "relu"), kind("op", "leaky_relu")
tanh, sigmoid, gelu, silu = kind("op", "tanh"), kind("op", "sigmoid"), kind("op", "gelu"), kind("op", "silu")
flatten, dropout, group_norm = kind("op", "flatten"), kind("op", "dropout"), kind("op", "group_norm")
batch_norm, layer_norm = kind("op", "batch_norm"), kind("op", "layer_norm")
add, concat = kind("op", "add"), kind("op", "concat")
embedding, columns = kind("op", "embedding"), kind("op", "columns")
scattering = kind("op", "scattering")
sgd, adam, adamw = kind("kind", "sgd"), kind("kind", "adam"), kind("kind", "adam")

-- Blocks: layers in a list are layers in a row.
residual, parallel = kind("op", "residual"), kind("op", "parallel")
function repeated(count, make)
  if math.type(count) ~= "integer" or count < 0 or count > 256 then
    error("repeated: expected a whole number from 0 to 256", 2)
  end
  if type(make) ~= "function" and type(make) ~= "table" then
    error("repeated: expected layers, or a function of the number", 2)
  end
  local out = {}
  for i = 1, count do
    if type(make) == "function" then out[i] = make(i) else out[i] = make end
    if out[i] == nil then error("repeated: expected layers of number " .. i, 2) end
  end
  return out
end

-- Schedules: functions of the step, from 1, and of how many steps there are.
local function read(name, arguments, wanted)
  if type(arguments) ~= "table" then error(name .. ": expected a table in braces", 3) end
  for key in pairs(arguments) do
    if wanted[key] == nil then error(name .. ": there is no " .. key, 3) end
  end
  local out = {}
  for key, otherwise in pairs(wanted) do
    local value = arguments[key]
    if value == nil and otherwise ~= true then value = otherwise end
    if type(value) ~= "number" then error(name .. ": expected " .. key .. ", a number", 3) end
    out[key] = value
  end
  return out
end
-- Straight up from 0 to `from` during `warmup` steps, then as `shape` says of 0 .. 1.
local function warmed(name, arguments, shape)
  local has = read(name, arguments, { from = true, to = 0, warmup = 0 })
  return function(step, steps)
    if step <= has.warmup then return has.from * step / has.warmup end
    local left = steps - has.warmup
    local done = left > 1 and (step - has.warmup - 1) / (left - 1) or 0
    return has.to + (has.from - has.to) * shape(done)
  end
end
schedule = {
  linear = function(arguments)
    return warmed("schedule.linear", arguments, function(done) return 1 - done end)
  end,
  cosine = function(arguments)
    return warmed("schedule.cosine", arguments, function(done) return (1 + math.cos(math.pi * done)) / 2 end)
  end,
  drops = function(arguments)
    local has = read("schedule.drops", arguments, { from = true, every = true, by = 0.1 })
    if has.every < 1 then error("schedule.drops: expected every, at least 1", 2) end
    return function(step)
      local rate = has.from
      for _ = 1, (step - 1) // has.every do rate = rate * has.by end
      return rate
    end
  end,
}
)lua";

}  // namespace souk::policy
