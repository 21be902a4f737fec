#!/usr/bin/env bash
# The life cycle, the detoxification and the speed of training on one GPU; not run yet, for want of one. Needs a CUDA build of
# torch and, for the comparison of speed, trl 1.16.0 in the same environment.
#   bash benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m pytest -m gpu
for architecture in causal t5; do
    .venv/bin/heed demo --architecture "$architecture" -o "runs/gpu-$architecture" --json --set model.device=cuda
done
[ -d runs/detoxify-data ] && .venv/bin/heed run examples/detoxify/heed.toml --json --set model.device=cuda --set output=runs/gpu-detoxify
.venv/bin/python -m benchmarks.gpu --output runs/gpu-speed.json
