# Sourced by tests that are stories at the command line: one market of real processes in a folder
# that goes with the shell. `bin` (where the programs are) is set before.
set -euo pipefail
work=$(mktemp -d)
export PATH="$bin:$PATH" SOUK_HOME="$work/home"
host=
trap '[ -z "$host" ] || kill "$host"; rm -rf "$work"' EXIT
mkdir -p "$work/home"
cd "$work"

fail() { # SENTENCE [FILE...]: the files are what was said
  echo "$(basename "$0" .sh): $1" >&2
  shift
  [ $# = 0 ] || cat "$@" >&2
  exit 1
}
json() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p"; } # KEY, of the object on stdin
market_of() { # NAME...: founded at $url as $id, with these parties, and money for the one called lab
  soukd --data market > soukd.out 2> soukd.err &
  host=$!
  for _ in $(seq 600); do grep -qs ^treasury soukd.out && break; sleep 0.1; done
  url=$(awk '/^url/ {print $2}' soukd.out) id=$(awk '/^market/ {print $2}' soukd.out)
  for who in "$@"; do souk init --market "$url" --market-id "$id" --name "$who" > /dev/null; done
  souk treasury deposit lab 100000 --market "$url" --market-id "$id" > /dev/null
}
