#!/usr/bin/env bash
# Every file that a verb of souk takes, in turn missing, a folder, empty, of junk, and cut short: exit status 2 and one
# line that names the file once; nothing else is said, and nothing is made.
#   bad_files_test.sh BIN SOURCE
set -euo pipefail
bin=$1 source=$2
work=$(mktemp -d) here=$(cd "$(dirname "$0")" && pwd)
export PATH="$bin:$PATH" SOUK_HOME="$work/home"
host=''
trap '[ -z "$host" ] || kill "$host" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
fail() { echo "bad_files_test: $1" >&2; shift; [ $# = 0 ] || cat "$@" >&2; exit 1; }
json() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; }

# said_once COMMAND NAME WHY: err is one line, has NAME once, no empty place ("x: :") and words after it
said_once() {
  [ "$(wc -l < err)" = 1 ] || fail "expected one line: $1 ($3)" err
  [ "$(grep -oF -- "$2" err | wc -l)" = 1 ] || fail "expected $2 once: $1 ($3)" err
  if grep -q ': :\|: *$' err; then fail "expected no empty place: $1 ($3)" err; fi
}
called() { status=0; eval "timeout 60 souk $1" > out 2> err < /dev/null || status=$?; }

tried=0
# each VALID COMMAND [KINDS]: COMMAND has @ where the file stands; VALID is one that is right there
each() {
  local valid=$1 command=$2 kinds=${3:-missing folder empty junk cut} base extension='' kind file
  base=$(basename "$valid")
  case $base in *.*) extension=.${base##*.} ;; esac
  for kind in $kinds; do
    file=$kind-in$extension
    rm -rf "$file"
    case $kind in
      folder) mkdir "$file" ;;
      empty) : > "$file" ;;
      junk) cp junk "$file" ;;
      cut) # a table in the midst of a row: elsewhere it is a table still
        [ "$extension" != .csv ] || { head -n 20 "$valid"; printf 5; } > "$file"
        [ "$extension" = .csv ] || head -c $(($(stat -c %s "$valid") * 2 / 3)) "$valid" > "$file" ;;
    esac
    called "${command//@/$file}"
    [ "$status" = 2 ] || fail "expected status 2, got $status: $command ($kind)" out err
    said_once "$command" "$file" "$kind"
    [ ! -e made ] || fail "expected nothing to be made: $command ($kind)" err
    tried=$((tried + 1))
  done
}
# wrong COMMAND WORDS NAME: status 2, one line with both
wrong() {
  called "$1"
  [ "$status" = 2 ] || fail "expected status 2, got $status: $1" out err
  said_once "$1" "$3" ""
  grep -qF -- "$2" err || fail "expected '$2': $1" err
  tried=$((tried + 1))
}

