#!/bin/sh
# Models that souk wrote, run by Microsoft's onnxruntime-web from npm: equal predictions to 1e-4.
# Exit 77 (skipped) where there is no node, no npm or no way to the registry.
#   onnx_runtime_test.sh BUILD_FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1/onnx-runtime-test
skip() { echo "SKIPPED: $1"; exit 77; }
command -v node >/dev/null || skip "no node"
command -v npm >/dev/null || skip "no npm"
mkdir -p "$folder"
cd "$folder"
if [ ! -d node_modules ]; then # whole or not at all
  rm -rf new && mkdir new && echo '{"private":true}' >new/package.json
  (cd new && timeout 120 npm install --no-audit --no-fund --ignore-scripts --silent onnxruntime-web@1.20.1 >../npm.log 2>&1) ||
    skip "npm cannot install onnxruntime-web"
  mv new/node_modules node_modules
fi
cp "$here/onnx_runtime_test.mjs" .
exec node onnx_runtime_test.mjs
