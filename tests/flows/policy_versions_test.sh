#!/usr/bin/env bash
# Versions of a policy on a market of real processes: who may move them, what a quote is worth after they have moved,
# the three kinds of revocation, and one decision on the ledger for each attempt.
#   policy_versions_test.sh BIN
bin=$1
. "$(dirname "$0")/../support/market.sh"
market_of clinic rival lab

# expect STATUS FILE COMMAND...: what it says on stdout is in FILE
expect() {
  local wanted=$1 file=$2 status=0; shift 2
  "$@" > "$file" 2> said.err || status=$?
  [ "$status" = "$wanted" ] || fail "expected status $wanted, got $status: $*" "$file" said.err
}
# has FILE TEXT...
has() { local file=$1; shift; for text in "$@"; do grep -qF -- "$text" "$file" || fail "expected $text" "$file"; done; }
size() { souk ledger log --as lab --limit 1 --json | json size; }
standing() { # VERSION: as the ledger says it
  souk policy versions "$ds" --as lab --json | tr '{' '\n' | grep -F "\"version\":\"$1\"" | json standing
}

awk 'BEGIN {print "a,b,sick"; for (i = 0; i < 400; i++) print i % 7 "," i % 5 "," (i % 7 > 3 ? "yes" : "no")}' > table.csv
echo 'return {allow = true, price = 1, obligations = {waive_privacy = true}}' > v1.lua
echo 'return {allow = request.purpose == parameters.purpose, reason = "another purpose", price = 7, obligations = {waive_privacy = true}}' > v2.lua
echo '{"purpose":"research"}' > v2.json
echo 'return {allow = true, price = 9, obligations = {waive_privacy = true}}' > v3.lua
souk dataset publish table.csv --as clinic --label sick --policy v1.lua --name rows --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json > published.json
ds=$(json dataset < published.json)
contract() { # PURPOSE STEPS
  echo "return { purpose = '$1', datasets = { 'rows' }, payment = 10, model = { linear { units = 32 }, tanh(), linear { units = 2 } }," \
    "train = { steps = $2, batch = 100, shuffle = true, optimizer = sgd {}, learning_rate = 0.01 } }"
}
contract research 20 > research.lua
contract advertising 20 > advertising.lua
contract research 1000000 > long.lua

# The offer's own policy is the first version, and a quote names it.
expect 0 versions.json souk policy versions "$ds" --as lab --json
v1=$(json version < versions.json)
has versions.json '"standing":"active"' '"parameters":{}' "\"policy_hash\":\"$(sha256sum < v1.lua | cut -d' ' -f1)\""
expect 0 quote.json souk job submit research.lua --as lab --dry-run --json
has quote.json "\"version\":\"$v1\"" '"price":1' '"status":"allowed"'

# A further one is published by the provider alone, once, and answers nobody before it is activated.
before=$(size)
printf 'return {allow = true} -- \342\200\256' > bidi.lua
expect 2 out.json souk policy publish "$ds" bidi.lua --as clinic --json
has out.json '"status":"publish_rejected"'
has out.json 'U+202E'
[ "$(size)" = "$before" ] || fail "expected nothing to be recorded of a policy that is refused"
expect 0 out.json souk policy publish "$ds" v2.lua --parameters v2.json --as clinic --json
v2=$(json version < out.json)
has out.json '"standing":"published"' "\"dataset\":\"$ds\""
[ "$v2" != "$v1" ] || fail "expected a version of its own" out.json
expect 1 out.json souk policy publish "$ds" v2.lua --parameters v2.json --as clinic --json
has out.json already_published
expect 1 out.json souk policy publish "$ds" v3.lua --as rival --json
has out.json not_the_provider
expect 1 out.json souk policy activate "$ds" "$v2" --as rival --json
has out.json not_the_provider
expect 0 quote.json souk job submit research.lua --as lab --dry-run --json
has quote.json "\"version\":\"$v1\"" '"price":1'
[ "$(standing "$v2")" = published ] || fail "expected v2 to wait" versions.json

# Activated, it answers; the other still answers those who were quoted it.
expect 0 out.json souk policy activate "$ds" "$v2" --as clinic --json
has out.json '"move":"activate"' '"standing":"active"'
[ "$(standing "$v1")" = deprecated ] || fail "expected v1 to be deprecated"
expect 1 out.json souk policy activate "$ds" "$v2" --as clinic --json
has out.json policy_active
expect 0 pinned.json souk job submit research.lua --as lab --pin "${v1:0:12}" --wait --json
has pinned.json "\"version\":\"$v1\"" '"price":1' '"phase":"settled"'
expect 0 loose.json souk job submit research.lua --as lab --wait --json
has loose.json "\"version\":\"$v2\"" '"price":7' '"phase":"settled"'
expect 1 denied.json souk job submit advertising.lua --as lab --json
has denied.json '"phase":"refused"' '"status":"denied"' 'another purpose' "\"version\":\"$v2\""
expect 2 out.json souk job submit research.lua --as lab --pin 000000000000 --json
has out.json 'expected 6 or more'

# Deprecated without a follower: only who was quoted it is answered.
expect 0 out.json souk policy deprecate "$ds" "$v2" --as clinic --json
has out.json '"move":"deprecate"' '"standing":"deprecated"'
expect 1 out.json souk job submit research.lua --as lab --json
has out.json policy_not_active
expect 0 out.json souk job submit research.lua --as lab --pin "$v2" --json
has out.json "\"version\":\"$v2\"" '"price":7'
souk job watch "$(json job < out.json)" --as lab > /dev/null 2>&1

