"""What one thread of PyTorch's saves beside an engine that has threads of its own: within one process.

    python scripts/benchmark_threads.py [--backends openvino-int8,openvino-fp32,ort-fp32] [--cases 6] [--repeats 6]

Each case of the demo is run with PyTorch's operations between the passes in one thread, as `bench` has it, and in all
of them, in random order. Told are the medians over all pairs of the ratio of the two times, less one, with their 95 %
intervals by order statistics: of the case, of the passes alone, and of what is stitched.
"""

import argparse
import random
import tempfile
from collections import defaultdict
from contextlib import ExitStack, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from benchmark_harness import percent, plan_of

import engines
from bench.machine.host import describe
from bench.pipeline import tile_runner
from bench.pipeline.pipeline import Pipeline
from bench.worker import allocator
from bench.worker.messages import Open
from models.load import build_model, read_checkpoint

ONE, ALL = "one thread", "all threads"
STAGES = ("forward", "stitch")


def measure(options: argparse.Namespace, backend: str) -> dict[str, list[float]]:
    """Ratios of the times with one thread to those with all, of the case and of its stages."""
    plan = plan_of(options, backend)
    opening = next(each for each in plan.opens if isinstance(each, Open) and each.name == backend)
    torch.set_num_threads(opening.target.threads)
    model = build_model(read_checkpoint(opening.checkpoint), widen_to=opening.widen_to)
    ratios = defaultdict[str, list[float]](list)
    with ExitStack() as stack:
        mask = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "mask.nii.gz"
        session = stack.enter_context(engines.load(backend).open(model, opening.target))
        pipeline = Pipeline(session, opening.settings)

        def seconds(way: str, images: tuple[str, ...]) -> dict[str, float]:
            with patch.object(tile_runner, "one_thread", nullcontext) if way == ALL else nullcontext():
                timing = pipeline.run(tuple(map(Path, images)), mask)
            return {"case": timing.case_ns, **{stage: timing.stages_ns[stage] for stage in STAGES}}

        for number in range(-1, options.repeats):  # the first time warms up
            for case in plan.record.cases:
                ways = random.Random(f"{number} {case.name}").sample((ONE, ALL), 2)
                taken = {way: seconds(way, case.images) for way in ways}
                for what, time in taken[ONE].items() if number >= 0 else ():
                    ratios[what].append(time / taken[ALL][what])
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="openvino-int8,openvino-fp32,ort-fp32")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=6, help="of each case")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--demo-width", type=int, help="channels of the demo's first layer")
    options = parser.parse_args()
    if not allocator.keep_freed():
        raise SystemExit("this C library cannot keep what is freed")
    host = describe("cpu")
    machine = f"{host.processor}, {host.cpu_features}, {host.cores} cores"
    print(f"{machine}; {options.cases} cases, {options.repeats} times\n")
    print(f"| backend | case | {' | '.join(STAGES)} |\n|---|---:|{'---:|' * len(STAGES)}")
    for backend in options.backends.split(","):
        ratios = measure(options, backend)
        print(f"| `{backend}` | {' | '.join(percent(ratios[what]) for what in ('case', *STAGES))} |", flush=True)


if __name__ == "__main__":
    main()
