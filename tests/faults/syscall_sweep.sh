#!/bin/sh
# syscall_sweep.sh LEDGER_FAULT [STEP]: lets every STEP-th occurrence (default 1: every one) of
# each file system call of three appends fail once, with EIO, with ENOSPC, and with SIGKILL on
# the way in; then the ledger must open again, pass its audit and hold all it acknowledged.
set -eu
program=$1
step=${2:-1}
command -v strace >/dev/null || { echo "strace is missing" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/base"
"$program" append "$work/base" 5 >"$work/base.receipts"
calls="pwrite64 write fdatasync fsync openat ftruncate unlink unlinkat rename renameat2 link linkat"

# How often each is called by the appends themselves: files below the work folder only.
cp -r "$work/base" "$work/run"
strace -f -qq -o "$work/trace" -P "$work/run/ledger.db" -P "$work/run/ledger.db-wal" \
  -P "$work/run/ledger.db-shm" -P "$work/run" "$program" append "$work/run" 3 >/dev/null || {
  echo "strace does not work here" >&2; exit 77; }
total=0 failed=0
for call in $calls; do
  count=$(grep -c "^[0-9]* *$call(" "$work/trace" || true)
  at=1
  while [ "$at" -le "$count" ]; do
    for fault in error=EIO error=ENOSPC signal=SIGKILL; do
      rm -rf "$work/run"
      cp -r "$work/base" "$work/run"
      cp "$work/base.receipts" "$work/receipts"
      strace -f -qq -o /dev/null -P "$work/run/ledger.db" -P "$work/run/ledger.db-wal" \
        -P "$work/run/ledger.db-shm" -P "$work/run" -e "inject=$call:$fault:when=$at" \
        "$program" append "$work/run" 3 >>"$work/receipts" 2>/dev/null || true
      total=$((total + 1))
      if ! "$program" check "$work/run" "$work/receipts" >"$work/said"; then
        failed=$((failed + 1))
        echo "$call number $at with $fault: $(cat "$work/said")"
      fi
    done
    at=$((at + step))
  done
  [ "$count" -eq 0 ] || echo "$call: $count occurrences"
done
echo "$total single faults, $failed of them lost or broke something"
[ "$total" -gt 0 ] && [ "$failed" -eq 0 ]
