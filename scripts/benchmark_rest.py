"""What a case costs right after its process has rested, and while it is watched: within one process.

    python scripts/benchmark_rest.py [--backends torch-fp32,openvino-int8] [--repeats 12]

Under the harness a worker rests before each case, since the other variants have theirs, and is looked at every 0.1 s; a
plain loop never rests. Here a plain process runs the same case of the demo again and again. Each timed case follows
another one, and between the two the process sleeps, or another process computes, or nothing is done; in one condition
a third process reads its memory and processor time every 0.1 s. The conditions come in random order. Told are the
medians of the time over that of cases that follow at once, less one, with their 95 % intervals by order statistics (as
in `benchmark_harness.py`). Within one process nothing else differs, as between two that run the same code it does.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import torch
from benchmark_harness import percent, plan_of

import engines
from bench.machine.host import describe
from bench.machine.usage import INTERVAL_S
from bench.pipeline.pipeline import Pipeline
from bench.worker import allocator
from bench.worker.messages import Open
from models.load import build_model, read_checkpoint

OTHER_WORK = """
import sys, time, torch
layer, x = torch.nn.Conv3d(32, 32, 3, padding=1), torch.rand(1, 32, 64, 64, 64)
with torch.inference_mode():
    for line in sys.stdin:
        end = time.perf_counter() + float(line)
        while time.perf_counter() < end:
            layer(x)
        print(flush=True)
"""
WATCH = """
import select, sys, psutil
process, watching = psutil.Process(int(sys.argv[1])), False
while True:
    if select.select([sys.stdin], [], [], float(sys.argv[2]) if watching else None)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        watching = line.strip() == "on"
        print(flush=True)
    else:
        process.memory_info(), process.cpu_times()
"""
AT_ONCE, WATCHED, OTHER = "at once", "at once, watched", "after 0.5 s of another process's work"
SLEEPS = {f"after {ms} ms of sleep": ms / 1000 for ms in (5, 50, 500)}
CONDITIONS = (AT_ONCE, WATCHED, *SLEEPS, OTHER)


@contextmanager
def helper(code: str, *arguments: str) -> Iterator[Callable[[str], None]]:
    """A process that does what a line tells it, and answers with another."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def tell(line: str) -> None:
            print(line, file=stdin, flush=True)
            stdout.readline()

        yield tell
        stdin.close()


def measure(options: argparse.Namespace, backend: str) -> dict[str, list[float]]:
    """Seconds of the cases of each condition."""
    plan = plan_of(options, backend)
    opening = next(each for each in plan.opens if isinstance(each, Open) and each.name == backend)
    torch.set_num_threads(opening.target.threads)
    model = build_model(read_checkpoint(opening.checkpoint), widen_to=opening.widen_to)
    case, seconds = plan.record.cases[0], {condition: list[float]() for condition in CONDITIONS}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = stack.enter_context(engines.load(backend).open(model, opening.target))
        other = stack.enter_context(helper(OTHER_WORK))
        watch = stack.enter_context(helper(WATCH, str(os.getpid()), str(INTERVAL_S)))
        pipeline = Pipeline(session, opening.settings)

        def run() -> float:
            return pipeline.run(tuple(map(Path, case.images)), scratch / "mask.nii.gz").case_ns * 1e-9

        other("0.1")  # its imports are over
        for number in range(options.repeats):
            for condition in random.Random(f"{backend} {number}").sample(CONDITIONS, len(CONDITIONS)):
                watch("on" if condition == WATCHED else "off")
                run()
                time.sleep(SLEEPS.get(condition, 0))
                if condition == OTHER:
                    other("0.5")
                seconds[condition].append(run())
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch-fp32,openvino-int8")
    parser.add_argument("--repeats", type=int, default=12, help="cases of each condition")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--demo-width", type=int, help="channels of the demo's first layer")
    options = parser.parse_args()
    options.cases = 1
    if not allocator.keep_freed():
        raise SystemExit("this C library cannot keep what is freed")
    host = describe("cpu")
    print(f"{host.processor}, {host.cpu_features}, {host.cores} cores; {options.repeats} cases of each condition\n")
    print(f"| backend | at once, s | {' | '.join(CONDITIONS[1:])} |\n|---{'|---:' * len(CONDITIONS)}|")
    for backend in options.backends.split(","):
        seconds = measure(options, backend)
        usual = median(seconds[AT_ONCE])
        shares = [percent([each / usual for each in seconds[condition]]) for condition in CONDITIONS[1:]]
        print(f"| `{backend}` | {usual:.3f} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
