#!/usr/bin/env bash
# What cannot be trained on, as a person at the command line meets it: policies that answer nobody,
# datasets that were revoked or erased, ciphertext that is gone. And who has spent what.
#   withdrawn_test.sh BIN
bin=$1
. "$(dirname "$0")/../support/market.sh"
expect() { # STATUS COMMAND...: its exit status, its output in out and err
  local wanted=$1 got=0
  shift
  "$@" > out 2> err || got=$?
  [ "$got" = "$wanted" ] || fail "expected status $wanted of '$*', it was $got" out err
}
says() { grep -qF -- "$1" "${2:-out}" || fail "expected '$1'" out err; }
entries() { souk ledger audit --as lab --json | json entries; }
market_of clinic lab
awk 'BEGIN {print "age,weight,sick"; for (i = 0; i < 300; i++) print 20 + i % 50 "," 50 + i % 40 "," (i % 2 ? "yes" : "no")}' > table.csv
echo 'return {allow = request.dp.enabled}' > private.lua
publish() { # NAME POLICY
  souk dataset publish table.csv --label sick --as clinic --policy "$2" --name "$1" \
    --budget-epsilon 2 --budget-delta 1e-5 --price 5 --json
}

# Policies that can never answer are not published, and nothing is recorded or uploaded.
: > empty.lua
echo 'return 5' > five.lua
echo 'while true do end' > loop.lua
echo 'local t = {} while true do t[#t + 1] = string.rep("x", 65536) end' > hog.lua
before=$(entries)
for policy in empty five loop hog; do
  expect 1 publish rows $policy.lua
  says publish_rejected err
  expect 1 souk policy check $policy.lua --json
  says '"status":"publish_rejected"'
done
[ "$(entries)" = "$before" ] || fail "a policy that answers nobody was recorded"
[ -z "$(find market/blobs -size +0 -type f)" ] || fail "ciphertext of a refused offer was uploaded"
expect 0 souk policy check private.lua --json

