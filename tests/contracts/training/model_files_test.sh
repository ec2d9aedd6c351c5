#!/usr/bin/env bash
# Models from files through the client and a real market: a contract that names a Darknet .cfg or
# an ONNX graph trains what one with the same layers written out trains; what has no counterpart is
# refused by name, before anything is signed.
#   model_files_test.sh BIN
set -euo pipefail
PATH=$1:$PATH
work=$(mktemp -d)
cd "$work"
export SOUK_HOME=$work/home
soukd_pid=""
finish() {
  if [[ -n $soukd_pid ]]; then
    kill "$soukd_pid" 2>/dev/null || true
    wait "$soukd_pid" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "FAILED: $1" >&2
  cat out err >&2 2>/dev/null || true
  tail -5 market.log >&2 2>/dev/null || true
  exit 1
}
# status WANTED COMMAND...
status() {
  local wanted=$1 got=0
  shift
  "$@" >out 2>err || got=$?
  [[ $got -eq $wanted ]] || fail "$* exited $got, not $wanted"
}
says() { grep -qF -- "$1" out err || fail "expected: $1"; }
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\)\"\{0,1\}[,}].*/\1/p" out | head -1; }

# Two classes of points in a plane and one number that says nothing.
awk 'BEGIN {
  print "x,y,z,kind"
  for (i = 0; i < 80; ++i) {
    x = (i % 9) / 4 - 1
    y = (i % 7) / 3 - 1
    printf "%.3f,%.3f,%.3f,%s\n", x, y, (i % 5) / 2, (x > y) ? "low" : "high"
  }
}' >rows.csv

# contract MODEL: the program around it.
contract() {
  echo "return {purpose = 'benchmark', datasets = {'points'}, payment = 500, deadline_minutes = 30, model = $1,
  input = {mean = 0.5, scale = 2},
  train = {steps = 30, batch = 20, optimizer = sgd{momentum = 0.9}, learning_rate = schedule.cosine{from = 0.2, warmup = 5}, seed = 5}}"
}
contract "{linear{units = 6}, relu(), linear{units = 4}, tanh(), linear{units = 2}}" >written.lua
cat >net.cfg <<'CFG'
[net]
inputs=3
[connected]
output=6
activation=relu
[connected]
output=4
activation=tanh
[connected]
output=2
activation=linear
[softmax]
CFG
contract "'net.cfg'" >darknet.lua
status 0 souk train-local written.lua --data rows.csv --label kind --out trained
cp trained/model.onnx net.onnx
contract "{file = 'net.onnx'}" >onnx.lua

# The same files, each with something that souk's engine has not got.
sed '0,/activation=relu/s//activation=loggy/' net.cfg >loggy.cfg
sed '0,/\[connected\]/s//[crnn]/' net.cfg >crnn.cfg
sed 's/inputs=3/inputs=4/' net.cfg >wide.cfg
sed 's/output=2/output=3/' net.cfg >three.cfg
LC_ALL=C sed 's/Relu/Sqrt/g' net.onnx >sqrt.onnx
cmp -s net.onnx sqrt.onnx && fail "the graph has no Relu"
head -c 100 net.onnx >half.onnx
cp net.cfg net.txt

status 0 souk treasury keygen
treasury=$(cat out)
soukd --data market --treasury "$treasury" --json >market.json 2>market.log &
soukd_pid=$!
for _ in $(seq 300); do
  if [[ -s market.json ]] || ! kill -0 "$soukd_pid" 2>/dev/null; then break; fi
  sleep 0.1
done
[[ -s market.json ]] || fail "the market did not start"
cp market.json out
url=$(sed 's/.*"url":"\([^"]*\)".*/\1/' market.json)
market=$(field market)
for name in provider lab; do status 0 souk init --market "$url" --market-id "$market" --name "$name"; done
# The provider counts parameters and sees operations: the specification is what it judges.
cat >policy.lua <<'LUA'
local r = rules()
r.require(request.model.parameters == 6 * 4 + 4 * 7 + 2 * 5, "size", "request.model.parameters", request.model.parameters, 62)
r.require(contains(request.model.ops, "tanh"), "shape", "request.model.ops", "", "a tanh")
return r.decision {price = 100, obligations = {waive_privacy = true}}
LUA
status 0 souk dataset publish --as provider --name points --policy policy.lua --budget-epsilon 1 \
  --budget-delta 1e-5 --price 100 rows.csv --label kind