# 600 bytes that are the same each time, none of them a format.
awk 'BEGIN {for (i = 0; i < 600; i++) printf "%c", (i * i * 7 + i * 31) % 89 + 161}' | LC_ALL=C tr '\241-\376' '\200-\376' > junk
awk 'BEGIN {print "a,b,sick"; for (i = 0; i < 60; i++) print i % 7 "," i % 5 "," (i % 7 > 3 ? "yes" : "no")}' > rows.csv
{ printf '\0\0\10\3\0\0\0\4\0\0\0\2\0\0\0\2'; printf 'abcdefghijklmnop'; } > images.idx
printf '\0\0\10\1\0\0\0\4\0\1\0\1' > labels.idx
npy() { # SHAPE BYTES
  local header="{'descr': '|u1', 'fortran_order': False, 'shape': ($1), }"
  while [ $(((${#header} + 11) % 16)) != 0 ]; do header="$header "; done
  printf '\223NUMPY\1\0'; printf "\\$(printf %o $((${#header} + 1)))\\0"; printf '%s\n' "$header"; printf "$2"
}
npy '4, 3' 'ab\0cd\1ef\0gh\1' > rows.npy
npy '4, 2' 'abcdefgh' > plain.npy
npy '4,' '\0\1\0\1' > labels.npy
npy '0, 3' '' > none.npy
echo 'return {allow = true, price = 1, obligations = {waive_privacy = true}}' > open.lua
cp "$here/two_classes.lua" two.lua
printf '{"columns":[{"name":"a","kind":"number"},{"name":"b","kind":"number"},{"name":"sick","kind":"label"}]}' > layout.json
printf '{"id":"t1","consumer":"acme","purpose":"research","region":"EU","algorithm":"mlp","epochs":2,"payment":5,"dp":{"enabled":true,"epsilon_micro":5,"delta_pico":5},"credentials":[]}' > request.json
printf '[%s]' "$(cat request.json)" > list.json
printf '{"cases":[{"name":"x","expect":{"status":"denied"}}]}' > cases.json
printf '{"leaf_hash":"00","index":0,"size":1,"root":"00","proof":[]}' > claim.json

echo "-- on this machine"
souk train-local two.lua --data rows.csv --label sick --out model > /dev/null
arguments="--data rows.csv --label sick"
each two.lua "train-local @ $arguments --out made"
for text in 'while true do end' 'return {' 'return 5' '-- \342\200\256'; do
  printf -- "$text" > odd.lua
  wrong "train-local odd.lua $arguments --out made" odd.lua odd.lua
done
each model/spec.json "train-local @ $arguments --out made"
each "$source/examples/architectures/plinius_mnist.cfg" "train-local @ $arguments --out made"
each rows.csv "train-local two.lua --data @ --label sick --out made"
each rows.csv "train-local two.lua $arguments --test @ --out made"
each rows.npy "train-local two.lua --data @ --label 2 --out made"
each images.idx "train-local two.lua --data @ labels.idx --out made"
each labels.idx "train-local two.lua --data images.idx @ --out made"
{ printf '\0\0\0\0'; cat junk; } > zeros.bin # no IDX file, though it begins as one
for records in junk zeros.bin; do
  cp "$records" records.bin
  wrong "train-local two.lua --data records.bin" 'expected whole CIFAR-10 records of 3073 bytes each' records.bin
done
each labels.npy "train-local two.lua --data plain.npy @ --out made"
each layout.json "train-local two.lua $arguments --csv @ --out made"
each model/model.safetensors "train-local two.lua $arguments --init @ --out made"
wrong "train-local two.lua --data none.npy --label 2" expected none.npy
each two.lua "privacy audit @ $arguments --shadows 0"
each rows.csv "privacy audit two.lua --data @ --label sick --shadows 0"
each model/model.safetensors "model predict @ --data rows.csv"
each model/model.onnx "model predict @ --data rows.csv"
each rows.csv "model predict model --data @"
each layout.json "model predict model --data rows.csv --csv @"
each rows.csv "model evaluate model --data @"
each layout.json "model evaluate model --data rows.csv --csv @"
each labels.idx "model evaluate model --data images.idx --labels @" "missing folder"
for format in onnx cfg json; do
  case $format in onnx) valid=model/model.onnx ;; cfg) valid=$source/examples/architectures/plinius_mnist.cfg ;; json) valid=model/spec.json ;; esac
  each $valid "model import @ --out made"
done
each model/model.onnx "model import @ --weights made"
mkdir broken; cp model/model.safetensors broken; echo '{' > broken/spec.json
wrong "model predict broken --data rows.csv" JSON broken/spec.json
cp junk broken/model.safetensors; cp model/spec.json broken
wrong "model predict broken --data rows.csv" expected broken

each open.lua "policy eval @ --request request.json" "missing folder junk"
each request.json "policy eval open.lua --request @"
each request.json "policy eval open.lua --request request.json --dataset @"
each request.json "policy eval open.lua --request request.json --ctx @"
each open.lua "policy explain @ --request request.json" "missing folder junk"
each request.json "policy explain open.lua --request @"
each open.lua "policy test @ --cases cases.json" "missing folder junk"
each cases.json "policy test open.lua --cases @"
each open.lua "policy check @" "missing folder junk"
each list.json "policy whatif open.lua --requests @"
printf '[{"id":"d1","rows":10,"price":1}]' > datasets.json
each datasets.json "policy whatif open.lua --request request.json --datasets @"
each request.json "policy whatif open.lua --request @ --datasets datasets.json"
each open.lua "policy whatif open.lua --requests list.json --against @" "missing folder junk"
each open.lua "policy prove @ --invariant 'allow implies request.dp.epsilon_micro <= 1' --evaluations 10" "missing folder junk"
each open.lua "policy diff @ open.lua --evaluations 10" "missing folder junk"
each open.lua "policy diff open.lua @ --evaluations 10" "missing folder junk"
each claim.json "proof inclusion @"
each claim.json "proof consistency @"
each claim.json "ledger verify-signature @"
each rows.csv "ledger tiles build --leaves @ --out made" "missing folder"

echo "-- a stray text in a column of numbers is refused, a column of texts is a category and listed"
sed '5s/^[0-9]*/0x10/' rows.csv > stray.csv
wrong "train-local two.lua --data stray.csv --label sick" 'line 5, column 1 (a): expected a finite number' stray.csv
sed '2,$s/^[0-9]*/v&/' rows.csv > stray.csv
souk train-local two.lua --data stray.csv --label sick --json | grep -q '"categorical_columns":\["a"\]' || fail "expected the column a"
souk train-local two.lua --data rows.csv --label sick --json | grep -q '"categorical_columns":\[\]' || fail "expected no column"

echo "-- the file that is wrong is the one that is named"
echo '{' > broken.json
for part in dataset ctx; do
  wrong "policy eval open.lua --request request.json --$part broken.json" JSON broken.json
  if grep -q request.json err; then fail "expected no word of a file that is right" err; fi
done
printf '{"id":"t1","consumer":"acme","purpose":"research","region":"EU","algorithm":"mlp","epochs":2,"payment":5,"dp":{"enabled":true,"epsilon_micro":5,"delta_pico":5},"credentials":[]}' > whole.json
echo '{"id":"d1","rows":"many"}' > many.json
called "policy eval open.lua --request whole.json --dataset many.json"
[ "$status" = 2 ] && grep -q '^souk: many.json: dataset' err || fail "expected the dataset to be named" err
wrong "policy prove open.lua --invariant 'price and'" --invariant --invariant
wrong "policy new --template purpose --set colour=1" purpose. --set

echo "-- columns, folds and words of a call that are none"
for verb in predict evaluate; do
  wrong "model $verb model --data rows.csv --label nosuch" '--label: expected a column' rows.csv
  wrong "model $verb model --data rows.csv --label a" 'no feature' rows.csv
done
sed '1s/sick/state/' rows.csv > state.csv
called "model predict model --data state.csv --label state --json"
[ "$status" = 0 ] && grep -q '"accuracy":' out || fail "expected the accuracy by the column that --label names" out err
wrong "model predict model --data state.csv --label sick" '"sick"' state.csv
wrong "model predict model --data images.idx --label sick" --label images.idx
wrong "train-local two.lua $arguments --folds 61 --out made" 'expected 2 to 60' rows.csv
sed 's/batch = [0-9]*/batch = 0/' two.lua > none.lua
wrong "train-local none.lua $arguments --folds 2 --out made" batch none.lua
wrong "train-local two.lua $arguments --norm foo" 'expected one of batch, group' --norm
wrong "train-local two.lua $arguments --seed 1 --seed 2" 'expected once' --seed
wrong "train-local two.lua $arguments --label sick --csv layout.json --csv layout.json" 'expected once' --label
wrong "version one more" 'expected no argument' more

echo "-- delta as it was written"
sed 's/train = {/privacy = { epsilon = 8, delta = "1e-5" }, train = {/; s/shuffle = true/shuffle = false/' two.lua > guessed.lua
sed 's/payment =/csv = { columns = { "a", "b", { name = "sick", role = "label", values = { "no", "yes" } } } }, payment =/' guessed.lua > private.lua
wrong "train-local guessed.lua $arguments --out made" 'not one guessed from the rows' guessed.lua
wrong "privacy audit guessed.lua $arguments --shadows 0" 'not one guessed from the rows' guessed.lua
[ ! -e made ] || fail "expected no model of a guessed layout"
souk train-local private.lua $arguments --out private --json | grep -q '"delta":1e-05,' || fail "expected delta 1e-05"
grep -q 'epsilon [0-9.]* at delta 1e-05 ' private/MODEL_CARD.md || fail "expected delta 1e-05 in the card" private/MODEL_CARD.md
souk privacy audit private.lua $arguments --shadows 0 --json > audit.json || true
grep -q '"delta":1e-05,' audit.json || fail "expected delta 1e-05 of the audit" audit.json

echo "-- with a market"
soukd --data market > soukd.out 2> soukd.err &
host=$!
for _ in $(seq 300); do grep -qs ^treasury soukd.out && break; sleep 0.1; done
url=$(awk '/^url/ {print $2}' soukd.out) id=$(awk '/^market/ {print $2}' soukd.out) key=$(awk '/^ledger-key/ {print $2}' soukd.out)
souk init --market "$url" --market-id "$id" --name clinic > /dev/null
souk init --market "$url" --market-id "$id" --name lab > /dev/null
sold="--budget-epsilon 9 --budget-delta 1e-5 --price 1"
souk dataset publish rows.csv --as clinic --label sick --policy open.lua --name rows $sold --json > published.json
souk treasury deposit lab 100 --market "$url" --market-id "$id" > /dev/null
souk job submit two.lua --as lab --wait --json > job.json 2> /dev/null
job=$(json job < job.json)
souk model fetch "$job" --as lab --out fetched > /dev/null
souk ledger prove 1 --out proof --leaf leaf > /dev/null
souk ledger export log --data market > /dev/null
souk credential issue --as clinic --to lab --type good --expires-days 5 --out credential.json > /dev/null
printf 'log %s\nwitness W1 witness.example/w1+01120780+BMUi6wHS/kVwKqP0+TbNy7B3QiyFyXP/85H7TkZeY466 http://127.0.0.1:8101\nquorum W1\n' "$key" > witnesses
entries() { souk ledger log --limit 1 --json | json size; }
before=$(entries)

publish="--as clinic $sold --policy open.lua"
sed '3s/^[0-9]*/word/' rows.csv > words.csv
wrong "dataset publish words.csv --label sick $publish" --csv words.csv
echo '{"columns":["a","b",{"name":"sick","role":"label"}]}' > columns.json
wrong "dataset publish rows.csv --label nosuch --csv columns.json $publish" '"nosuch"' rows.csv
each rows.csv "dataset publish @ --label sick $publish"
each rows.npy "dataset publish @ --label 2 $publish"
each images.idx "dataset publish @ --labels labels.idx $publish"
each labels.idx "dataset publish images.idx --labels @ $publish"
each labels.npy "dataset publish plain.npy --labels @ $publish"
each fetched/model.safetensors "dataset publish @ $publish"
each layout.json "dataset publish rows.csv --csv @ $publish"
each open.lua "dataset publish rows.csv --label sick --as clinic $sold --policy @" "missing folder junk"
each open.lua "policy publish rows @ --as clinic" "missing folder junk"
each request.json "policy publish rows open.lua --as clinic --parameters @"
each two.lua "job submit @ --as lab"
each credential.json "credential add @ --as lab"
each home/treasury.key "credential issue --to lab --type x --expires-days 5 --out made --key @"
each home/treasury.key "treasury deposit lab 5 --key @"
each fetched/receipt.json "receipt verify @"
each log/checkpoint "ledger audit --data market --seen @"
each market/ledger.db "ledger export made --data @"
each market/ledger.db "ledger audit --data @" "missing folder"
each market/ledger.db "policy replay @" "missing folder"
each witnesses "ledger audit --tiles log --policy @"
each witnesses "ledger export made --url $url --policy @"
each witnesses "init --market $url --market-id $id --name third --policy @"
each witnesses "policy-file check @"
each witnesses "proof check proof --policy @"
each proof "proof check @ --key '$key'"
each log/checkpoint "note verify @ --key '$key'"
each log/checkpoint "ledger audit --tiles @ --key '$key'" "missing empty junk cut"
for name in vkey checkpoint; do
  for what in junk empty absent; do
    rm -rf c; cp -a log c
    case $what in junk) cp junk c/$name ;; empty) : > c/$name ;; absent) rm c/$name ;; esac
    wrong "ledger import c --data made" c/$name c/$name
    [ ! -e made ] || fail "expected no folder of an import that failed"
  done
