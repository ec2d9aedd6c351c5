#!/usr/bin/env bash
# Files that a contract brings, and columns that hold categories, through a whole market:
# a table with a published vocabulary; a network from a Darknet file; a head on frozen layers.
#   fine_tuning_test.sh BIN
bin=$1
. "$(dirname "$0")/../support/market.sh"
market_of clinic lab
echo 'return {allow = true, obligations = {waive_privacy = true}}' > open.lua

# A table: the label follows the first letter of the town, which only an embedding can know.
awk 'BEGIN {split("Aachen,Bonn,Celle,Dresden", town, ","); print "town,age,sick"
  for (i = 0; i < 400; i++) {t = i % 4 + 1; print town[t] "," 20 + i % 50 "," (t % 2 ? "yes" : "no")}}' > table.csv
cat > layout.json <<'JSON'
{"columns":[{"name":"town","values":["Aachen","Bonn","Celle","Dresden"]},"age",
            {"name":"sick","role":"label","values":["no","yes"]}]}
JSON
souk dataset publish table.csv --as clinic --csv layout.json --policy open.lua --name towns \
  --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json > published.json
towns=$(json dataset < published.json)
shown=$(souk dataset show "$towns" --as lab --json)
grep -q '"categories":{"town":\["Aachen","Bonn","Celle","Dresden"\]}' <<< "$shown" ||
  fail "expected the vocabulary in the manifest: $shown"

# Its embedding takes the number of categories from the offer.
cat > towns.lua <<'LUA'
return {
  purpose = "research", datasets = { "towns" }, payment = 10,
  model = { embedding { columns = { "town" }, units = 4, name = "town" }, columns { columns = { "age" }, name = "age" },
            concat { "town", "age" }, linear { units = 8 }, tanh(), linear { units = 2 } },
  input = { mean = { 0, 45 }, scale = { 1, 0.05 } },
  train = { steps = 60, batch = 40, shuffle = true, optimizer = adam(), learning_rate = 0.03 },
}
LUA
souk job submit towns.lua --as lab --wait --json > job.json || fail "expected a trained model" job.json soukd.err
job=$(json job < job.json)
souk model fetch "$job" --as lab --out towns > /dev/null
souk model predict towns --data table.csv --json > predicted.json
awk -v a="$(json accuracy < predicted.json)" 'BEGIN {exit !(a > 0.95)}' || fail "expected to learn the towns" predicted.json

# Another head on the same, frozen layers; the weights travel with the contract.
sed -e 's/return {/return { initial = "towns\/model.safetensors",/' -e 's/units = 4,/units = 4, frozen = true,/' \
    -e 's/units = 8 }/units = 8, frozen = true }/' -e 's/steps = 60/steps = 20/' towns.lua > head.lua
souk job submit head.lua --as lab --wait --json > job.json || fail "expected a new head" job.json soukd.err
parent=$job job=$(json job < job.json)
grep -q "\"initial\":{\"jobs\":\[\"$parent\"\]" job.json || fail "expected the weights' job in the contract" job.json
souk model fetch "$job" --as lab --out head > /dev/null
grep -q '"lineage":{"datasets":\["[0-9a-f]*"\],"jobs":\["[0-9a-f]*","[0-9a-f]*"\]' head/spec.json ||
  fail "expected both jobs in the lineage" head/spec.json
grep -q '"initial":"'"$(sha256sum < towns/model.safetensors | cut -d' ' -f1)"'"' head/spec.json ||
  fail "expected the weights' digest in the specification" head/spec.json
souk model predict head --data table.csv --json > predicted.json
awk -v a="$(json accuracy < predicted.json)" 'BEGIN {exit !(a > 0.95)}' || fail "expected the new head to know the towns" predicted.json

# Trained on at home the bytes are new, and the jobs behind them are named all the same.
quote() { # WEIGHTS: what the contract would be told, in quote.json
  sed "s|initial = \"[^\"]*\"|initial = \"$1\"|" head.lua > quote.lua
  souk job submit quote.lua --as lab --dry-run --json > quote.json 2> quote.err
}
souk train-local head.lua --data table.csv --csv layout.json --out home > /dev/null 2> home.err || fail "expected to go on at home" home.err
quote home/model.safetensors || fail "expected a quote" quote.json
grep -q "\"initial\":{\"jobs\":\[\"$parent\"\]" quote.json || fail "expected the job behind the weights" quote.json
# A model of this market is known by its bytes; one that is neither known nor says whose it is, is none to start from.
cp towns/model.safetensors alone.safetensors
quote alone.safetensors || fail "expected a quote" quote.json
grep -q "\"initial\":{\"jobs\":\[\"$parent\"\]" quote.json || fail "expected the job whose model it is" quote.json
head -c -1 towns/model.safetensors > changed.safetensors && printf '\0' >> changed.safetensors
cmp -s changed.safetensors towns/model.safetensors && fail "expected other bytes"
quote changed.safetensors && fail "expected a refusal" quote.json
grep -q "lineage" quote.json || fail "expected a sentence about the lineage" quote.json
# Numbers that come from no market are declared to.
sed -e 's/initial = "[^"]*",//' -e 's/, frozen = true//g' head.lua > seed.lua
souk train-local seed.lua --data table.csv --csv layout.json --out nobodys > /dev/null 2> home.err || fail "expected a model" home.err
quote nobodys/model.safetensors || fail "expected a quote" quote.json
grep -q '"initial":{"jobs":\[\]' quote.json || fail "expected weights of no job" quote.json

