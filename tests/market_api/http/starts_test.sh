#!/usr/bin/env bash
# soukd, souk-witness and souk-enclave, called wrongly or on what is not theirs: the exit status of the contract, one line
# that names the file, one JSON object with --json, and everything as it was before.
#   starts_test.sh BIN
set -euo pipefail
bin=$1
work=$(mktemp -d) here=$(cd "$(dirname "$0")" && pwd)
export PATH="$bin:$PATH" SOUK_HOME="$work/home"
host='' small=''
cleanup() {
  [ "$BASHPID" = "$$" ] || return 0  # a child that is ended before it runs its program
  [ -z "$host" ] || kill "$host" 2>/dev/null || true
  [ -z "$small" ] || umount "$small" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
fail() { echo "starts_test: $1" >&2; shift; [ $# = 0 ] || cat "$@" >&2; exit 1; }
json() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }
treasury="--treasury $(souk treasury keygen --out "$work/treasury.key")"
nobody=$(printf '0%.0s' {1..64})

# refused STATUS WORDS COMMAND...: that status, one line on stderr with the words, nothing on stdout; the same with --json,
# and then one object that says it too.
refused() {
  local wanted=$1 words=$2 status=0 code; shift 2
  timeout 60 "$@" > out 2> err || status=$?
  [ "$status" = "$wanted" ] || fail "expected status $wanted, got $status: $*" out err
  [ ! -s out ] || fail "expected nothing on stdout: $*" out
  [ "$(wc -l < err)" = 1 ] || fail "expected one line: $*" err
  grep -qF -- "$words" err || fail "expected '$words': $*" err
  status=0
  timeout 60 "$@" --json > out 2> err || status=$?
  [ "$status" = "$wanted" ] || fail "expected status $wanted with --json, got $status: $*" out err
  [ "$(wc -l < out)" = 1 ] || fail "expected one object: $*" out
  case $wanted in 1) code='refused\|unauthentic' ;; 2) code=malformed ;; 3) code=try_again ;; esac
  grep -q "^{\"error\":{\"code\":\"\($code\)\",\"message\":\".*\"}}$" out || fail "expected an error object: $*" out
  grep -qF -- "$words" out || fail "expected '$words' in the object: $*" out
}
state() { (cd "$1" && find . -mindepth 1 | sort && find . -type f -exec sha256sum {} + | sort); }
# keeps FOLDER ... as refused, and FOLDER is byte for byte what it was
keeps() {
  local folder=$1; shift
  state "$folder" > before
  refused "$@"
  state "$folder" > after
  cmp -s before after || { diff before after >&2 || true; fail "expected $folder to stay as it was: $*"; }
}
# nothing NAME ... as refused, and there is no NAME
nothing() {
  local name=$1; shift
  refused "$@"
  [ ! -e "$name" ] || fail "expected nothing to be made: $*"
}
copy() { rm -rf c; cp -a m c; }

echo "-- help and version are answers"
for program in soukd souk-witness souk-enclave souk; do
  "$program" --version | grep -q "^$program [0-9]" || fail "$program --version"
  "$program" --help | grep -q "$program" || fail "$program --help"
done
for program in soukd souk-witness souk-enclave souk; do
  "$program" --help --json | grep -q '^{"help":".*"}$' || fail "$program --help --json"
  "$program" --version --json | grep -q '^{"version":"[0-9.]*"}$' || fail "$program --version --json"
done

# An answer that nobody could read is none.
for program in soukd souk-witness souk-enclave souk; do
  for words in --version --help "--version --json" "--help --json"; do
    status=0; $program $words > /dev/full 2> err || status=$?
    [ "$status" = 3 ] && grep -q 'standard output' err || fail "$program $words on a full device: $status" err
  done
done
status=0; souk privacy explain --epsilon 1 --json > /dev/full 2> err || status=$?
[ "$status" = 3 ] || fail "an answer on a full device: $status" err

for program in soukd souk-witness souk; do
  status=0; $program --version >&- 2> err || status=$?
  [ "$status" = 3 ] && grep -q 'standard output' err || fail "$program --version without a standard output: $status" err
done

