"""What the harness costs: cases run by a worker under the harness against the same cases run plainly.

    python scripts/benchmark_harness.py [--backends torch-fp32,openvino-int8] [--rounds 15] [--pools passive]

Both do the same work on the same files through the same engine, each in a process of its own, in turns. Under the
harness a case also is asked for through a socket, timed in stages, watched, answered, and saved to the run directory;
plainly it is a call in a loop. Of either there is one process for each allocator (see `bench.worker.allocator`): memory
that is freed is kept by both, or goes back to the system from both. Comparing one that keeps it with one that does not
would measure the allocator.

The cost is wall time under the harness over plain wall time, less one: the median over the rounds, with a 95 % interval
of that median by order statistics (David & Nagaraja, Order Statistics, 2003, section 7.1). Two processes that run the
same code differ too, and no number of rounds shows that: so each launch starts all processes anew, and prints its own.

A plain process's OpenMP pool waits as it does for anybody; with ``--pools passive`` it sleeps when idle, as a worker's.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy import stats

import engines
from bench import demo
from bench.cli.terminal import PlainProgress
from bench.machine.host import describe
from bench.pipeline.pipeline import Pipeline
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.schedule.interleave import Interleaver
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from bench.worker import allocator
from models.load import build_model, read_checkpoint
from reports.records.record import INTERLEAVED, VariantRecord

HARNESS, PLAIN = "harness", "plain"
SAID = "benchmark_harness: "  # before what a plain process answers; libraries print too


class Silent:
    """A progress that shows nothing, so that the terminal's cost is not the harness's."""

    def start(self, task: str, total: int) -> None:
        pass

    def advance(self, doing: str = "") -> None:
        pass

    def note(self, line: str) -> None:
        print(line)


@dataclass(frozen=True)
class Round:
    """Seconds of all cases in one round, by where they ran; `timed`: those that the harness says they took."""

    seconds: Mapping[str, float]
    timed: float


def plan_of(backend: str, cases: int, threads: int | None) -> Plan:
    request = Request(backends=backend, device="cpu", max_cases=cases, threads=threads)
    return make_plan(request, "benchmark", "", PlainProgress(sys.stderr))


def serve_plainly(backend: str, how: str, cases: int, threads: int | None) -> None:
    """Run all cases for each line read, and answer with the seconds that they took."""
    if how == allocator.KEEP and not allocator.keep_freed():
        raise SystemExit("this C library cannot keep what is freed")
    plan = plan_of(backend, cases, threads)
    opening = next(each for each in plan.opens if each.name == backend)
    torch.set_num_threads(opening.target.threads)
    model = build_model(read_checkpoint(demo.CHECKPOINT))
    with tempfile.TemporaryDirectory() as scratch, engines.load(backend).open(model, opening.target) as session:
        pipeline = Pipeline(session, opening.settings)
        print(f"{SAID}ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            for case in plan.record.cases:
                pipeline.run(Path(case.image), Path(scratch) / f"{case.name}.nii.gz")
            print(f"{SAID}{time.perf_counter() - start}", flush=True)


@contextmanager
def plain(options: argparse.Namespace, backend: str, how: str) -> Iterator[Callable[[], float]]:
    """A process that runs all cases plainly each time it is called; seconds."""
    command = [sys.executable, __file__, "--plainly", backend, how, "--cases", str(options.cases)]
    command += ["--threads", str(options.threads)] if options.threads else []
    environment = os.environ | ({"OMP_WAIT_POLICY": "PASSIVE"} if options.pools == "passive" else {})
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = (line.removeprefix(SAID) for line in process.stdout if line.startswith(SAID))
        next(answers)  # it is ready

        def run() -> float:
            print(file=process.stdin, flush=True)
            return float(next(answers))

        yield run


@contextmanager
def harness(plan: Plan, backend: str, how: str, scratch: Path) -> Iterator[Interleaver]:
    """A worker under the harness."""
    directory = RunDirectory.create(scratch / how)
    own = plan.record.settings.variants[backend]
    interleaver = Interleaver(
        RunStore(directory, {backend: VariantRecord(name=backend, settings=own)}), plan.record, Silent()
    )
    opening = next(each for each in plan.opens if each.name == backend)
    interleaver.open(replace(opening, keep_memory=how == allocator.KEEP))
    try:
        yield interleaver
    finally:
        interleaver.fleet.close_all_but(())


def launch(options: argparse.Namespace, backend: str, number: int) -> dict[str, list[Round]]:
    """The rounds of one launch of all processes, by allocator; both have run all cases once before."""
    plan = plan_of(backend, options.cases, options.threads)
    rounds: dict[str, list[Round]] = {how: [] for how in options.allocators}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        sides: dict[tuple[str, str], Any] = {}
        for how in options.allocators:
            sides[HARNESS, how] = stack.enter_context(harness(plan, backend, how, Path(scratch)))
            sides[PLAIN, how] = stack.enter_context(plain(options, backend, how))
        for index in range(options.rounds + 1):
            seconds = {}
            for side in random.Random(f"{number} {index}").sample(list(sides), len(sides)):
                start = time.perf_counter()
                if side[0] == HARNESS:
                    sides[side].round(INTERLEAVED, index)
                    seconds[side] = time.perf_counter() - start
                else:
                    seconds[side] = sides[side]()
            for how in options.allocators if index else ():
                samples = sides[HARNESS, how].store.records[backend].samples
                timed = sum(s.case_ns for s in samples if (s.phase, s.round) == (INTERLEAVED, index)) * 1e-9
                rounds[how].append(Round({where: seconds[where, how] for where in (HARNESS, PLAIN)}, timed))
    return rounds


def bounds_of_median(values: Sequence[float]) -> tuple[float, float]:
    """The order statistics between which the median lies with a confidence of at least 95 %; else the extremes."""
    ordered, n = sorted(values), len(values)
    rank = max(int(stats.binom.ppf(0.025, n, 0.5)) - 1, 0)
    return ordered[rank], ordered[n - 1 - rank]


def percent(ratios: Sequence[float]) -> str:
    middle, low, high = (100 * (ratio - 1) for ratio in (median(ratios), *bounds_of_median(ratios)))
    return f"{middle:+.2f} % [{low:+.2f}, {high:+.2f}]"


def show(backend: str, how: str, launches: Sequence[Sequence[Round]], cases: int) -> None:
    rounds = [each for of_launch in launches for each in of_launch]
    ratios = [[r.seconds[HARNESS] / r.seconds[PLAIN] for r in of_launch] for of_launch in launches]
    within = [r.timed / r.seconds[PLAIN] for r in rounds]
    outside = 1 - sum(r.timed for r in rounds) / sum(r.seconds[HARNESS] for r in rounds)
    case_s = median(r.seconds[PLAIN] for r in rounds) / cases
    each = ", ".join(f"{100 * (median(of_launch) - 1):+.2f} %" for of_launch in ratios)
    cost = percent([ratio for of_launch in ratios for ratio in of_launch])
    print(f"| `{backend}` | {how} | {case_s:.3f} s | {cost} | {each} | {percent(within)} | {100 * outside:.2f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch-fp32,openvino-fp32,openvino-int8", help="one after the other")
    parser.add_argument("--allocators", default=",".join(allocator.ALLOCATORS), help="of both sides of a pair")
    parser.add_argument("--cases", type=int, default=4, help="in a round")
    parser.add_argument("--rounds", type=int, default=15, help="of each launch")
    parser.add_argument("--launches", type=int, default=3, help="of all processes")
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--pools", choices=("default", "passive"), default="default", help="of the plain processes")
    parser.add_argument("--plainly", nargs=2, metavar=("BACKEND", "ALLOCATOR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plainly:
        backend, how = options.plainly
        serve_plainly(backend, how, options.cases, options.threads)
        return
    options.allocators = options.allocators.split(",")
    host = describe("cpu")
    print(f"{host.processor}, {host.cpu_features}, {host.cores} cores; {options.cases} cases, "
          f"{options.launches} launches of {options.rounds} rounds; plain pools: {options.pools}\n")  # fmt: skip
    print("| backend | freed memory | a case, plainly | harness over plain | by launch | timed case over plain "
          "| outside the timed cases |\n|---|---|---:|---:|---:|---:|---:|")  # fmt: skip
    for backend in options.backends.split(","):
        launches = [launch(options, backend, number) for number in range(options.launches)]
        for how in options.allocators:
            show(backend, how, [rounds[how] for rounds in launches], options.cases)


if __name__ == "__main__":
    main()
