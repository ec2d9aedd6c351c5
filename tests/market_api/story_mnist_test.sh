#!/bin/sh
# The same story as story_demo, with MNIST where its files are: SOUK_SHARED/data/mnist.
if [ ! -d "$SOUK_SHARED/data/mnist" ]; then
  echo "skipped: no MNIST in $SOUK_SHARED/data/mnist"
  exit 77
fi
exec "$SOUK_SOURCE/scripts/demo" --data "mnist=$SOUK_SHARED/data/mnist"