echo "-- nobody is served who could not be told where"
souk-witness init --data told --name witness.example/told > /dev/null
for closed in '>&-' '> /dev/full'; do
  status=0; eval "timeout 60 soukd --data untold $treasury $closed" 2> err || status=$?
  [ "$status" = 3 ] && [ "$(wc -l < err)" = 1 ] && grep -q 'standard output' err || fail "soukd $closed: $status" err
  status=0; eval "timeout 60 souk-witness serve --data told $closed" 2> err || status=$?
  [ "$status" = 3 ] && grep -q 'standard output' err || fail "souk-witness serve $closed: $status" err
done
mkfifo line
soukd --data untold > line 2> err &
host=$!
exec 7< line
read -r _ url <&7; read -r _ id <&7
exec 7<&-  # nobody reads from here on
souk init --market "$url" --market-id "$id" --name reader --home told/home > /dev/null &&
  kill -0 "$host" || fail "expected a market whose reader went away to go on" err
kill "$host"; wait "$host" || true; host=''

echo "-- a call that is refused founds nothing"
head -c 300 /dev/urandom > junk
nothing n 2 '--port' soukd --data n --port 65536
nothing n 2 '--host' soukd --data n --host 0.0.0.0
nothing n 2 '--frobnicate' soukd --data n --frobnicate
nothing n 2 '--currency' soukd --data n --currency euro
nothing n 2 'junk' soukd --data n --witness-policy junk
nothing n 2 'absent' soukd --data n --witness-policy absent
nothing n 2 '--witness-policy' soukd --data n --witness-policy ''
nothing n 2 '--treasury' soukd --data n --treasury ''
nothing n 2 "$work" soukd --data n --witness-policy "$work"
nothing n 2 '--treasury' soukd --data n --treasury "$nobody"
nothing n 2 '--data' soukd --data ''
printf 'witness W1 witness.example/w1+01120780+BMUi6wHS/kVwKqP0+TbNy7B3QiyFyXP/85H7TkZeY466\nquorum W1\n' > mute
nothing n 2 'addresses' soukd --data n --witness-policy mute
nothing n 2 'n/deep' soukd --data n/deep
refused 2 '--data' soukd --data ''
refused 2 'junk' soukd --data junk
refused 2 'junk' soukd --data junk/under
# A folder of other things is nobody's market, with or without a folder of ours beside them.
mkdir f; cp junk f/thesis.txt
keeps f 2 'f/thesis.txt' soukd --data f
keeps f 2 'f/thesis.txt' soukd --data f --found
mkdir logged
soukd --data logged --found $treasury > logged/soukd.log || fail "expected an empty log in the folder to do no harm"
mkdir f/blobs
keeps f 2 'f/' soukd --data f
[ ! -e home ] || fail "expected no treasury key after calls that are refused"

echo "-- a port in use is found out before there is a market"
souk-witness init --data w --name witness.example/w > vkey
souk-witness serve --data w --json > w.json 2> w.err &
host=$!
for _ in $(seq 200); do [ -s w.json ] && break; sleep 0.05; done
port=$(sed -n 's/.*127\.0\.0\.1:\([0-9]*\).*/\1/p' w.json)
nothing n 3 "$port" soukd --data n --port "$port"
mkdir e
keeps e 3 "$port" soukd --data e --port "$port"
souk-witness init --data w2 --name witness.example/w2 > vkey2
refused 3 "$port" souk-witness serve --data w2 --port "$port"
kill "$host"; wait "$host" || true; host=''

echo "-- what lies in the folder of a market and is none of its files"
soukd --data m --found > found
souk treasury keygen > key

echo "-- what a market was founded with is confirmed, never changed"
for found in '' --found; do
  keeps m 2 '--treasury' soukd --data m $found $treasury
  keeps m 2 '--currency' soukd --data m $found --currency USD
  printf '%s http://127.0.0.1:1\nquorum W1\n' "witness W1 $(sed 's/vkey //' vkey)" > policy
  keeps m 2 '--witness-policy' soukd --data m $found --witness-policy policy
  printf 'quorum none\n' > nobody
done
soukd --data m --found --treasury "$(cat key)" --currency EUR --witness-policy nobody > again
cmp -s found again || fail "expected the same market to be found" found again
soukd --data v --found --witness-policy policy --currency USD > /dev/null
keeps v 2 '--currency' soukd --data v --found --currency EUR
{ cat policy; sed 's/vkey //; s/^/witness W2 /; s/$/ http:\/\/127.0.0.1:2/' vkey2; } | sed 's/^quorum .*//' > two
for quorum in W2 none; do
  { cat two; echo "quorum $quorum"; } > other
  keeps v 2 '--witness-policy' soukd --data v --found --witness-policy other