# Weights of another model are refused before anything is recorded.
sed 's/units = 8,/units = 9,/' head.lua > wrong.lua
souk job submit wrong.lua --as lab --json > wrong.json 2> wrong.err && fail "expected a refusal" wrong.json
grep -q "initial weights" wrong.err wrong.json || fail "expected a sentence about the weights" wrong.err wrong.json

# The same table with its columns in another order is another table, for one contract and for what was learned from the first.
awk -F, -v OFS=, '{print $2, $1, $3}' table.csv > turned.csv
cat > turned.json <<'JSON'
{"columns":["age",{"name":"town","values":["Aachen","Bonn","Celle","Dresden"]},
            {"name":"sick","role":"label","values":["no","yes"]}]}
JSON
souk dataset publish turned.csv --as clinic --csv turned.json --policy open.lua --name turned \
  --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json > published.json || fail "expected the turned table to publish" published.json
refused() { # SENTENCE ARGUMENT...: exit 2, with that sentence
  local said=$1 status=0
  shift
  "$@" > refused.json 2> refused.err || status=$?
  [ $status = 2 ] || fail "expected exit 2, not $status, of $*" refused.json refused.err
  grep -qF "$said" refused.json refused.err || fail "expected '$said'" refused.json refused.err
}
sed 's/"towns" }, payment/"towns", "turned" }, payment/' towns.lua > both.lua
before=$(souk ledger audit --as lab --json | json entries)
for how in --dry-run ""; do
  refused 'datasets[2]: expected the columns of datasets[1] in their order; column 1 is \"town\" in towns and is \"age\" in turned' \
    souk job submit both.lua --as lab $how --json
done
sed 's/"towns" }, payment/"turned" }, payment/' head.lua > turned.lua
refused 'column 1 is \"town\" in this model and is \"age\" in turned' souk job submit turned.lua --as lab --json
refused 'column 1 is \"town\" in this model and is \"age\" in the rows' \
  souk train-local turned.lua --data turned.csv --csv turned.json --json
refused 'column 1 is \"town\" in the model and is \"age\" in the layout' \
  souk model predict towns --data turned.csv --csv turned.json --json
[ "$(souk ledger audit --as lab --json | json entries)" = "$before" ] || fail "expected nothing on the ledger"
souk model predict towns --data turned.csv --json > predicted.json || fail "expected columns to be found by name" predicted.json

# Images, and a network from a Darknet file beside the contract.
for i in $(seq 0 39); do
  kind=$((i % 2)) && mkdir -p "pictures/k$kind"
  LC_ALL=C awk -v k=$kind -v n="$i" 'BEGIN {printf "P5\n8 8\n255\n"
    for (y = 0; y < 8; y++) for (x = 0; x < 8; x++) printf "%c", ((k ? x : y) < 4 ? 200 : 40) + (x * y + n) % 16}' > "pictures/k$kind/$i.pgm"
done
souk dataset publish pictures --as clinic --policy open.lua --name pictures \
  --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json > published.json || fail "expected images to publish" published.json
cat > net.cfg <<'CFG'
[net]
batch=10
height=8
width=8
channels=1
learning_rate=0.1
max_batches=10

[convolutional]
filters=4
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[connected]
output=2
activation=linear

[softmax]
CFG
cat > pictures.lua <<'LUA'
return {
  purpose = "research", datasets = { "pictures" }, payment = 10, model = "net.cfg", input = { mean = { 100 }, scale = { 0.01 } },
  train = { steps = 40, batch = 10, shuffle = true, optimizer = sgd { momentum = 0.9 }, learning_rate = 0.1 },
}
LUA
souk job submit pictures.lua --as lab --wait --json > job.json || fail "expected a network from its file" job.json soukd.err
souk model fetch "$(json job < job.json)" --as lab --out pictures.model > /dev/null
souk model predict pictures.model --data pictures --json > predicted.json
awk -v a="$(json accuracy < predicted.json)" 'BEGIN {exit !(a > 0.95)}' || fail "expected to tell the pictures" predicted.json
# A policy that is revoked also stops the run on other rows that started from what was learned under it.
sed 's/Aachen/Bonn/' table.csv > other.csv
souk dataset publish other.csv --as clinic --csv layout.json --policy open.lua --name villages \
  --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json > published.json || fail "expected another table to publish" published.json
sed -e 's/"towns" }, payment/"villages" }, payment/' -e 's/steps = 20/steps = 1000000/' head.lua > long.lua
souk job submit long.lua --as lab --json > job.json || fail "expected a run on other rows" job.json soukd.err
job=$(json job < job.json)
for _ in $(seq 200); do
  [ "$(souk job status "$job" --as lab --json | json phase)" != running ] || break
  sleep 0.05
done
version=$(souk policy versions "$towns" --as lab --json | json version)
souk policy revoke "$towns" "$version" --mode stop --as clinic --json > revoked.json || fail "expected a revocation" revoked.json
souk job watch "$job" --as lab --json > watched.json && fail "expected a run without a model" watched.json
grep -q '"phase":"refunded"' watched.json && grep -q '"ended_because":"policy_revoked"' watched.json ||
  fail "expected the run to stop" watched.json
souk ledger log --as lab --limit 0 --json | tr '{' '\n' | grep '"kind":"job.stop"' | grep -q "${job:0:12}" ||
  fail "expected the trainer to say how far it came"
# And all of it comes out again from the ledger's bytes.
kill "$host"; wait "$host" 2> /dev/null || true; host=
souk policy replay --data market --json > replay.json || fail "expected the recorded decisions" replay.json
echo "fine_tuning_test: ok"
