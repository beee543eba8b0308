#!/usr/bin/env bash
# From a fresh clone: the release build, the binary's size, the demo, the start to the first step.
#   benches/fresh_clone.sh [REPOSITORY]      (default: this one)
set -euo pipefail
repository=${1:-$(cd "$(dirname "$0")/.." && pwd)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone --quiet "$repository" "$scratch/onsa"
cd "$scratch/onsa"

seconds() { local from=$EPOCHREALTIME; "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }; echo "$EPOCHREALTIME - $from" | bc; }

echo "release build            $(seconds cargo build --release --locked) s"
echo "release binary           $(stat -c %s target/release/onsa | awk '{ printf "%.1f MB", $1 / 1e6 }')"
onsa=$PWD/target/release/onsa
echo "demo                     $(seconds "$onsa" demo) s"
grep -a "mAP50" "$scratch/log" | head -2
echo "demo --offline           $(seconds "$onsa" demo --offline project=runs/drawn) s"

# The bar's first step shows when an epoch of one batch is over: one image, one epoch, no validation until then.
data=$("$onsa" demo --fetch-only | awk '/^data set/ { print $3 }')
model=$("$onsa" demo --fetch-only | awk '/^weights/ { print $2 }')
log=$scratch/first
from=$EPOCHREALTIME
RUST_LOG=onsa_tune=debug "$onsa" train model="$model" data="$data" imgsz=416 batch=8 epochs=1 plots=false project="$scratch/runs" 2>"$log" &
pid=$!
until grep -qa "Training on" "$log" 2>/dev/null; do sleep 0.01; done
echo "start to training        $(echo "$EPOCHREALTIME - $from" | bc) s (data read, model made, norms calibrated)"
kill -INT $pid; wait $pid || true
