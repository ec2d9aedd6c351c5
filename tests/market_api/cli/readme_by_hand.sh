#!/usr/bin/env bash
# Runs the lines of README.md, "The four verbs by hand", as they stand there.
set -euo pipefail
source_dir=${SOUK_SOURCE:?expected SOUK_SOURCE}
bin=${SOUK_BIN:?expected SOUK_BIN}
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; rm -rf "$work"' EXIT

sed -n '/^<!-- by hand -->/,/^<!-- end by hand -->/p' "$source_dir/README.md" | sed -n '/^```sh/,/^```/p' |
  sed '/^```/d' >"$work/lines.sh"
[[ $(wc -l <"$work/lines.sh") -gt 30 ]] || { echo "README.md: expected the lines by hand" >&2 && exit 1; }

mkdir -p "$work/here/build/release"
cd "$work/here"
ln -s "$bin" build/release/bin
ln -s "$source_dir/scripts" "$source_dir/examples" .
export SOUK_HOME=$work/home
source "$work/lines.sh" >"$work/out.txt" 2>"$work/err.txt" || { cat "$work/out.txt" "$work/err.txt" >&2 && exit 1; }
for line in 'refused, as it should be' '"ok":true' 'settled' 'rows right' 'every part of this receipt holds'; do
  grep -q -- "$line" "$work/out.txt" || { cat "$work/out.txt" && echo "expected to read: $line" >&2 && exit 1; }
done
