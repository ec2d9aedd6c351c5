#!/bin/sh
# Every policy verb with nonsense for arguments and files: exit status 2, one sentence, no verdict.
set -eu
souk="$SOUK_BIN/souk"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() {
  echo "FAILED: $1" >&2
  cat out err >&2
  exit 1
}
# status WANTED ARGUMENTS...: souk policy with them.
status() {
  wanted=$1
  shift
  got=0
  timeout 60 "$souk" policy "$@" >out 2>err || got=$?
  [ "$got" = "$wanted" ] || fail "souk policy $* exited $got, not $wanted"
  [ -s out ] || [ -s err ] || fail "souk policy $* said nothing"
}
says() { grep -qF -- "$1" out err || fail "expected: $1"; }

echo 'return {allow = request.dp.epsilon_micro <= 1000000}' >p.lua
cat >r.json <<'JSON'
{"id":"t1","consumer":"c","purpose":"p","region":"","algorithm":"mlp","epochs":2,"payment":6000,
 "dp":{"enabled":true,"epsilon_micro":800000,"delta_pico":1000000},"credentials":[]}
JSON
printf '\377\376' >bytes.json
printf '' >empty
printf '[1,2' >half.json
echo '[]' >list.json
printf 'return {allow = \377}' >latin.lua

# No such verb, nothing to work on, options nobody knows.
status 2 evall
status 2 eval
status 2 eval p.lua
status 2 eval p.lua --request r.json --speed 3
status 2 eval p.lua --request r.json --gas 0
status 2 eval p.lua --request r.json --gas -5
status 2 eval p.lua --request r.json --gas many
status 2 eval p.lua --request r.json --gas 9007199254740992
says '--gas: expected 1 to 9007199254740991'
status 2 eval p.lua --request r.json --gas 4611686018427387904
says '--gas: expected 1 to 9007199254740991'
status 2 eval p.lua --request r.json --memory 99999999999999
for verb in eval explain; do
  status 2 $verb nowhere.lua --request r.json
  status 2 $verb p.lua --request nowhere.json
  status 2 $verb . --request r.json
done
# What is in the files: a malformed question is invalid_request, text that is none invalid_policy.
for file in bytes.json empty half.json list.json p.lua; do
  status 2 eval p.lua --request $file --json
  says '"status":"invalid_request"'
  status 2 eval p.lua --request r.json --dataset $file --json
  says '"status":"invalid_request"'
  status 2 eval p.lua --request r.json --ctx $file --json
  says '"status":"invalid_request"'
done
status 2 eval latin.lua --request r.json --json
says '"status":"invalid_policy"'
for escape in '{"$float":"nan"}' '{"$float":"inf"}' '{"$float":"800000"}' '{"$absent":true}' NaN -Infinity 1e3 9007199254740993 -1; do
  sed "s/800000/$escape/" r.json >odd.json
  status 2 eval p.lua --request odd.json --json
  says '"status":"invalid_request"'
  says 'epsilon_micro'
done
# Each of them is named: control, direction, invisible, look-alike.
for odd in '\001:U+0001' '\033:U+001B' '\342\200\256:U+202E' '\342\201\247:U+2067' '\342\200\213:U+200B' '\320\260:U+0430' '\315\276:U+037E' '\357\274\235:U+FF1D'; do
  printf "return {allow = true} -- ${odd%%:*}" >odd.lua
  status 1 eval odd.lua --request r.json --json
  says '"status":"publish_rejected"'
  says "${odd#*:}"
  status 1 check odd.lua --json
  says '"status":"publish_rejected"'
  says "${odd#*:}"
done
printf 'return {allow = true' >torn.lua
status 1 eval torn.lua --request r.json --json
says '"status":"publish_rejected"'
status 1 check torn.lua
# One of every refusal has status 1.
for text in 'error("x")' 'return 5' 'return {allow = 1}' 'return {allow = true, price = -1}' 'return {allow = true, price = 0.5}' 'return {allow = true, extra = 1}' ''; do
  echo "$text" >odd.lua
  status 1 eval odd.lua --request r.json --json
  says '"status":"error"'
done
echo 'while true do end' >odd.lua
status 1 eval odd.lua --request r.json --json
says '"status":"limit"'
# What is wrong with a text is the same to every verb that looks at it: 1 what may not be published, 2 what is no text.
echo '[{"expect":"allowed"}]' >cases.json
echo '{"epsilon":1000000}' >parameters.json
echo "[$(cat r.json)]" >requests.json
echo '[{"dataset":{"id":"d1","rows":1,"price":1},"policy":"odd.lua"}]' >own.json
every() { # EXIT STATUS: of odd.lua
  for verb in 'check odd.lua' 'eval odd.lua --request r.json' 'explain odd.lua --request r.json' \
    'test odd.lua --cases cases.json' 'prove odd.lua --invariant allow' 'diff odd.lua p.lua' 'diff p.lua odd.lua' \
    'whatif odd.lua --requests requests.json' 'whatif p.lua --requests requests.json --against odd.lua' \
    'whatif p.lua --request r.json --datasets own.json'; do
    status "$1" $verb --json
    says "\"status\":\"$2\""
  done
}
printf 'return {allow = true} -- \342\200\256' >odd.lua
every 1 publish_rejected
printf 'return {allow = true' >odd.lua
every 1 publish_rejected
cp latin.lua odd.lua
every 2 invalid_policy
awk 'BEGIN {for (i = 0; i < 5000; i++) print "-- longer"}' >odd.lua
every 2 invalid_policy
# A question that the schema refuses is malformed to whatif as to eval, and the item is named.
for list in '[{"x":1}]' '[5]' '{}' '[]'; do
  echo "$list" >list2.json
  status 2 whatif p.lua --requests list2.json
  says list2.json
  status 2 whatif p.lua --request r.json --datasets list2.json
  says list2.json
