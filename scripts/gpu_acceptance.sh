#!/usr/bin/env bash
# Everything worth doing on a CUDA machine, in stages: the most valuable first, each within a time of its own, each with
# files that can be committed once it has ended. Needs no network. Run it again to go on where it stopped.
#
#   scripts/gpu_acceptance.sh [OUT]      default: runs/gpu-acceptance
#
#   stage       seconds   what it leaves
#   claim       240       36 cases at the real width beside MONAI and nnU-Net: a verdict with its bounds
#   scenarios   120       MLPerf's offline and single-stream of the winner
#   kernels     120       kernels by kind, and what the convolutions reach of the measured peak
#   trt86       240       TensorRT 8.6 in FP16 and INT8 as a command of its own, where TRT86 names a Python that has it
#   coarse      150       the recipe with the coarse region of interest beside the winner without
#   bodies      240       whole bodies beside MONAI under autocast
#   tests       240       the GPU tests: kernels and engines against float64
#   all         600       every backend that can run here, batches 1, 2, 4 and 8, all reference pipelines
#
#   STAGES='claim kernels'  only these              LIMIT=570   seconds for all; no stage is begun that cannot end in them
#   SECONDS_EACH=60         instead of those above  PACK=FILE   .tar.gz of what can be committed (OUT-kept.tar.gz)
#   BACKENDS=...            of `claim` and `all`    BUDGET=60   seconds of samples in a run
#   CASES=36  BODIES=16     fewer are faster, and prove less
#   TRT86=python-trt86.sh   a Python 3.10 with NumPy and TensorRT 8.6 (scripts/trt86); TRT86_PRECISIONS='fp16 int8'
#   DEVICE=cuda:1           another GPU             PYTHON=python3   default: the checkout's .venv, then python3
#   WIDTH=32                of the demo network; DEVICE=cpu WIDTH=8 CASES=5 BODIES=1 tries the stages without a GPU,
#                           with BODIES_DEMO=pancreas in place of whole bodies in less time
#
# Uses whatever of the stack is installed: a backend whose packages are missing is a row `skipped` with its reason.
# Exit code: that of `bench check` of the stage `claim` (0 confirmed, 1 refuted, 3 inconclusive ...), or 5 where it is 0
# and GPU tests failed. The stages have not been run on a GPU yet; parts of them have (docs/results/gpu-h100-first).
set -euo pipefail
if [ -n "${PYTHONPATH:-}" ]; then # workers drop entries that are relative
    PYTHONPATH=$(IFS=:; for each in $PYTHONPATH; do realpath -m "$each"; done | paste -sd:)
    export PYTHONPATH
fi
cd "$(dirname "$0")/.."
out=${1:-runs/gpu-acceptance}
logs=$out-logs
kept=$out-kept # small copies of all results
device=${DEVICE:-cuda}
width=${WIDTH:-32} # 32: the real one, 22,970,150 parameters
claimed=${BACKENDS:-torch-fp32,torch-amp,torch-half,torch-fused,torch-fused@8,ort-fp32,peer-monai-fp32,peer-monai-amp,peer-nnunet}
batches=torch-fp32@2,torch-fp32@4,torch-fp32@8,torch-amp@4,torch-fused@2,torch-fused@4,torch-fused@8,ort-fp16@4
peers=peer-monai-fp32,peer-monai-amp,peer-nnunet,peer-script
every=${BACKENDS:-all,$batches,$peers}
cuda=$([ "${device#cuda}" != "$device" ] && echo yes || echo no)
fast=$([ "$cuda" = yes ] && echo torch-fused || echo openvino-fp32) # of the recipe; a CPU has no torch-fused
trt86=${TRT86:-} precisions=${TRT86_PRECISIONS:-fp16 int8}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}

