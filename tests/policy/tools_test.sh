#!/bin/sh
# souk policy templates, new, prove, diff and test --mutate, as a person calls them.
set -eu
souk="$SOUK_BIN/souk"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "FAILED: $1" >&2
  exit 1
}
# status WANTED COMMAND...: the exit status is the wanted one.
status() {
  wanted=$1
  shift
  got=0
  "$@" >"$work/out" 2>"$work/err" || got=$?
  [ "$got" = "$wanted" ] || fail "$* exited $got, not $wanted: $(cat "$work/out" "$work/err")"
}
says() { grep -q -- "$1" "$work/out" "$work/err" || fail "expected $1 in: $(cat "$work/out" "$work/err")"; }

status 0 "$souk" policy templates --json
says '"count":3[0-9]'
for name in $(grep -o '"name":"[a-z_]*","obligations"' "$work/out" | cut -d'"' -f4); do
  status 0 "$souk" policy new --template "$name" --out "$work/one.lua"
  status 0 "$souk" policy check "$work/one.lua"
done
status 2 "$souk" policy new --template purpos
says 'did you mean purpose'
status 2 "$souk" policy new --template max_steps --set max_steps=none
says 'max_steps.max_steps: expected a whole number'
status 0 "$souk" policy new --template purpose --template dp_floor --set allowed=teaching --set dp_floor.max_epsilon_micro=1000000 --out "$work/a.lua"
status 0 "$souk" policy new --template purpose --template dp_floor --set allowed=teaching --set dp_floor.max_epsilon_micro=900000 --out "$work/b.lua"

status 0 "$souk" policy prove "$work/a.lua" --invariant 'allow implies request.dp.epsilon_micro <= 1000000' --evaluations 3000 --json
says '"holds":true'
status 1 "$souk" policy prove "$work/a.lua" --invariant 'allow implies request.dp.epsilon_micro < 1000000' --seconds 30 --json
says '"result":"counterexample"'
says '"epsilon_micro":1000000'
status 2 "$souk" policy prove "$work/a.lua" --invariant 'allow implies'
status 1 "$souk" policy diff "$work/a.lua" "$work/b.lua" --evaluations 3000 --json
says '"relation":"stricter"'
status 0 "$souk" policy diff "$work/a.lua" "$work/a.lua" --evaluations 1500 --json
says '"relation":"equivalent"'

# Policies that allow nobody: what is said of them is said of nothing, and they say so.
echo 'return {allow = false, reason = "never"}' >"$work/never.lua"
echo 'error("always")' >"$work/error.lua"
status 0 "$souk" policy prove "$work/never.lua" --invariant 'allow implies price >= 5' --evaluations 500 --json
says '"vacuous":true'
says '"failed":0'
status 0 "$souk" policy prove "$work/error.lua" --invariant 'allow implies price >= 5' --evaluations 500
says 'vacuous: no question was found that the policy allows; it ended in an error or a limit in every one'
status 0 "$souk" policy diff "$work/never.lua" "$work/error.lua" --evaluations 500
says 'vacuous: no question was found that either of them allows'
says 'B: it ended in an error or a limit in every one'
status 0 "$souk" policy diff "$work/never.lua" "$work/never.lua" --evaluations 500 --json
says '"relation":"equivalent"'
says '"vacuous":true'
status 1 "$souk" policy diff "$work/a.lua" "$work/never.lua" --evaluations 1500 --json
says '"relation":"stricter"'
says '"vacuous":false'

cat >"$work/rule.lua" <<'LUA'
if request.epochs > 20 then return { allow = false } end
return { allow = true, price = 5 }
LUA
cat >"$work/rule_test.json" <<'JSON'
[{"name": "few", "request": {"epochs": 5}, "expect": {"allow": true}},
 {"name": "many", "request": {"epochs": 90}, "expect": {"allow": false}}]
JSON
status 0 "$souk" policy test "$work/rule.lua" --mutate --json
says '"before":">"'
says '"survivors"'
echo "all as expected"