done
{ sed 's/:1$/:9/; s/W1/A1/' policy; } > moved
soukd --data v --found --witness-policy moved > /dev/null || fail "expected new addresses of the same witnesses to be taken"

echo "-- keys that nobody can sign for"
weak=$(printf '\001' | cat - <(head -c 32 /dev/zero) | base64)
weak="weak+$( (printf 'weak\n\001'; head -c 32 /dev/zero) | sha256sum | head -c 8)+$weak"
refused 2 'sign for' souk-witness add-log --data w "$weak"
refused 2 'sign for' souk note verify junk --key "$weak"
refused 2 'sign for' souk ledger audit --tiles . --key "$weak"
refused 2 'sign for' souk credential issue --to "$nobody" --type x --expires-days 1 --out made --market-id "$nobody"
refused 2 'sign for' souk treasury deposit "$nobody" 5 --key "$work/treasury.key"
[ ! -e made ] || fail "expected no credential for nobody"

echo "-- files where others are expected"
refused 2 '--threads' souk bench train --model mlp --threads 0
for what in junk empty; do
  copy
  if [ $what = junk ]; then cp junk c/ledger.db; else : > c/ledger.db; fi
  keeps c 2 c/ledger.db soukd --data c
  keeps c 2 c/ledger.db soukd --data c --found
done
size=$(stat -c %s m/ledger.db)
for part in $((size / 2)) $((size - 1)) 40 100; do
  copy; truncate -s $part c/ledger.db
  keeps c 2 c/ledger.db soukd --data c
done
copy; rm c/ledger.db; mkdir c/ledger.db; keeps c 2 c/ledger.db soukd --data c
for name in platform ledger; do
  copy; head -c 30 m/$name.key > c/$name.key; keeps c 2 c/$name.key soukd --data c
  copy; head -c 33 junk > c/$name.key; keeps c 2 c/$name.key soukd --data c
  copy; head -c 32 junk > c/$name.key; keeps c 2 c/$name.key soukd --data c
  copy; : > c/$name.key; keeps c 2 c/$name.key soukd --data c
  copy; rm c/$name.key; keeps c 2 c/$name.key soukd --data c
  copy; rm c/$name.key; mkdir c/$name.key; keeps c 2 c/$name.key soukd --data c
done
copy; : > c/blobs; refused 2 c/blobs soukd --data c
copy; mkdir c/keeper.sealed; head -c 9 junk > c/keeper.sealed/x; refused 2 c/keeper.sealed soukd --data c
copy; head -c 20 junk > c/keeper.sealed; refused 2 c/keeper.sealed soukd --data c
# Another market's files are named, each by its own name.
mkdir x; soukd --data x --found $treasury > x.found
serve_once() { # FOLDER: until it has a keeper's state
  soukd --data "$1" --json > x.json 2> err & host=$!
  for _ in $(seq 600); do [ -s x.json ] && break; sleep 0.05; done
  kill "$host"; wait "$host" || true; host=''
}
serve_once x
copy; cp x/keeper.sealed c/keeper.sealed; keeps_sealed() { cmp -s x/keeper.sealed c/keeper.sealed || fail "another's state was written over"; }
refused 2 c/keeper.sealed soukd --data c; keeps_sealed
copy; cp x/ledger.db c/ledger.db; rm -f c/ledger.db-* c/ledger.db.index*; refused 2 c/ledger.db soukd --data c
copy; cp x/ledger.key c/ledger.key; keeps c 2 c/ledger.key soukd --data c
# Nor is another program taken for the one that genesis names.
mkdir programs; cp -L "$bin/soukd" "$bin/souk-enclave" programs/
measured=$(sha256sum < programs/souk-enclave | cut -c1-64)
copy; programs/soukd --data c --json > x.json 2> err & host=$!
for _ in $(seq 600); do [ -s x.json ] && break; sleep 0.05; done
kill "$host"; wait "$host" || true; host=''
grep -q '"url"' x.json || fail "expected a copied program of the same bytes to serve" err
printf x >> programs/souk-enclave
copy; refused 2 programs/souk-enclave programs/soukd --data c
grep -q "$measured" err || fail "expected the measurement that genesis names" err
for other in /bin/true /bin/cat; do
  cp -L "$other" programs/souk-enclave
  copy; refused 2 programs/souk-enclave programs/soukd --data c