done
rm -rf c; cp -a log c; find c/tile/entries -type f -exec cp junk {} \;
wrong "ledger import c --data made" expected tile/entries
[ ! -e made ] || fail "expected no folder of an import that failed"

# A tile of hashes is read as well, though the entries alone would make the same ledger.
for tile in $(cd log && find tile -type f ! -path 'tile/entries/*'); do
  for what in flipped absent short; do
    rm -rf c; cp -a log c
    case $what in
      flipped) printf '\1\2\3' | dd of="c/$tile" bs=1 seek=40 conv=notrunc 2> /dev/null ;;
      absent) rm "c/$tile" ;;
      short) truncate -s -32 "c/$tile" ;;
    esac
    called "ledger import c --data made"
    [ "$status" = 1 ] && [ ! -e made ] && [ "$(wc -l < err)" = 1 ] && grep -qF "c/$tile" err ||
      fail "expected no import of a log with a tile that is $what, status $status" out err
  done
done
souk ledger import log --data restored > /dev/null || fail "expected the whole log to be imported"
[ ! -e "$SOUK_HOME/market" ] || fail "expected no market in the home yet"
souk ledger import log > /dev/null || fail "expected the whole log to be imported into the home"
[ -f "$SOUK_HOME/market/ledger.db" ] || fail "expected a ledger in the market of the home"
rm -r "$SOUK_HOME/market"

