#!/usr/bin/env bash
# The README's lines by hand, as they stand there.
#   readme_test.sh SOURCE BIN
set -euo pipefail
source=$1 bin=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk '/^```sh$/ {on = 1; next} /^```$/ {on = 0} on' "$source/README.md" > "$work/by_hand.sh"
[ "$(wc -l < "$work/by_hand.sh")" -gt 20 ] || { echo "expected the README's block of shell lines" >&2; exit 1; }
sed -i "s#\$PWD/build/release/bin#$bin#" "$work/by_hand.sh"
cd "$source"
TMPDIR=$work timeout 120 bash -euo pipefail "$work/by_hand.sh" > "$work/out" 2> "$work/err" || {
  echo "the README's lines failed" >&2
  cat "$work/out" "$work/err" >&2
  exit 1
}
grep -q '"ok":true' "$work/out" || { echo "expected a good audit in the output" >&2; cat "$work/out" >&2; exit 1; }
