#!/bin/sh
# What privacy costs on UCI's Adult, one run of scripts/bench-utility, where its files are: SOUK_SHARED/data/tabular.
# Fails where epsilon 1 costs more accuracy than the script's target allows.
if [ ! -f "$SOUK_SHARED/data/tabular/adult.data.gz" ] || [ ! -f "$SOUK_SHARED/data/tabular/adult.test.gz" ]; then
  echo "skipped: no adult.data.gz and adult.test.gz in $SOUK_SHARED/data/tabular"
  exit 77
fi
SEEDS=1 exec "$SOUK_SOURCE/scripts/bench-utility" "$SOUK_SHARED/data" adult