done
copy; chmod -x programs/souk-enclave; refused 2 programs/souk-enclave programs/soukd --data c
copy; rm programs/souk-enclave; refused 2 programs/souk-enclave programs/soukd --data c
mkdir o; cp junk o/ledger.db
keeps o 2 o/ledger.db soukd --data o

echo "-- a ledger with datasets is not served without the keeper's state"
: > m.out  # not what the last one said
soukd --data m > m.out 2> m.err &
host=$!
for _ in $(seq 300); do grep -qs ^treasury m.out && break; sleep 0.1; done
url=$(awk '/^url/ {print $2}' m.out) id=$(awk '/^market/ {print $2}' m.out)
refused 3 'no other soukd' soukd --data m
souk init --market "$url" --market-id "$id" --name clinic > /dev/null
awk 'BEGIN {print "a,b,sick"; for (i = 0; i < 60; i++) print i % 7 "," i % 5 "," (i % 7 > 3 ? "yes" : "no")}' > table.csv
echo 'return {allow = true, price = 1}' > open.lua
publish="souk dataset publish table.csv --label sick --policy open.lua --budget-epsilon 3 --budget-delta 1e-5 --price 1"
$publish --name rows > /dev/null
# Nobody repeats what is recorded because its answer was lost.
lost() { # WORDS COMMAND...: status 3, one line that says what stands on the ledger
  local words=$1; shift
  for closed in '>&-' '> /dev/full'; do
    status=0; eval "$* $closed" 2> err || status=$?
    grep -v warning err > said
    [ "$status" = 3 ] && [ "$(wc -l < said)" = 1 ] && grep -q "do not repeat.*$words.* in entry [0-9]" said || fail "$* $closed: $status" err
  done
}
lost 'dataset [0-9a-f]\{64\}' $publish --name lost
lost deposited souk treasury deposit clinic 7
[ "$(souk account balance clinic --json | json minor)" = 14 ] || fail "expected what is said to be recorded on the ledger"
lost 'job [0-9a-f]\{64\}' souk job submit "$here/../cli/two_classes.lua"
kill "$host"; wait "$host" || true; host=''
mv m/keeper.sealed sealed
keeps m 2 m/keeper.sealed soukd --data m
: > m/keeper.sealed
keeps m 2 m/keeper.sealed soukd --data m
mv sealed m/keeper.sealed
: > m.out  # not what the last one said
soukd --data m > m.out 2> m.err &
host=$!
for _ in $(seq 300); do grep -qs ^treasury m.out && break; sleep 0.1; done
grep -q ^treasury m.out || fail "expected the market to open with its keeper's state" m.err
kill "$host"; wait "$host" || true; host=''