done
echo "[$(cat r.json),{\"request\":$(sed s/800000/8e5/ r.json)}]" >list2.json
status 2 whatif p.lua --requests list2.json --json
says '"status":"invalid_request"'
says 'list2.json: item 2: request.dp.epsilon_micro'
echo '[{"id":"d1","rows":1,"price":1},{"dataset":{"id":"d2","rows":1,"price":1},"ctx":{"now":-1}}]' >list2.json
status 2 whatif p.lua --request r.json --datasets list2.json
says 'item 2: ctx.now'
echo '[{"dataset":{"id":"d2","rows":1,"price":1},"polcy":"p.lua"}]' >list2.json
status 2 whatif p.lua --request r.json --datasets list2.json
says 'no member polcy'
for file in list.json bytes.json half.json p.lua parameters.json; do
  status 2 whatif p.lua --request $file --datasets own.json
  says $file
  status 2 whatif p.lua --requests requests.json --dataset $file
  says $file
  status 2 whatif p.lua --requests requests.json --ctx $file
  says $file
done
# Parameters are part of a policy wherever it is looked at: the same answers, and one identity.
echo 'return {allow = request.dp.epsilon_micro <= parameters.epsilon}' >odd.lua
rm -f odd_test.json
echo '{"epsilon":1}' >strict.json
with='odd.lua --parameters parameters.json'
status 1 eval odd.lua --request r.json
status 0 eval $with --request r.json
status 1 eval odd.lua --parameters strict.json --request r.json --json
says '"status":"denied"'
status 1 check odd.lua
status 0 check $with --json
says '"version":"'
status 0 explain $with --request r.json
status 0 test $with --cases cases.json --mutate --json
says '"line":1'
status 0 whatif $with --requests requests.json --against odd.lua --against-parameters strict.json --json
says '"gains":["t1"]'
echo '[{"dataset":{"id":"d1","rows":1,"price":1},"policy":"odd.lua","parameters":{"epsilon":5}}]' >own.json
status 0 whatif p.lua --request r.json --datasets own.json --json
says '"allowed":0'
status 0 prove $with --invariant 'allow implies request.dp.epsilon_micro <= 1000000' --evaluations 2000 --threads 1
status 1 prove $with --invariant 'allow implies request.dp.epsilon_micro < 1000000' --seconds 20
status 0 diff odd.lua p.lua --parameters parameters.json --evaluations 1000
status 1 diff odd.lua odd.lua --parameters parameters.json --parameters-b strict.json --seconds 20 --json
says '"relation":"stricter"'
for file in list.json bytes.json half.json p.lua; do
  for verb in 'check odd.lua' 'eval odd.lua --request r.json' 'prove odd.lua --invariant allow'; do
    status 2 $verb --parameters $file
    says $file
  done
done
printf 'return {allow = parameters.epsilon > 0}  \342\200\256' >odd.lua
status 1 check $with --json
says '"column":42'
# The other verbs.
status 2 check
status 2 check nowhere.lua
status 2 test p.lua
status 2 test p.lua --cases half.json
status 2 test p.lua --cases r.json
status 2 whatif p.lua
status 2 whatif p.lua --request r.json --datasets half.json
status 2 whatif p.lua --requests nowhere.json
status 2 whatif p.lua --data nowhere
status 2 replay --data nowhere
status 2 replay
status 2 prove p.lua
status 2 prove nowhere.lua --invariant allow
status 2 prove p.lua --invariant ''
status 2 prove p.lua --invariant 'allow implies nothing.at.all ==' --seconds 1
for side in 'allow implies request.payment' 1 'allow and 5' 'not price implies allow'; do
  status 2 prove p.lua --invariant "$side" --seconds 1
  says 'expected a condition'
done
status 2 prove p.lua --invariant allow --evaluations 0
says '--evaluations: expected 1 or more'
status 2 diff p.lua p.lua --evaluations 0
echo '[{"expect":"bogus"}]' >cases.json
status 2 test p.lua --cases cases.json
says 'not bogus'
echo '[{"name":"x","expect":{"status":"alowed"}}]' >cases.json
status 2 test p.lua --cases cases.json
says 'not alowed'
status 0 replay --help
! grep -qi '(required)' out || fail "expected neither of the two to be required by itself"
status 2 diff p.lua
status 2 diff p.lua nowhere.lua
status 2 new --template nothing_like_it
status 2 new
status 0 --help
echo "all as expected"