echo "-- what the home keeps"
for name in default identities/clinic/key.json identities/clinic/market.json; do
  for what in junk empty cut; do
    rm -rf spoilt; cp -a home spoilt
    case $what in junk) cp junk spoilt/$name ;; empty) : > spoilt/$name ;; cut) truncate -s -9 spoilt/$name ;; esac
    wrong "whoami --home spoilt" expected spoilt/$name
  done
done

rm -rf spoilt; cp -a home spoilt; rm spoilt/default
called "whoami --home spoilt"
[ "$status" = 2 ] && grep -q -- '--as NAME, one of clinic, lab' err || fail "expected those who are there to be named" err

echo "-- contracts that say nothing, or the wrong thing"
for text in 'return 5' 'return' '' 'return "x"' 'error()' 'error("")' 'return {}' 'return {' 'while true do end' 'return {purpose = 5}'; do
  echo "$text" > five.lua
  called "job submit five.lua --as lab"
  [ "$status" = 2 ] || fail "expected status 2, got $status: $text" out err
  said_once "$text" five.lua ""
  if grep -q policy err; then fail "expected no policy in what is said of a contract: $text" err; fi
done
cp junk five.lua
wrong "job submit five.lua --as lab" UTF-8 five.lua
if grep -q policy err; then fail "expected no policy in what is said of a contract" err; fi

