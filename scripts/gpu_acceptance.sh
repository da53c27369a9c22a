#!/usr/bin/env bash
# Everything worth doing on a CUDA machine: the GPU tests, every backend at width 32 with parity, and the report.
#
#   scripts/gpu_acceptance.sh [OUT]        (default: runs/gpu-acceptance; run it again to go on where it stopped)
#
# Uses the Python it finds ($PYTHON, the checkout's .venv, or python3) and whatever of the stack is installed there:
# a backend whose packages are missing is a row `skipped` with its reason. Needs no network.
# Not yet run on a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu-acceptance}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
bench() { "$python" -m bench.cli "$@"; }

"$python" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "PyTorch finds no CUDA device here")'
bench doctor --device cuda

if "$python" -c 'import pytest' 2>/dev/null; then
    "$python" -m pytest -m gpu || echo "the GPU tests failed; the run goes on, its own checks decide"
fi

status=0
if [ -e "$out/run.json" ]; then
    bench run --resume --out "$out" || status=$?
else
    bench run --device cuda --demo-width 32 --backends all --budget 240 --out "$out" || status=$?
fi
bench report "$out"
exit "$status"
