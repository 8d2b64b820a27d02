#!/usr/bin/env bash
# The complete system on real files: train a moment, encode, decode with the side image, evaluate; needs no data set.
#   usage: bash scripts/demo.sh
# Results: results/demo/report.html, results/demo/summary.json. A second run reuses .venv.
# Variables: DEMO_STEPS (training steps, default 60), DEMO_LIMIT (pairs evaluated, default all), DEMO_OUT (results/demo),
#            DEMO_CKPT (checkpoints/small), DEMO_ARGS (more arguments for evaluate.py).
set -eu
case "${1:-}" in -h | --help) sed -n 2,6p "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
begin=$SECONDS
. scripts/setup.sh requirements.txt
out=${DEMO_OUT:-results/demo}
checkpoint=${DEMO_CKPT:-checkpoints/small}
start=$SECONDS
rm -rf "$out"
mkdir -p "$out"

say "pretrained weights of LPIPS, DISTS and FID (145 MB the first time)"
"$PYTHON" scripts/fetch_weights.py || say "going on without them: the report says what it lacks"
start=$SECONDS

say "1/4 training the preset demo for ${DEMO_STEPS:-60} steps on pairs made from photographs and a real stereo pair -> $out/runs/demo"
PYTHONWARNINGS=ignore "$PYTHON" -m accelerate.commands.launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    train.py --preset demo --runs "$out/runs" --train.steps "${DEMO_STEPS:-60}"
say "training took $((SECONDS - start)) s"

say "2/4 a real pair as image files -> $out/pairs"
"$PYTHON" scripts/export_pairs.py "$out/pairs" --dataset builtin --split test --limit 1
left=$(ls "$out"/pairs/test/left/*.png)
right=$(ls "$out"/pairs/test/right/*.png)

say "3/4 the released model: encode the left image alone, decode it with the right one"
for rate in 0 0.5 1; do
    "$PYTHON" scripts/compress.py "$left" "$out/left_$rate.bin" --ckpt "$checkpoint" --rate $rate
    "$PYTHON" scripts/decompress.py "$out/left_$rate.bin" "$out/left_$rate.png" --side "$right" --ckpt "$checkpoint"
done

say "4/4 rate sweep of the released model and of JPEG, WebP and AVIF -> $out"
# shellcheck disable=SC2086
"$PYTHON" evaluate.py --ckpt "$checkpoint" --dataset builtin --split test --out "$out" \
    ${DEMO_LIMIT:+--limit "$DEMO_LIMIT"} ${DEMO_ARGS:-}

say "done in $((SECONDS - start)) s after installation ($((SECONDS - begin)) s in all); open $out/report.html"