echo "-- datasets on which nobody could train, and names"
publish="--label sick --as clinic $sold --policy open.lua"
printf 'a,sick\n1,yes\n2,yes\n3,yes\n' > one_class.csv
wrong "dataset publish one_class.csv $publish" classes one_class.csv
printf 'a,sick\n1,yes\n' > one_row.csv
wrong "dataset publish one_row.csv --classes yes,no $publish" rows one_row.csv
printf 'a,sick\n' > no_row.csv
wrong "dataset publish no_row.csv $publish" expected no_row.csv
wrong "dataset publish rows.csv --name '' $publish" expected --name
[ "$(entries)" = "$before" ] || fail "expected nothing of this on the ledger"
souk dataset publish one_class.csv --classes yes,no --name part $publish > /dev/null || fail "one class of two that are listed"
ds=$(json dataset < published.json)
for text in rows "$ds" "${ds:0:8}"; do
  souk dataset show $text --as lab --json | grep -q "\"dataset\":\"$ds\"" || fail "dataset show $text"
done
called "dataset show nobody --as lab"
[ "$status" = 1 ] || fail "expected status 1 for a dataset that is not there, got $status" err
souk dataset publish rows.csv --name rows $publish --json > again.json
called "dataset show rows --as lab"
[ "$status" = 2 ] || fail "expected status 2 for a name of two datasets, got $status" out err
for one in "$ds" "$(json dataset < again.json)"; do grep -q "${one:0:12}" err || fail "expected ${one:0:12} among the candidates" err; done