echo "-- a market is found again where it was"
id_of_m=$id
serve() { # ARGUMENT...: url and id of the market in p, served until stopped
  : > p.out
  soukd --data p $treasury "$@" > p.out 2> p.err &
  host=$!
  for _ in $(seq 300); do grep -qs ^treasury p.out && break; sleep 0.1; done
  url=$(awk '/^url/ {print $2}' p.out) id=$(awk '/^market/ {print $2}' p.out)
  [ -n "$url" ] || fail "expected a market at soukd --data p $*" p.err
}
stopped() { kill "$host"; wait "$host" || true; host=''; }
serve; first=$url
[ "$(cat p/port)" = "${first##*:}" ] || fail "expected the port in the folder" p/port
souk init --market "$url" --market-id "$id" --name anna --json > anna.json
grep -q '"moved_from":null' anna.json && grep -q "\"url\":\"$url\"" anna.json || fail "expected no move of a new identity" anna.json
souk ledger log --as anna > /dev/null
souk whoami --as anna --json > whoami.json
kill -9 "$host"; wait "$host" || true; host=''
serve
[ "$url" = "$first" ] || fail "expected the market where it was, $first, not $url"
souk ledger log --as anna > /dev/null || fail "expected the pinned identity to reach the market again"
stopped
# Somebody else has that port now.
souk-witness init --data taker --name witness.example/taker > /dev/null
souk-witness serve --data taker --port "${first##*:}" > taker.out 2> taker.err &
host=$!
for _ in $(seq 200); do [ -s taker.out ] && break; sleep 0.05; done
keeps p 3 "expected port ${first##*:} of 127.0.0.1 to be free to listen on, where this market was served last; --port chooses another" soukd --data p
taker=$host host=''
serve --port 0; second=$url
[ "$second" != "$first" ] || fail "expected another port"
souk ledger log --as anna > /dev/null 2> err && fail "expected nobody at the old URL"
find home/identities/anna -type f ! -name market.json -exec sha256sum {} + | sort > had
souk init --market "$second" --market-id "$id" --name anna > moved.out || fail "expected anna to move" moved.out
grep -q "^moved .*$first to $second" moved.out || fail "expected the move to be told" moved.out
find home/identities/anna -type f ! -name market.json -exec sha256sum {} + | sort | cmp -s had - || fail "expected nothing of anna to be lost"
souk ledger log --as anna > /dev/null || fail "expected anna to reach the market"
[ "$(souk whoami --as anna --json | sed "s|$second|$first|")" = "$(cat whoami.json)" ] || fail "expected only the URL to change" whoami.json
# Moved there already, or of another market: the name is taken.
status=0; souk init --market "$second" --market-id "$id" --name anna --json > err 2> /dev/null || status=$?
[ "$status" = 1 ] && grep -q 'exists already' err || fail "expected anna to be there: $status" err
stopped; kill "$taker"; wait "$taker" || true
soukd --data elsewhere $treasury > other.out 2> other.err & host=$!
for _ in $(seq 300); do grep -qs ^treasury other.out && break; sleep 0.1; done
other=$(awk '/^url/ {print $2}' other.out) other_id=$(awk '/^market/ {print $2}' other.out)
for pinned in "$other_id" "$id"; do
  souk whoami --as anna --json > before.json
  status=0; souk init --market "$other" --market-id "$pinned" --name anna --json > err 2> /dev/null || status=$?
  [ "$status" = 1 ] || fail "expected anna to stay with her market: $status" err
  souk whoami --as anna --json | cmp -s before.json - || fail "expected anna as she was"
done
stopped
serve; [ "$url" = "$second" ] || fail "expected the port that was chosen last"
stopped
for bad in '' 0 65536 port; do
  printf '%s\n' "$bad" > p/port
  keeps p 2 'p/port' soukd --data p
done
id=$id_of_m

echo "-- witnesses"
nothing n 2 '--name' souk-witness init --data n --name ''
nothing n 2 '--name' souk-witness init --data n
refused 2 junk souk-witness init --data junk --name witness.example/w
keeps w 1 'without a witness' souk-witness init --data w --name witness.example/w
nothing k 2 junk souk-witness init --data junk/k --keys k --name witness.example/w
for verb in serve logs; do nothing nowhere 2 nowhere souk-witness $verb --data nowhere; done
nothing nowhere 2 nowhere souk-witness add-log --data nowhere "$(sed 's/ledger-key //' found)"
keeps w 2 VKEY souk-witness add-log --data w junk
keeps w 2 '--host' souk-witness serve --data w --host 0.0.0.0
keeps w 2 '--port' souk-witness serve --data w --port 70000
for name in witness.db witness.key witness.count; do
  for what in junk empty cut absent folder; do
    rm -rf c; cp -a w c
    case $what in
      junk) cp junk c/$name ;;
      empty) : > c/$name ;;
      cut) truncate -s -1 c/$name ;;
      absent) rm c/$name ;;
      folder) rm c/$name; mkdir c/$name ;;
    esac
    keeps c 2 c/$name souk-witness serve --data c
  done
done
souk-witness add-log --data w "$(sed 's/ledger-key //' found)" --json | grep -q '"origin"' || fail "add-log"
souk-witness logs --data w --json | grep -q '"size":0[,}]' || fail "expected a size that is a number"

echo "-- the enclave is soukd's to start"
for role in keeper trainer; do
  status=0; souk-enclave $role > out 2> err < /dev/null || status=$?
  [ "$status" = 2 ] && [ "$(wc -l < err)" = 1 ] && grep -q 'started by soukd' err || fail "souk-enclave $role: $status" err
  status=0; souk-enclave $role > out 2> err 3< /dev/null 4< junk || status=$?
  [ "$status" = 2 ] && [ "$(wc -l < err)" = 1 ] || fail "souk-enclave $role with a file for its channel: $status" err
