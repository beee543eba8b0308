#!/usr/bin/env bash
# From a fresh clone: the release build, the binary's size, the demo on real and on drawn images, the start to the first step.
#   benches/fresh_clone.sh [REPOSITORY]      (default: this one)
set -euo pipefail
repository=${1:-$(cd "$(dirname "$0")/.." && pwd)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet "$repository" "$scratch/onsa"
cd "$scratch/onsa"

# Runs a command and prints its seconds; its output goes to a file, and to the terminal if it fails.
seconds() {
  local from=$EPOCHREALTIME
  "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
  awk -v a="$from" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s\n", b - a }'
}

echo "release build      $(seconds cargo build --release --locked)"
echo "release binary     $(stat -c %s target/release/onsa | awk '{ printf "%.1f MB", $1 / 1e6 }')"
onsa=$PWD/target/release/onsa
echo "demo               $(seconds "$onsa" demo)"
grep -a "mAP50" "$scratch/log" | tail -3
echo "demo --offline     $(seconds "$onsa" demo --offline project=runs/drawn)"
assets=${ONSA_ASSETS:-${XDG_CACHE_HOME:-$HOME/.cache}/onsa/assets}
python3 benches/first_step.py --onsa "$onsa" --model "$assets/yolov12n.onnx" --data "$assets/trees/data.yaml" | tail -2