# until PHASE JOB
until_phase() {
  for _ in $(seq 200); do
    [ "$(souk job status "$2" --as lab --json | json phase)" != "$1" ] || return 0
    sleep 0.05
  done
  fail "expected job $2 to be $1"
}

# Revoked for new ones: what runs may end, and nobody is answered any more.
expect 2 out.json souk policy revoke "$ds" "$v2" --mode gently --as clinic --json
contract research 60000 > some.lua
expect 0 out.json souk job submit some.lua --as lab --pin "$v2" --json
job=$(json job < out.json)
until_phase running "$job"
expect 0 out.json souk policy revoke "$ds" "$v2" --mode no-new --as clinic --json
has out.json '"move":"revoke_no_new"' '"standing":"revoked"'
expect 1 out.json souk job submit research.lua --as lab --pin "$v2" --json
has out.json policy_revoked
expect 1 out.json souk policy activate "$ds" "$v2" --as clinic --json
has out.json policy_revoked
expect 0 out.json souk job watch "$job" --as lab --json
has out.json '"phase":"settled"'
souk model fetch "$job" --as lab --out kept > /dev/null || fail "expected the model of a run that was let end"

# Stopped at the next checkpoint: the money returns, the trainer signs how far it came, there is no model.
expect 0 out.json souk policy publish "$ds" v3.lua --as clinic --json
v3=$(json version < out.json)
expect 0 out.json souk policy activate "$ds" "$v3" --as clinic --json
money() { souk account balance --as lab --json | json minor; }
had=$(money)
expect 0 out.json souk job submit long.lua --as lab --json
job=$(json job < out.json)
until_phase running "$job"
[ "$(money)" = $((had - 9)) ] || fail "expected 9 in escrow of $had: $(money)"
expect 0 out.json souk policy revoke "$ds" "$v3" --mode stop --as clinic --json
has out.json '"move":"revoke_stop"'
expect 1 out.json souk job watch "$job" --as lab --json
has out.json '"phase":"refunded"' '"ended_because":"policy_revoked"'
[ "$(money)" = "$had" ] || fail "expected the money back: $(money) of $had"
souk ledger log --as lab --limit 0 --json | tr '{' '\n' > entries
grep '"kind":"job.stop"' entries | grep -q "${job:0:12}" || fail "expected the trainer to say how far it came" entries
expect 1 out.json souk model fetch "$job" --as lab --out stopped --json

# Stopped and destroyed: a model that is done is released no more.
job=$(json job < loose.json)
souk model fetch "$job" --as lab --out before > /dev/null || fail "expected the model before"
expect 0 out.json souk policy revoke "$ds" "$v2" --mode destroy --as clinic --json
has out.json '"move":"revoke_destroy"'
expect 1 out.json souk model fetch "$job" --as lab --out after --json
[ ! -e after/model.safetensors ] || fail "expected no model"
souk model fetch "$(json job < pinned.json)" --as lab --out other > /dev/null || fail "expected the model of another version"

# An offer may have parameters as well: its first version is the one that check names, and answers by them.
expect 2 out.json souk dataset publish table.csv --as clinic --label sick --policy bidi.lua --name more --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json
has out.json '"status":"publish_rejected"' 'U+202E'
expect 1 out.json souk dataset publish table.csv --as clinic --label sick --policy v2.lua --name more --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json
has out.json '"status":"publish_rejected"'
expect 0 published.json souk dataset publish table.csv --as clinic --label sick --policy v2.lua --parameters v2.json --name more --budget-epsilon 100 --budget-delta 1e-5 --price 1 --json
expect 0 out.json souk policy versions "$(json dataset < published.json)" --as lab --json
has out.json '"standing":"active"' '"parameters":{"purpose":"research"}'
version=$(json version < out.json)
expect 0 out.json souk policy check v2.lua --parameters v2.json --json
has out.json "\"version\":\"$version\""
sed "s/'rows'/'more'/" research.lua > other.lua
sed "s/'rows'/'more'/" advertising.lua > another.lua
expect 0 out.json souk job submit other.lua --as lab --dry-run --json
has out.json "\"version\":\"$version\"" '"price":7'
expect 1 out.json souk job submit another.lua --as lab --dry-run --json
has out.json 'another purpose'

# Each attempt has one decision, and every start comes after an allowing one.
souk ledger log --as lab --limit 0 --json | tr '{' '\n' | grep '"kind"' > entries
awk -F'"' '
  function value(name,  i) { for (i = 2; i < NF; ++i) if ($i == name) return $(i + 2); return "" }
  { kind = value("kind"); split(value("summary"), words, " "); contract = words[1]; effect = value("void") == "" }
  kind == "contract.submit" && effect { submitted[contract] = 1; attempts++ }
  kind == "contract.decision" && effect { decided[contract]++; allowed[contract] = words[2] == "allowed," }
  kind == "job.start" && effect { started++; if (!allowed[contract]) { print "started without: " contract; bad = 1 } }
  END {
    for (c in submitted) if (decided[c] != 1) { print c ": " decided[c] + 0 " decisions"; bad = 1 }
    if (attempts != 8 || started != 5) { print attempts " attempts, " started " starts"; bad = 1 }
    exit bad
  }' entries || fail "expected one decision for each attempt and no key without it" entries

kill "$host"; wait "$host" 2> /dev/null || true; host=
expect 0 out.json souk policy replay --data market --json
has out.json '"decisions":8' '"same":8' '"ok":true'
echo "policy_versions_test: ok"
