"""What the harness costs: wall time of cases run by a worker under the harness against the same cases run plainly.

    python scripts/benchmark_harness.py [--backend torch-fp32] [--cases 12] [--rounds 5]

Both do the same work on the same files through the same engine, in turns. Under the harness a case
also is asked for through a socket, timed in stages, answered, and saved to the run directory; plainly it is a call.
The cost is wall time under the harness over plain wall time, less one: median over the rounds.

The plain loop's OpenMP pool sleeps when idle, as the workers' pools do; with OMP_WAIT_POLICY=ACTIVE in the environment
it spins, and the cost then includes what that choice gains or loses. What lies outside the timed cases is also printed
by itself: the rest of the difference is that two processes running the same code are never equally fast.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when the OpenMP library is loaded

import torch

import engines
from bench import demo
from bench.cli.terminal import PlainProgress
from bench.pipeline.pipeline import Pipeline
from bench.plan.plan import make_plan
from bench.plan.request import Request
from bench.schedule.interleave import Interleaver
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from models.load import build_model, read_checkpoint
from reports.records.record import INTERLEAVED, VariantRecord


class Silent:
    """A progress that shows nothing, so that the terminal's cost is not the harness's."""

    def start(self, task: str, total: int) -> None:
        pass

    def advance(self, doing: str = "") -> None:
        pass

    def note(self, line: str) -> None:
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="torch-fp32", choices=list(engines.BACKENDS))
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    request = Request(backends=options.backend, device="cpu", max_cases=options.cases)
    plan = make_plan(request, "benchmark", "", PlainProgress(sys.stderr))
    opening = next(each for each in plan.opens if each.name == options.backend)
    torch.set_num_threads(opening.target.threads)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = RunDirectory.create(Path(scratch) / "run")
        own = plan.record.settings.variants[options.backend]
        record = VariantRecord(name=options.backend, settings=own)
        interleaver = Interleaver(RunStore(directory, {options.backend: record}), plan.record, Silent())
        interleaver.open(opening)
        stack.callback(interleaver.fleet.close_all_but, ())
        model = build_model(read_checkpoint(demo.CHECKPOINT))
        session = stack.enter_context(engines.load(options.backend).open(model, opening.target))
        pipeline = Pipeline(session, opening.settings)
        cases = [(Path(case.image), Path(scratch) / f"{case.name}.nii.gz") for case in plan.record.cases]
        for image, mask in cases:  # both have seen every file
            pipeline.run(image, mask)
        ratios, seconds, total = [], [], 0.0
        for number in range(options.rounds):
            loops: dict[str, Callable[[], Any]] = {
                "harness": partial(interleaver.round, INTERLEAVED, number),
                "plain": lambda: [pipeline.run(*case) for case in cases],
            }
            taken = {}
            for loop in random.Random(number).sample(list(loops), 2):
                start = time.perf_counter()
                loops[loop]()
                taken[loop] = time.perf_counter() - start
            total += taken["harness"]
            ratios.append(taken["harness"] / taken["plain"])
            seconds.append(taken["plain"] / len(cases))
            print(f"round {number + 1}: harness {taken['harness']:.3f} s, plain {taken['plain']:.3f} s")
    print(f"{options.backend}, {options.cases} cases, {options.rounds} rounds: a case takes {median(seconds):.3f} s;")
    samples = interleaver.store.records[options.backend].samples
    within = sum(s.case_ns for s in samples if s.phase == INTERLEAVED) * 1e-9
    print(f"of the wall time under the harness {100 * (1 - within / total):.2f} % lay outside the timed cases;")
    middle, low, high = (100 * (which(ratios) - 1) for which in (median, min, max))
    print(f"the harness costs {middle:+.2f} % (rounds from {low:+.2f} % to {high:+.2f} %)")


if __name__ == "__main__":
    main()
