#!/bin/bash
# witness_drills_test.sh BIN: a market under two of three witnesses, with real processes.
# Its operator restores yesterday's directory, runs two keepers from one sealed state, a
# witness comes back from a backup, processes are stopped past a timeout: each is refused.
set -eu
bin=$1
work=$(mktemp -d)
export SOUK_HOME="$work/home"
pids=""
cleanup() {
  for pid in $pids; do kill -CONT "$pid" 2>/dev/null || true; kill -9 "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

fail() { echo "FAILED: $*" >&2; for log in ./*.err; do echo "-- $log"; tail -3 "$log"; done >&2; exit 1; }
member() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" "$2"; }
number() { sed -n "s/.*\"$1\":\\([0-9]*\\).*/\\1/p" "$2"; }
# wait_for SECONDS COMMAND...
wait_for() {
  local left=$(($1 * 10)); shift
  until "$@"; do left=$((left - 1)); [ $left -gt 0 ] || return 1; sleep 0.1; done
}
get() { curl -sf --max-time 20 "$@"; }

start_witness() { # NUMBER [PORT]
  "$bin/souk-witness" serve --data "w$1" --keys "k$1" --port "${2:-0}" --json >"w$1.json" 2>"w$1.err" &
  eval "w$1=$!"; pids="$pids $!"
  wait_for 20 test -s "w$1.json" || fail "witness $1 does not serve"
}
stop() { kill "$1"; wait "$1" 2>/dev/null || true; }
start_market() { # DIRECTORY; m always on the same port
  local port=0
  [ "$1" != m ] || port=${home_port:-0}
  : >soukd.json
  "$bin/soukd" --data "$1" --port "$port" --json >soukd.json 2>soukd.err &
  market=$!; pids="$pids $!"
  wait_for 60 test -s soukd.json || fail "soukd does not serve"
  url=$(member url soukd.json)
  [ "$1" != m ] || home_port=${url##*:}
}
witnessed_size() { get "$url/v1/witnesses" >status.json && number witnessed_size status.json; }
deposit() { "$bin/souk" treasury deposit --as lab lab 5 --json >deposit.json 2>deposit.err || fail "no deposit"; }
refused() { # DIRECTORY WORDS: soukd, beside the other, ends by itself, with status 1, the words, and evidence
  local status=0
  timeout 90 "$bin/soukd" --data "$1" --port 0 --json >refused.json 2>refused.err || status=$?
  [ "$status" = 1 ] || fail "$1: expected status 1, got $status: $(cat refused.err)"
  grep -q "$2" refused.err || fail "$1: expected '$2': $(cat refused.err)"
  grep -q '^{"error":' refused.json && ! grep -q '"url"' refused.json || fail "$1: it served"
  ls "$1"/evidence/witness-*.json >/dev/null || fail "$1: no evidence"
}

"$bin/souk" treasury keygen --json >treasury.json
for i in 1 2 3; do
  "$bin/souk-witness" init --data "w$i" --keys "k$i" --name "witness.example/w$i" --json >"key$i.json"
  start_witness $i
  eval "port$i=$(member url "w$i.json" | sed 's/.*://')"
  echo "witness W$i $(member vkey "key$i.json") $(member url "w$i.json")"
done >policy
printf 'group G 2 W1 W2 W3\nquorum G\n' >>policy

echo "-- a policy whose quorums need not meet is refused"
{ grep ^witness policy; printf 'group G any W1 W2 W3\nquorum G\n'; } >loose
status=0; "$bin/soukd" --data loose.d --witness-policy loose --found 2>loose.err || status=$?
[ "$status" = 2 ] && grep -q "share a witness" loose.err || fail "a loose policy was accepted"

echo "-- the market is founded, and does not open before its witnesses know it"
"$bin/soukd" --data m --witness-policy policy --found --json >found.json
status=0; timeout 60 "$bin/soukd" --data m --json >early.json 2>early.err || status=$?
[ "$status" = 3 ] && grep -q '"code":"try_again"' early.json || fail "it served without a quorum ($status)"
for i in 1 2 3; do "$bin/souk-witness" add-log --data "w$i" "$(member ledger_key found.json)" >/dev/null; done

echo "-- with a quorum it serves, and proofs carry the cosignatures"
start_market m
[ "$(witnessed_size)" -ge 2 ] || fail "the boot entry is not witnessed"
get "$url/v1/proof?seq=1&ack=witnessed" >proof.json
[ "$(grep -o 'witness.example/w[123]' proof.json | sort -u | wc -l)" -ge 2 ] || fail "no quorum on the proof"

echo "-- a stopped witness does not hold up the others"
kill -STOP "$w1"
"$bin/souk" init --market "$url" --market-id "$(member market soukd.json)" --name lab --json >lab.json
deposit
wait_for 30 sh -c "[ \"\$(curl -s '$url/v1/witnesses' | sed -n 's/.*\"witnessed_size\":\\([0-9]*\\).*/\\1/p')\" -ge 3 ]" ||
  fail "one stopped witness of three stopped the market"

echo "-- what a log publishes is cosigned, and a client that pins the policy asks for it"
get "$url/checkpoint" | grep -q 'witness.example/w[123]' || fail "/checkpoint bears no cosignature"
{ printf 'log %s\n' "$(member ledger_key found.json)"; cat policy; } >client.policy
"$bin/souk" ledger audit --json --tiles "$url" --policy client.policy >tiles.json || fail "its tiles under the policy"
[ "$(number cosignatures tiles.json)" -ge 2 ] || fail "an audit that counts no cosignatures"
"$bin/souk" ledger export exported --url "$url" --policy client.policy --json >exported.json || fail "no export from a URL"
"$bin/souk" ledger audit --tiles exported --policy client.policy >/dev/null || fail "the export does not audit"
"$bin/souk" init --market "$url" --market-id "$(member market soukd.json)" --name careful --policy client.policy --json >careful.json ||
  fail "a policy could not be pinned"
"$bin/souk" --as careful ledger log --json >log.json 2>log.err || fail "a pinned quorum does not read"
printf 'witness X %s\nquorum X\n' "$(member vkey key1.json | sed 's/w1+/x1+/')" >strange.policy
if "$bin/souk" init --market "$url" --market-id "$(member market soukd.json)" --name strange --policy strange.policy >/dev/null 2>&1; then
  fail "a policy that nobody meets was pinned"
fi

echo "-- two stopped witnesses do: entries stay local, nothing is witnessed"
kill -STOP "$w2"
deposit
[ "$(witnessed_size)" = 3 ] || fail "witnessed without a quorum"
[ "$(number size status.json)" = 4 ] || fail "a local entry was not acknowledged"
"$bin/souk" --as careful ledger log --json >log.json 2>log.err || fail "the witnessed part is still to be read"
[ "$(number size log.json)" = 3 ] || fail "a client under a quorum read past it"
echo "-- nor does it with the market named on the line, whoever is asking"
mid=$(member market soukd.json)
[ -n "$mid" ] || fail "which market is it?"
if timeout 8 "$bin/souk" --as careful treasury deposit lab 5 --market "$url" --market-id "$mid" --json >named.json 2>named.err; then
  fail "a call that names the market forgot the pinned quorum: $(cat named.json)"
fi
mkdir -p stranger && cp -r home/treasury* stranger/
SOUK_HOME=$work/stranger timeout 20 "$bin/souk" treasury deposit "$(member account lab.json)" 5 --market "$url" --market-id "$mid" --json >named.json 2>named.err ||
  fail "who pins no witnesses is content with the local part: $(cat named.err)"
get "$url/v1/checkpoint" >seen.note
kill -CONT "$w1" "$w2"
wait_for 60 sh -c "[ \"\$(curl -s '$url/v1/witnesses' | sed -n 's/.*\"witnessed_size\":\\([0-9]*\\).*/\\1/p')\" -ge 5 ]" ||
  fail "the market did not recover when its witnesses did"

echo "-- yesterday's directory, restored"
stop "$market"
cp -r m yesterday
start_market m
get "$url/v1/checkpoint" >today.note
stop "$market"

echo "-- an audit of the disk under a pinned policy asks for the cosigned checkpoint, and one under a kept checkpoint notices"
audit() { # STATUS WORDS ARGUMENTS: of the careful client
  local expected=$1 words=$2 status=0; shift 2
  "$bin/souk" --as careful ledger audit --json "$@" >audit.json 2>audit.err || status=$?
  [ "$status" = "$expected" ] || fail "audit $*: expected status $expected, got $status: $(cat audit.json audit.err)"
  grep -q "$words" audit.json || fail "audit $*: expected '$words': $(cat audit.json)"
}
audit 0 '"cosignatures":[23]' --data m
audit 0 '"ok":true' --data m --seen seen.note
audit 0 '"ok":true' --data m --seen today.note
audit 1 'rolled back' --data yesterday --seen today.note
mkdir without && cp m/ledger.db* without/
audit 1 'pinned quorum of witnesses cosigned' --data without
cp m/witnessed.state without/
audit 0 '"ok":true' --data without
sed -i 's/example.w2+/example\/x2+/;s/\(example.w[123] [A-Za-z0-9+\/]\{20\}\)./\1-/' without/witnessed.state
audit 1 'witnessed.state' --data without
cp yesterday/ledger.db* without/ && cp m/witnessed.state without/
audit 1 'rolled back' --data without
refused yesterday "rolled back or forked"
grep -q '"kind":"larger_size"' yesterday/evidence/witness-1.json || fail "what kind of evidence?"
grep -q '"signed_by_this_log":true' yesterday/evidence/*.json || fail "the evidence does not convict"

echo "-- only the ledger restored, the sealed state kept; and the reverse"
cp -r m mixed
cp yesterday/ledger.db* mixed/
refused mixed "rolled back or forked"

echo "-- two keepers from one sealed state: the second is refused"
cp -r m clone
start_market m
refused clone "rolled back or forked"

echo "-- what one witness has said stands when that witness is gone"
kill -STOP "$market" $(pgrep -P "$market")
cp -r m behind
kill -CONT "$market" $(pgrep -P "$market")
kill -STOP "$w2" "$w3"
deposit
shown_by_w1=$(member url w1.json)/$(get "$url/v1/market" | sed -n 's/.*"origin":"\([^"]*\)".*/\1/p' | tr -d '\n' | sha256sum | cut -c1-64)/checkpoint
wait_for 30 sh -c "[ \"\$(curl -s '$shown_by_w1' | sed -n 2p)\" -gt $(witnessed_size) ]" || fail "w1 alone has not cosigned"
stop "$market"
refused behind "rolled back or forked"
kill -CONT "$w2" "$w3"
stop "$w1"
find behind -type f ! -name '*-shm' ! -name lock -exec sha256sum {} + | sort >behind.before
refused behind "behind/evidence/witness-1.json: "
find behind -type f ! -name '*-shm' ! -name lock -exec sha256sum {} + | sort | cmp -s - behind.before || fail "a folder that is not opened has changed"
mv behind/evidence other-evidence && mkdir behind/evidence && echo '{"kind":"fork"}' >behind/evidence/witness-1.json
status=0; timeout 90 "$bin/soukd" --data behind --json >/dev/null 2>refused.err || status=$?
[ "$status" = 2 ] && grep -q 'evidence/witness-1.json' refused.err || fail "evidence about nothing: $status $(cat refused.err)"
start_witness 1 "$port1"
start_market m

echo "-- host and keeper stopped while a copy goes on: back again, they are caught and the keeper ends"
paused=$market paused_url=$url
enclave=$(pgrep -P "$paused")
kill -STOP "$paused" $enclave
cp -r m ahead
start_market ahead
get "$url/v1/checkpoint" >ahead.note
stop "$market"
kill -CONT "$paused" $enclave
deposit
wait_for 30 sh -c "curl -s '$paused_url/v1/witnesses' | grep -q 'rolled back or forked'" || fail "a stale host goes on"
wait_for 30 sh -c "! pgrep -P $paused >/dev/null" || fail "its keeper goes on"
if get "$paused_url/v1/keeper?nonce=$(printf 'a%.0s' $(seq 64))"; then fail "its keeper still answers"; fi
stop "$paused"
refused m "rolled back or forked"
"$bin/souk" ledger audit --data m --seen ahead.note --json >fork.json && fail "a fork passes for what was seen"
grep -q 'forked\|rolled back' fork.json || fail "what did the audit notice? $(cat fork.json)"

echo "-- a witness that comes back from a backup does not start"
stop "$w3"
cp "w3/witness.db" backup.db
start_witness 3 "$port3"
start_market ahead
wait_for 30 sh -c "curl -s '$url/v1/checkpoint?ack=witnessed' | grep -q example/w3" || fail "w3 did not cosign"
stop "$market"
stop "$w3"
rm -f w3/witness.db-wal w3/witness.db-shm
cp backup.db w3/witness.db
status=0
timeout 20 "$bin/souk-witness" serve --data w3 --keys k3 --port "$port3" --json >w3.json 2>w3.err || status=$?
[ "$status" = 1 ] && grep -q "old copy" w3.err || fail "an old witness file was served ($status)"

echo "-- with its count restored too it starts, and the market counts it no more"
rm k3/witness.count; printf '%020d\n' 0 >k3/witness.count
start_witness 3 "$port3"
start_market ahead
wait_for 30 sh -c "curl -s '$url/v1/witnesses' | grep -q 'has forgotten'" || fail "a forgetful witness counts"
grep -lq forgetful_witness ahead/evidence/*.json || fail "no evidence against the witness"
if get "$url/v1/checkpoint?ack=witnessed" | grep -q example/w3; then fail "its cosignature is still shown"; fi
stop "$market"
echo "-- an erased dataset stays erased, whatever old state is restored"
start_market ahead
market_id=$(member market soukd.json)
# Who shares a home with one that has seen the other copy is told of the fork; others begin here.
"$bin/souk" init --market "$url" --market-id "$market_id" --name late --json >/dev/null
if "$bin/souk" --as late ledger log --json >late.json 2>late.err; then fail "what lab has seen does not hold for all of its home"; fi
grep -q 'as lab saw it: the ledger was rolled back or forked' late.err || fail "what is wrong? $(cat late.err)"
audit 1 'as lab saw it: ' --data ahead
audit 1 'as lab saw it: ' --tiles "$url" --policy client.policy --market-id "$market_id"
audit 1 'as lab saw it: ' --url "$url"
export SOUK_HOME=$work/elsewhere
"$bin/souk" init --market "$url" --market-id "$market_id" --name clinic --json >/dev/null
"$bin/souk" init --market "$url" --market-id "$market_id" --name buyer --json >buyer.json
{ echo x,y,label; for i in $(seq 60); do echo "$((i % 7)),$((i % 5)),$([ $((i % 2)) = 0 ] && echo a || echo b)"; done; } >rows.csv
echo 'return {allow = true, obligations = {min_noise_micro = 100000}}' >allow.lua
cat >small.lua <<'CONTRACT'
return {
  purpose = "research", region = "EU", datasets = { "doomed" },
  model = { linear { units = 2 } },
  train = { epochs = 1, batch = 10, optimizer = sgd {}, learning_rate = 0.1, seed = 1 },
  privacy = { epsilon = 2.0, delta = "1e-5", clip = 1.0 },
  payment = 10, deadline_minutes = 60,
}
CONTRACT
"$bin/souk" --as clinic dataset publish rows.csv --name doomed --policy allow.lua --label label \
  --budget-epsilon 3 --budget-delta 1e-5 --price 1 --json >published.json 2>published.err || fail "not published: $(cat published.err)"
blob=$(find ahead/blobs -type f -size +1k | head -1)
[ -n "$blob" ] || fail "no blob"
digest=$(sha256sum <"$blob" | cut -c1-64)
blob_is_there() { find "$1" -type f -exec sha256sum {} + | grep -q "^$digest"; }
SOUK_HOME=$work/stranger "$bin/souk" treasury deposit --market "$url" --market-id "$market_id" "$(member account buyer.json)" 100 --json >/dev/null 2>deposit.err || fail "no deposit: $(cat deposit.err)"
dry() { "$bin/souk" --as buyer job submit small.lua --dry-run --json >dry.json 2>dry.err; }
dry || fail "the dataset is not to be had before it is erased: $(cat dry.json dry.err)"
stop "$market"
# The salt of an age file: the 16 bytes behind its header. Sought in hex, as any byte may be in it.
hex() { od -An -v -tx1 | tr -d ' \n'; }
header=$(LC_ALL=C grep -abo -m1 -- '^--- ' "$blob" | head -1 | cut -d: -f1)
salt=$(tail -c +$((header + 1)) "$blob" | LC_ALL=C sed '1d' | head -c 16 | hex)
[ ${#salt} = 32 ] || fail "no salt in the ciphertext: '$salt'"
salt_is_in() { find "$1" -type f -print0 | while IFS= read -r -d '' file; do hex <"$file"; echo; done | grep -q "$salt"; }
salt_is_in ahead/blobs || fail "where is the salt of the ciphertext?"
cp -r ahead before-erasure
start_market ahead
url_now=$url
# The identities pin the address: the same market, elsewhere.
for who in clinic buyer; do sed -i "s|http://127.0.0.1:[0-9]*|$url_now|" "$SOUK_HOME/identities/$who/market.json"; done
"$bin/souk" --as clinic dataset erase "$(member dataset published.json)" --json >erased.json 2>erased.err || fail "not erased: $(cat erased.err)"
grep -q '"ciphertext_deleted":true' erased.json || fail "the market does not say that the ciphertext is gone"
if blob_is_there ahead; then fail "the ciphertext is still there"; fi
if salt_is_in ahead; then fail "the salt of the ciphertext is still there"; fi
if dry; then fail "an erased dataset is on offer"; fi
wait_for 30 sh -c "[ \"\$(curl -s '$url/v1/witnesses' | sed -n 's/.*\"witnessed_size\":\\([0-9]*\\).*/\\1/p')\" = \"\$(curl -s '$url/v1/witnesses' | sed -n 's/.*\"size\":\\([0-9]*\\),.*/\\1/p')\" ]" ||
  fail "the tombstone is not witnessed"
stop "$market"
rm -rf before-erasure/evidence
cp -r before-erasure older
refused older "rolled back or forked"                  # all of it
cp -r ahead half && cp before-erasure/ledger.db* half/ && rm -rf half/evidence
refused half "rolled back or forked"                   # the old database under the new seal
cp -r ahead resealed && cp before-erasure/keeper.sealed resealed/ && cp -r before-erasure/blobs resealed/
start_market resealed                                  # the old seal and blobs under the new database
for who in clinic buyer; do sed -i "s|http://127.0.0.1:[0-9]*|$url|" "$SOUK_HOME/identities/$who/market.json"; done
if dry; then fail "an old sealed state brought an erased dataset back"; fi
if "$bin/souk" --as buyer job submit small.lua --json >submit.json 2>submit.err; then fail "a contract over an erased dataset was allowed"; fi
wait_for 20 sh -c "! find resealed/blobs -type f -exec sha256sum {} + | grep -q '^$digest'" || fail "a restored ciphertext is kept"
stop "$market"
echo "witness drills passed"