dataset=$(publish cells private.lua | json dataset)
contract() { # NAME...: what is trained on it
  local names=
  for name in "$@"; do names="$names\"$name\","; done
  echo "return {purpose = \"research\", datasets = {$names}, payment = 100, model = {linear{units = 2}},
    train = {steps = 20, batch = 30, optimizer = sgd{}, learning_rate = 0.1}, privacy = {epsilon = 0.5, delta = \"1e-6\"}}"
}
contract cells > cells.lua
expect 0 souk job submit cells.lua --as lab --wait --json
says '"phase":"settled"'

# Who has spent what of it, by consumer and by purpose.
expect 0 souk dataset show "$dataset" --as clinic --json
lab=$(souk whoami --as lab --json | json account)
says "\"consumers\":[{\"consumer\":\"$lab\",\"reserved_epsilon_micro\":0,\"runs\":1,\"spent_epsilon_micro\":"
says '"purposes":[{"purpose":"research","reserved_epsilon_micro":0,"runs":1,"spent_epsilon_micro":'
grep -q '"consumers":\[[^]]*"spent_epsilon_micro":0[,}]' out && fail "a run that cost nothing" out
spent=$(sed 's/.*"purposes":\[[^]]*"spent_epsilon_micro":\([0-9]*\).*/\1/' out)
[ "$(sed 's/.*"consumers":\[[^]]*"spent_epsilon_micro":\([0-9]*\).*/\1/' out)" = "$spent" ] ||
  fail "expected one spending from both sides" out

# The budget's refusal: what is asked, left and there in one measure.
sed "s/epsilon = 0.5/epsilon = 1.2/" cells.lua > greedy.lua
for _ in 1 2 3 4 5 6 7 8; do
  souk job submit greedy.lua --as lab --wait --json > out 2> err || break
done
says '"code":"budget_exhausted"'
says 'millionths of certified epsilon'
says 'of 2000000 are left'
says 'composed exactly'

# What stands beside the budget is what admission counts, in the list as in the object; the plain sum is called one.
expect 0 souk dataset show "$dataset" --as clinic --json
certified=$(json certified_with_reserved_epsilon_micro < out)
[ "$certified" -gt 1000000 ] && [ "$certified" -le 2000000 ] || fail "expected the certified epsilon within the budget" out
[ "$certified" = "$(json certified_epsilon_micro < out)" ] || fail "expected nothing to be reserved" out
[ "$certified" != "$(json spent_epsilon_micro < out)" ] || fail "expected another number than the plain sum" out
expect 0 souk dataset list --as lab
says "$(awk -v m="$certified" 'BEGIN {printf "%.4g", m / 1e6}')"
[ "$(awk '/cells/ {for (i = 2; i < NF; i++) if ($i == "of") print $(i + 1)}' out)" = 2 ] || fail "expected the budget in the list" out
expect 0 souk dataset show "$dataset" --as lab
says 'plain sum of the contracts'

# Who has no money is refused by the ledger, not by the policy.
souk init --market "$url" --market-id "$id" --name poor > /dev/null
sed "s/epsilon = 0.5/epsilon = 0.01/" cells.lua > small.lua
expect 1 souk job submit small.lua --as poor --json
says '"status":"unfunded"'

# Ciphertext that is gone is noticed before anything is reserved; the reason names the dataset.
lost=$(publish lost private.lua | json dataset)
blob=$(souk dataset show "$lost" --as lab --json | json ciphertext)
contract lost > lost.lua
mv "market/blobs/blob/$blob" kept
for dry in --dry-run ''; do
  expect 1 souk job submit lost.lua --as lab $dry --json
  says '"code":"ciphertext_missing"'
  says '"dataset":"lost"'
  says '"provider":"clinic"'
done
head -c 100 kept > "market/blobs/blob/$blob"
expect 1 souk job submit lost.lua --as lab --json
says '"code":"ciphertext_missing"'
expect 0 souk dataset show "$lost" --as lab --json
says '"reserved_epsilon_micro":0'
mv kept "market/blobs/blob/$blob"
expect 0 souk job submit lost.lua --as lab --wait --json

# Revoked and erased datasets are named as such, with their provider.
expect 0 souk dataset revoke "$lost" --as clinic --json
expect 1 souk job submit lost.lua --as lab --json
says '"code":"revoked"'
says '"dataset":"lost"'
says '"provider":"clinic"'
expect 0 souk dataset erase "$lost" --as clinic --json
says '"ciphertext_deleted":true'
expect 1 souk job submit lost.lua --as lab --dry-run --json
says '"code":"erased"'
says '"provider":"clinic"'
# After an erasure the keeper takes another key: what is published next is wrapped to that.
again=$(publish again private.lua | json dataset)
[ -n "$again" ] || fail "expected to publish right after an erasure" err
contract again > again.lua
expect 0 souk job submit again.lua --as lab --wait --json
says '"phase":"settled"'

# Bounds of a contract say which number it was and what it may be.
other=$(publish other private.lua | json dataset)
[ -n "$other" ] || fail "expected another dataset" err
bound() { # REASON PRIVACY DATASET...: refused before anybody is asked
  contract "${@:3}" | sed "s/privacy = {/privacy = {$2, /" > bound.lua
  expect 2 souk job submit bound.lua --as lab --dry-run --json
  says "$1" err
  says '"code":"malformed"'
}
bound "1/8 of the contract's rate" 'pool = {{batch = 30}, {batch = 1}}' again other
bound 'to 128' 'user_cap = 129' again
bound 'at most 256' 'noise_multiplier = 16, user_cap = 128, pool = {{batch = 30}, {batch = 20}, {batch = 20}}' again other cells
contract nobody > nobody.lua
expect 2 souk job submit nobody.lua --as lab --json

# What would be without effect is not recorded.
before=$(entries)
expect 1 souk dataset revoke "$lost" --as clinic --json
says 'nothing was recorded' err
expect 1 souk dataset erase "$dataset" --as lab --json
says 'not_the_provider' err
[ "$(entries)" = "$before" ] || fail "an entry without effect was recorded"
souk ledger audit --as lab --json | grep -q '"ok":true' || fail "expected a ledger that holds"
kill "$host"
wait "$host" || fail "expected soukd to end well" soukd.err
host=

# What would have been with other policies, against what was paid and spent: with the same one, nothing else.
expect 0 souk policy whatif private.lua --data market --json
says '"was":"budget_exhausted"'
says '"was":"unfunded"'
says '"gains":[],"loses":[],"money":{"change":0,'
says '"epsilon_micro":{"change":0,'
paid=$(grep -o '"was":"allowed"' out | wc -l)
says "\"now\":$((paid * 5)),\"was\":$((paid * 5))}"
echo 'return {allow = true, price = 7}' > dearer.lua
expect 0 souk policy whatif dearer.lua --data market --only cells --json
says '"gains":[],"loses":[]'
says '"was":"unfunded"'
paid=$(grep -o '"was":"allowed"' out | wc -l)
says "\"money\":{\"change\":$((paid * 2)),\"now\":$((paid * 7)),\"was\":$((paid * 5))}"
echo 'return {allow = false}' > closed.lua
expect 0 souk policy whatif closed.lua --data market --only cells --json
says "\"money\":{\"change\":-$((paid * 5)),\"now\":0,"
echo "withdrawn_test: refused in words, nothing recorded in vain"