done
for words in '' keeper 'keeper trainer' 'trainer --frobnicate' '--version --version'; do
  status=0; souk-enclave $words --json > out 2> err < /dev/null || status=$?
  [ "$status" = 2 ] && grep -q '^{"error":{"code":"malformed","message":".*"}}$' out || fail "souk-enclave $words --json: $status" out err
done

echo "-- a log that cannot be reached is not a bad one"
refused 3 '127.0.0.1' souk ledger audit --tiles http://127.0.0.1:1 --key "$(sed 's/ledger-key //' found)"

echo "-- what stands where --out points to and is no file is never replaced"
mkdir nodes real; mkfifo nodes/pipe; ln -s ../real/policy.lua nodes/link; mkdir nodes/folder
new="souk policy new --template purpose"
timeout 60 cat nodes/pipe > read & reader=$!
$new --out nodes/pipe > /dev/null; wait "$reader"
$new > expected.lua
cmp -s read expected.lua && [ -p nodes/pipe ] || fail "expected the policy in the pipe, and the pipe to stay" read
for _ in 1 2; do
  $new --out nodes/link > /dev/null
  cmp -s real/policy.lua expected.lua && [ -L nodes/link ] || fail "expected the policy where the link leads, and the link to stay"
done
$new --out /dev/stdout > read
head -n "$(wc -l < expected.lua)" read | cmp -s - expected.lua || fail "expected the policy on standard output" read
refused 2 'nodes/folder' $new --out nodes/folder
rm real/policy.lua; mkdir real/policy.lua
refused 2 'nodes/link' $new --out nodes/link
ln -sfn ../junk nodes/folder/model.safetensors
refused 2 'model.safetensors' souk train-local "$here/../cli/two_classes.lua" --data table.csv --label sick --out nodes/folder
[ "$(ls nodes/folder)" = model.safetensors ] && [ -L nodes/folder/model.safetensors ] || fail "expected the link and nothing else"
if mknod nodes/full c 1 7 2> mknod.err && { : > nodes/full; } 2> /dev/null; then
  refused 3 'nodes/full' $new --out nodes/full
  refused 3 'nodes/full' souk credential issue --to "$(souk treasury keygen --out other.key)" --type x --expires-days 1 --out nodes/full --key other.key --market-id "$id"
  refused 2 'nodes/full' souk treasury keygen --out nodes/full
  mknod nodes/null c 1 3
  $new --out nodes/null > /dev/null
  [ -c nodes/full ] && [ -c nodes/null ] || fail "expected the devices to stay"
else
  echo "skipped: this user may not make or open a device of its own ($(cat mknod.err))"
fi
[ "$(ls -A nodes | sort | tr '\n' ' ' | sed 's/full //; s/null //')" = "folder link pipe " ] || fail "expected nothing beside them"

echo "-- a full disk"
mkdir small
if mount -t tmpfs -o size=1m souk-test small 2> mount.err; then
  small=$work/small
  head -c 2000000 /dev/zero > small/filler 2> /dev/null || true
  state small > full
  refused 3 'disk' soukd --data small/m $treasury
  refused 3 'disk' souk-witness init --data small/w --name witness.example/w
  refused 3 'small' souk treasury keygen --out small/t.key
  refused 3 'small' souk policy new --template purpose --out small/p.lua
  refused 3 'small' souk ledger export small/tiles --data m
  refused 3 'small' souk train-local "$here/../cli/two_classes.lua" --data table.csv --label sick --out small/model
  : > m.out  # not what the last one said
  soukd --data m > m.out 2> m.err &
  host=$!
  for _ in $(seq 300); do grep -qs ^treasury m.out && break; sleep 0.1; done
  url=$(awk '/^url/ {print $2}' m.out)
  refused 3 'small' souk init --market "$url" --market-id "$id" --name third --home small/home
  mkdir small/own
  refused 3 'small' souk init --market "$url" --market-id "$id" --name third --home small/own
  rmdir small/own || fail "expected nothing in the home of an identity that could not be made"
  kill "$host"; wait "$host" || true; host=''
  state small > now
  cmp -s full now || { diff full now >&2 || true; fail "expected nothing to be left on the full disk"; }
  umount small; small=''
else
  echo "skipped: this user may not mount a small file system ($(cat mount.err))"
fi