echo "-- a second offer of the same rows, or under the same name, is warned of"
grep -q '"same_name_as":null,"same_rows_as":null' published.json || fail "expected no warning of the first offer" published.json
grep -qF "\"same_name_as\":\"$ds\",\"same_rows_as\":\"$ds\"" again.json || fail "expected both warnings" again.json
awk 'NR == 1 {print; next} {rows[NR] = $0} END {for (i = NR; i > 1; i--) print rows[i]}' rows.csv > turned.csv
again=$(json dataset < again.json)
for other in "$ds" "$again"; do souk dataset revoke "$other" --as clinic > /dev/null; done
souk dataset publish rows.csv --name rows $publish --json > third.json 2> err
grep -q '"same_name_as":null,"same_rows_as":null' third.json && [ ! -s err ] || fail "expected nothing to be said of what is revoked" third.json err
souk dataset publish turned.csv --name rows $publish --json > fourth.json 2> err
grep -qF "\"same_name_as\":\"$(json dataset < third.json)\",\"same_rows_as\":null" fourth.json && [ "$(wc -l < err)" = 1 ] ||
  fail "expected a warning of the name alone" fourth.json err

echo "-- a receipt beside a model is of that model"
for verb in evaluate predict; do
  souk model $verb fetched --data rows.csv --json | grep -q '"receipt":true' || fail "model $verb: expected the receipt to hold"
  souk model $verb model --data rows.csv --json | grep -q '"receipt":false' || fail "model $verb: expected no receipt"
  for what in model receipt; do
    rm -rf other; cp -a fetched other
    case $what in
      model) printf 'z' | dd of=other/model.safetensors bs=1 seek=$(($(stat -c %s fetched/model.safetensors) - 1)) conv=notrunc 2> /dev/null ;;
      receipt) sed -i 's/"seq":1/"seq":2/; s/eyJ/eyK/' other/receipt.json ;;
    esac
    for path in other other/model.safetensors; do
      called "model $verb $path --data rows.csv"
      [ "$status" = 1 ] && [ "$(wc -l < err)" = 1 ] && grep -q other/receipt.json err && [ ! -s out ] ||
        fail "model $verb $path: expected no for a changed $what, got $status" out err
    done
  done
  for edit in 's/"input_mean":\[[^]]*\]/"input_mean":["3"]/' 's/"classes":\["\([^"]*\)","\([^"]*\)"\]/"classes":["\2","\1"]/'; do
    cp fetched/receipt.json fetched/model.safetensors other/
    sed "$edit" fetched/spec.json > other/spec.json
    cmp -s fetched/spec.json other/spec.json && fail "expected $edit to change spec.json"
    called "model $verb other --data rows.csv"
    [ "$status" = 1 ] && [ "$(wc -l < err)" = 1 ] && grep -q other/spec.json err && [ ! -s out ] ||
      fail "model $verb: expected no for a changed spec.json, got $status" out err
  done
  cp junk other/receipt.json
  wrong "model $verb other --data rows.csv" expected other/receipt.json
done

echo "-- a file that is laid out in another way has a layout of its own, and the model's meaning"
awk -F, 'NR > 1 {print ($3 == "yes" ? "Y" : "N") "," $1 "," $2 ",x"}' rows.csv > elsewhere.csv
layout() { echo '{"columns":[{"name":"state","role":"label","values":['"$1"']},'"$2"',{"name":"note","role":"dropped"}]}' > elsewhere.json; }
for verb in evaluate predict; do
  for of in model fetched; do
    right=$(souk model $verb $of --data rows.csv --json | json right)
    layout '"N","Y"' '"a","b"'
    called "model $verb $of --data elsewhere.csv --csv elsewhere.json --json"
    [ "$status" = 0 ] && [ -n "$right" ] && [ "$(json right < out)" = "$right" ] || fail "model $verb $of: expected $right right" out err
    case $of in
      model) grep -q '"receipt_covers":\[\],"receipt_leaves_out":\[\]' out ;;
      fetched) grep -q '"receipt_covers":\["classes","feature_names","label","model","spec"\],"receipt_leaves_out":\["csv","lineage"\]' out ;;
    esac || fail "model $verb $of: expected no word of the receipt for this layout" out
    layout '"no","yes"' '"b","a"'
    wrong "model $verb $of --data elsewhere.csv --csv elsewhere.json" 'in their order; column 1 is' elsewhere.json
    layout '"yes","no"' '"a","b"'
    wrong "model $verb $of --data elsewhere.csv --csv elsewhere.json" 'another place' elsewhere.json
    layout '"N","Y","?"' '"a","b"'
    wrong "model $verb $of --data elsewhere.csv --csv elsewhere.json" "expected the model's 2 values" elsewhere.json
  done