bench() { "$python" -m bench "$@"; }
left() { echo $((${LIMIT:-86400} - SECONDS)); }
ends=0                                                # of the stage that runs, in seconds of this script
within() {                                            # COMMAND..., in what is left of the stage
    local seconds=$((ends - SECONDS))
    [ "$seconds" -gt 0 ] || return 124
    timeout --signal=INT --kill-after=30 "$seconds" "$@" # `bench` ends in order at this signal
}

missing=$("$python" -c 'import importlib.util, sys; print(*(m for m in sys.argv[1:] if not importlib.util.find_spec(m)))' \
    torch nibabel rich psutil scipy onnxscript)
if [ -n "$missing" ]; then
    echo "$python has no package ${missing%% *}; see docs/how-to/gpu.md for the environments, or set PYTHON" >&2
    exit 2
fi
mkdir -p "$logs" "$kept"

# NAME SECONDS COMMAND...: one stage, unless it has ended before or cannot end in what is left of LIMIT.
stage() {
    local name=$1 seconds=${SECONDS_EACH:-$2}
    shift 2
    case " ${STAGES:-claim scenarios kernels trt86 coarse bodies tests all} " in *" $name "*) ;; *) return 0 ;; esac
    printf '\n== %s (after %d s, at most %d s)\n' "$name" "$SECONDS" "$seconds"
    if [ -e "$logs/$name.ended" ]; then
        echo "has ended before"
    elif [ "$(left)" -lt $((seconds + 20)) ]; then # with the reports of what is stopped
        echo "not begun: $(left) s are left"
    elif ends=$((SECONDS + seconds)) && "$@"; then
        touch "$logs/$name.ended"
    else
        echo "not ended; run the script again to go on"
    fi
    tar -czf "$logs/kept.tar.gz" -C "$(dirname "$kept")" "$(basename "$kept")"
    mv "$logs/kept.tar.gz" "${PACK:-$kept.tar.gz}"
}

# OUT ARGUMENTS...: a run, or what is left of it, with its report, and small copies of its files.
run() {
    local to=$1
    shift
    if [ -e "$to/run.json" ]; then
        set -- --resume
    else
        set -- --device "$device" --demo-width "$width" --budget "${BUDGET:-60}" "$@"
    fi
    within "$python" -m bench run "$@" --out "$to" || true # the verdict comes last
    [ -e "$to/run.json" ] || return 1
    [ -e "$to/report.md" ] || bench report "$to" >/dev/null || return 1 # of a run that was stopped
    bench report "$to" --format json --out "$to/summary.json" || return 1
    keep "$to" || return 1
    grep -q '"status": "complete"' "$to/run.json"
}