status 0 souk treasury deposit lab 2000 --market "$url" --market-id "$market"

# What is refused is refused as a malformed contract, and names what cannot be said here.
refused() {
  contract "$1" >refused.lua
  status 2 souk job submit --as lab refused.lua
  shift
  for word in "$@"; do says "$word"; done
}
refused "'loggy.cfg'" "loggy.cfg" "line 3, section 1 [connected]" "loggy"
refused "'crnn.cfg'" "crnn.cfg" "section 1 [crnn]"
refused "'sqrt.onnx'" "sqrt.onnx" "onnx: node " "(Sqrt)"
refused "'half.onnx'" "half.onnx" "onnx"
refused "'wide.cfg'" "examples of 3 numbers" "for 4"
refused "'three.cfg'" "the last node to give 2 numbers, it gives 3"
refused "'nowhere.cfg'" "no such file"
refused "'net.txt'" ".cfg, .onnx or .json"
refused "{file = 'net.cfg', norm = 'layer'}" "model.norm"
# What batch_normalize becomes is asked of Darknet's files alone.
refused "{file = 'net.onnx', norm = 'group'}" "norm: expected" "for a Darknet .cfg alone"
status 2 souk model import net.onnx --norm group --out part.json
says "net.onnx: norm: expected"
status 2 souk train-local written.lua --norm group --data rows.csv --label kind
says "written.lua: norm: expected"
refused "{file = 'net.cfg', layers = 3}" "model.layers"
status 0 souk job submit --as lab --dry-run darknet.lua
says "price    100"

# Three contracts, one specification, three models of it. (Which rows a step draws is the enclave's
# secret, so their numbers differ.)
for name in written darknet onnx; do
  status 0 souk job submit --as lab "$name.lua" --wait --json
  grep -q '"phase":"settled"' out || fail "$name did not settle"
  status 0 souk model fetch --as lab "$(field job)" --out "model-$name"
  grep -q '"op":"tanh"' "model-$name/spec.json" || fail "no tanh in the specification of $name"
  for of in written "$name"; do sed 's/"jobs":\[[^]]*\],//' "model-$of/spec.json" >"spec-$of"; done  # its own
  cmp spec-written "spec-$name" || fail "$name has another specification"
  status 0 souk model evaluate "model-$name" --data rows.csv
done

# A model that starts from a market's owes what that one owes, in every generation.
lineage() { sed -n 's/.*"lineage":\({"datasets":\[[^]]*\],"jobs":\[[^]]*\],"obligations":{[^}]*}}\).*/\1/p' "$1/spec.json"; }
[[ -n $(lineage model-written) ]] || fail "a fetched model has no lineage"
lineage model-written | grep -q '"waive_privacy":true' || fail "the lineage lacks the obligations"
status 0 souk train-local written.lua --data rows.csv --label kind --init model-written/model.safetensors --out child
cp child/model.safetensors alone.safetensors
status 0 souk train-local written.lua --data rows.csv --label kind --init alone.safetensors --out grandchild
for name in child grandchild; do
  [[ $(lineage $name) == "$(lineage model-written)" ]] || fail "$name does not inherit"
  grep -q 'started from a market' "$name/MODEL_CARD.md" || fail "the card of $name does not say so"
done
[[ -z $(lineage trained) ]] || fail "a model of nobody else's has a lineage"
cp model-written/model.safetensors bare.safetensors
status 2 souk train-local written.lua --data rows.csv --label kind --init bare.safetensors --out orphan
says "expected the lineage of a market's model"
kill "$soukd_pid"
wait "$soukd_pid" || fail "soukd ended badly"
soukd_pid=""
status 0 souk ledger audit --as lab --data market
echo "all as expected"