done
echo '{"columns":["a","b",{"name":"sick","role":"label"}]}' > own.json
souk model evaluate fetched --data rows.csv --csv own.json --json | grep -q '"receipt_leaves_out":\["lineage"\]' ||
  fail "expected the receipt to speak for a layout that is the model's"

echo "-- what is without effect is said in words"
called "dataset revoke $ds --as clinic"
[ "$status" = 1 ] && grep -q 'the dataset is revoked (revoked)' err || fail "expected words" err
called "dataset revoke $(json dataset < third.json) --as lab"
[ "$status" = 1 ] && grep -q 'only the provider of the dataset may do this' err || fail "expected words" err

echo "-- folders that are no log, policies that accept none, witnesses that nobody knows"
mkdir bare
wrong "ledger audit --tiles bare --key '$key'" --tiles bare
grep -v ^log witnesses > logless
wrong "ledger audit --tiles log --policy logless" 'log VKEY' logless
called "policy-file check witnesses --cosigners W9 --json"
[ "$status" = 1 ] && grep -q '"unknown":\["W9"\]' out && grep -q W9 err || fail "expected no quorum, and W9 named" out err
called "policy-file check witnesses --cosigners W1,W9 --json"
[ "$status" = 0 ] && grep -q '"unknown":\["W9"\]' out && grep -q W9 err || fail "expected a quorum, and W9 named" out err

echo "-- a model that is not there"
called "model fetch 000000 --as lab --out made"
[ "$status" = 1 ] && [ ! -e made ] || fail "expected no folder for an unknown job, status $status" err
echo 'return {allow = request.purpose == "care", reason = "another purpose", price = 1}' > care.lua
souk dataset publish rows.csv --label sick --as clinic $sold --policy care.lua --name shut > /dev/null
sed 's/"rows"/"shut"/' two.lua > denied.lua
called "job submit denied.lua --as lab --json"
[ "$status" = 1 ] || fail "expected a contract for another purpose to be denied" out err
called "model fetch $(json job < out) --as lab --out made"
[ "$status" = 1 ] && [ ! -e made ] || fail "expected no folder for a job without a model, status $status" err

echo "-- a model that has no form in ONNX"
{ printf '\0\0\10\3\0\0\0\24\0\0\0\20\0\0\0\20'; awk 'BEGIN {for (i = 0; i < 5120; i++) printf "%c", i * i % 26 + 97}'; } > pictures.idx
{ printf '\0\0\10\1\0\0\0\24'; for _ in 1 2 3 4 5 6 7 8 9 10; do printf '\0\1'; done; } > kinds.idx
sed 's/model = {.*/model = { scattering { scales = 1, orientations = 2 }, flatten(), linear { units = 2 } },/' two.lua > waves.lua
souk train-local waves.lua --data pictures.idx kinds.idx --out model --json > waves.json || fail "train-local waves.lua"
grep -q '"onnx":null' waves.json || fail "expected no model.onnx to be named" waves.json
[ ! -e model/model.onnx ] || fail "expected no model.onnx, of this or of another model"
[ -s model/model.safetensors ] || fail "expected a model"
souk train-local "$here/two_classes.lua" --data rows.csv --label sick --out model --json > two.json
grep -q '"onnx":"model/model.onnx"' two.json && [ -s model/model.onnx ] || fail "expected model.onnx" two.json
echo "$tried files refused"