keep() { # all of a run but its masks
    local to
    to=$kept/$(basename "$1")
    rm -rf "$to"
    mkdir -p "$to/variants"
    cp -r "$1"/{run.json,cases.csv,samples,summary.json} "$1"/report.* "$to" && cp "$1"/variants/*.json "$to/variants"
}

winner() { # of the stage `claim`; the baseline where nothing is faster
    "$python" -c "import json, sys; s = json.load(open(sys.argv[1])); print(s['subject'] or s['best'] or 'torch-fp32')" \
        "$out/summary.json" 2>/dev/null || echo torch-fp32
}

scenarios() {
    local each ahead=()
    for each in single-stream offline; do
        [ -e "$kept/$each.json" ] || within "$python" -m bench scenario --device "$device" --demo-width "$width" \
            --backend "$(winner)" --max-cases "${CASES:-36}" "${ahead[@]}" --scenario "$each" --out "$kept/$each.json" || return 1
        ahead=(--read-ahead 6) # of the second alone: a single stream waits for each case
    done
}

kernels() {
    local some=(torch-fused torch-fused@8 torch-graph torch-amp@4)
    if [ "$cuda" = no ]; then
        echo "only on a GPU"
        return 0
    fi
    if within "$python" scripts/kernel_times.py --device "$device" --width "$width" "${some[@]}" \
        >"$logs/kernels.txt" 2>"$logs/kernels.log"; then
        mv "$logs/kernels.txt" "$kept"
        cat "$kept/kernels.txt"
    else
        echo "not measured: $(tail -1 "$logs/kernels.log")"
        return 1
    fi
}

tensorrt86() { # beside the same baseline and the fastest of ours
    local each network=$logs/trt86 runtime commands=() quantize=()
    [ -n "$trt86" ] || {
        echo "not run: TRT86 names no Python with TensorRT 8.6"
        return 0
    }
    runtime=$([ "$cuda" = yes ] && echo tensorrt || echo onnxruntime)
    case $precisions in *int8*) quantize=(--int8) ;; esac
    [ -e "$network/case.json" ] || within "$python" scripts/trt86/export.py "$out" "$network" "${quantize[@]}" || return 1
    for each in $precisions; do
        [ "$each" = int8 ] && [ ! -e "$network/int8.onnx" ] && continue # INT8 changes too much: int8.json says so
        commands+=(--command "trt86-$each:server=$trt86 scripts/trt86/predict.py $network --precision $each --runtime $runtime")
    done
    run "$out-trt86" --backends "torch-fp32,$fast" "${commands[@]}" --max-cases "${CASES:-36}"
}

gpu_tests() {
    local many=''
    "$python" -c 'import pytest, pytest_timeout' 2>/dev/null || {
        echo "not run: pytest and pytest-timeout are not installed"
        return 0
    }
    # Several at a time where pytest-xdist is there; and then a runtime that crashes takes no other test with it.
    [ "$cuda" = no ] || # where all are skipped, one process says so soonest
        many=$("$python" -c 'import os, xdist; print("-n", min(8, os.cpu_count()), "--dist loadgroup")' 2>/dev/null || true)
    # shellcheck disable=SC2086
    # The files are named, since others need packages that no GPU test does.
    if within "$python" -m pytest $many -m gpu -rs tests/engines/fused/test_fused.py \
        tests/engines/test_accuracy_of_engines.py tests/bench/data/test_voxels.py tests/bench/machine/test_gpu.py \
        tests/bench/pipeline/test_stream.py tests/bench/pipeline/test_roi.py tests/bench/end_to_end/test_cuda.py 2>&1 | tee "$kept/tests.txt"; then
        rm -f "$logs/tests-failed"
    else
        touch "$logs/tests-failed"
        return 1
    fi
}

[ -s "$kept/doctor.txt" ] || bench doctor --device "$device" >"$kept/doctor.txt"
cat "$kept/doctor.txt"
printf '[%s-coarse]\nbackend = "%s"\nroi = "coarse"\nbatch = 2\n' "$fast" "$fast" >"$logs/coarse.toml"
recipe=(--recipes "$logs/coarse.toml")
few=(--max-cases "${BODIES:-16}")
has_monai=$("$python" -c 'import importlib.util; print(importlib.util.find_spec("monai") is not None)')
monai=peer-monai-$([ "$cuda" = yes ] && echo amp || echo fp32)   # not every CPU computes in BF16
body=$([ "$has_monai" = True ] && echo "$monai" || echo torch-fp32) # what whole bodies are held against

stage claim 240 run "$out" --backends "$claimed" --max-cases "${CASES:-36}"
stage scenarios 120 scenarios
stage kernels 120 kernels
stage trt86 240 tensorrt86
stage coarse 150 run "$out-coarse" "${recipe[@]}" --backends "torch-fp32,$fast" --max-cases "${CASES:-36}"
stage bodies 240 run "$out-bodies" "${recipe[@]}" --demo "${BODIES_DEMO:-abdomen}" "${few[@]}" --baseline "$body" \
    --backends "$body"
stage tests 240 gpu_tests
stage all 600 run "$out-all" --backends "$every" --max-cases "${CASES:-36}"

printf '\n== after %d s\n' "$SECONDS"
echo "what can be committed: $kept; reports: $out*/report.md; logs: $logs"
[ -e "$out/run.json" ] || exit 3
bench check "$out" || exit
[ ! -e "$logs/tests-failed" ] || exit 5
