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
