#!/usr/bin/env bash
# Everything worth doing on a CUDA machine, in one go: what can run here, the GPU tests (kernels and engines against
# float64), every backend at the real width with its accuracy, both time scopes, batches 1, 2, 4 and 8, what users run today
# beside them, the share reached of the measured peak, the kernels of the best, and one report. Needs no network.
#
#   scripts/gpu_acceptance.sh [OUT]      default: runs/gpu-acceptance; run it again to go on where it stopped
#
#   DEVICE=cuda:1    another GPU                           BACKENDS=all     fewer backends, as for `bench run`
#   CASES=36         fewer cases are faster and prove less  BUDGET=90        seconds of samples
#   TESTS=yes        `no` leaves the GPU tests out          PYTHON=python3   default: the checkout's .venv, then python3
#   WIDTH=32         of the demo network; DEVICE=cpu WIDTH=8 TESTS=no CASES=5 tries the script itself without a GPU
#
# Uses whatever of the stack is installed: a backend whose packages are missing is a row `skipped` with its reason.
# Exit code: that of `bench check` (0 confirmed, 1 refuted, 3 inconclusive ...), or 5 where it is 0 and GPU tests failed.
# On an H100 all steps ran with two cases (docs/results/gpu-h100-first); the whole of it has not been run yet.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-runs/gpu-acceptance}
device=${DEVICE:-cuda}
batches=torch-fp32@2,torch-fp32@4,torch-fp32@8,torch-amp@4,torch-fused@2,torch-fused@4,torch-fused@8,ort-fp16@4
peers=peer-monai-fp32,peer-monai-amp,peer-nnunet,peer-script
backends=${BACKENDS:-all,$batches,$peers}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
bench() { "$python" -m bench "$@"; }
step() { printf '\n== %s (after %d s)\n' "$1" "$SECONDS"; }

for module in torch nibabel rich psutil scipy onnxscript; do
    "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$module') is None)" || {
        echo "$python has no package $module; see docs/how-to/gpu.md for the environments, or set PYTHON" >&2
        exit 2
    }
done
mkdir -p "$out-logs"

step "what can run on $device"
[ -s "$out-logs/doctor.txt" ] || bench doctor --device "$device" >"$out-logs/doctor.txt"
cat "$out-logs/doctor.txt"

tests=0
if [ "${TESTS:-yes}" = yes ] && [ ! -e "$out-logs/tests-passed" ]; then
    step "GPU tests"
    if "$python" -c 'import pytest, pytest_timeout' 2>/dev/null; then
        # Several at a time where pytest-xdist is there; and then a runtime that crashes takes no other test with it.
        many=$("$python" -c 'import xdist' 2>/dev/null && echo "-n 8 --dist loadgroup" || true)
        if "$python" -m pytest $many -m gpu -rs tests/engines tests/bench/end_to_end/test_cuda.py tests/bench/machine/test_gpu.py 2>&1 | tee "$out-logs/tests.txt"; then
            touch "$out-logs/tests-passed"
        else
            tests=5
            echo "GPU tests failed; the run goes on, since each backend is held against its evidence and its accuracy"
        fi
    else
        echo "not run: pytest and pytest-timeout are not installed"
    fi
fi

width=${WIDTH:-32} # 32: the real one, 22,970,150 parameters
step "backends $backends at width $width"
if [ ! -e "$out/run.json" ]; then
    bench run --device "$device" --demo-width "$width" --backends "$backends" --max-cases "${CASES:-36}" \
        --budget "${BUDGET:-90}" --out "$out" || true # the verdict comes last
elif ! grep -q '"status": "complete"' "$out/run.json"; then
    bench run --resume --out "$out" || true
fi

if [ "${device#cuda}" != "$device" ] && [ ! -e "$out-logs/kernels.txt" ]; then
    step "kernels"
    "$python" scripts/kernel_times.py --device "$device" --width "$width" torch-fused torch-fused@8 torch-graph torch-amp@4 \
        >"$out-logs/kernels.txt" 2>"$out-logs/kernels.log" || echo "not measured: $(tail -1 "$out-logs/kernels.log")"
    cat "$out-logs/kernels.txt"
fi

step "report"
bench report "$out" >/dev/null
bench report "$out" --format json --out "$out/summary.json"
echo "report: $out/report.md; raw files: $out/run.json, $out/variants, $out/samples, $out/cases.csv; logs: $out-logs"
bench check "$out" && exit "$tests"
