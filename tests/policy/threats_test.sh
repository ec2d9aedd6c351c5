#!/bin/sh
# Each of the sixteen threats of policy/THREATS.md has one answer, and each answer names tests that
# there are.
#   threats_test.sh SOURCE
set -eu
cd "$1"
fail() {
  echo "FAILED: $1" >&2
  exit 1
}
count=0
for number in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
  row=$(grep "^| T$number " policy/THREATS.md) || fail "T$number has no row"
  [ "$(echo "$row" | wc -l)" -eq 1 ] || fail "T$number has more than one row"
  tests=$(echo "$row" | awk -F'|' '{print $(NF - 1)}' | grep -o '`[A-Za-z]*\.[A-Za-z0-9]*`' | tr -d '`') ||
    fail "T$number names no test"
  for name in $tests; do
    grep -rqE "^(TEST|TEST_F|TEST_P)\(${name%.*}, ${name#*.}\)" tests ||
      fail "T$number names $name, which is no test"
    count=$((count + 1))
  done
done
echo "$count tests stand behind sixteen answers"
