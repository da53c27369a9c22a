"""What the harness costs: cases run by a worker under the harness against the same cases run plainly.

    python scripts/benchmark_harness.py [--backends torch-fp32,openvino-int8] [--launches 12] [--demo-width 32]

Both do the same work on the same files through the same engine, each in a process of its own, in turns. Under the
harness a case also is asked for through a socket, timed in stages, watched, answered, and saved to the run directory;
plainly it is a call in a loop. Of either there is one process for each allocator (see `bench.worker.allocator`): memory
that is freed is kept by both, or goes back to the system from both. Comparing one that keeps it with one that does not
would measure the allocator.

The cost is wall time under the harness over plain wall time, less one. Two processes that run the same code differ, by
several percent and for as long as they live, so no number of rounds shows the cost: each launch starts all processes
anew and gives the median of its rounds. Told is the median of the launches, with its 95 % interval by order statistics
(David & Nagaraja, Order Statistics, 2003, section 7.1), the extremes where there are fewer than six.

A process that sleeps before each case is slower than one that never rests, and a worker rests while its results are
saved. ``--pause`` seconds of sleep before each plain case, which are not timed, show what rest alone costs.
``--pools passive`` has the plain process's OpenMP pool sleep when it is idle.
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
from bench.cli.terminal import PlainProgress
from bench.machine.host import describe
from bench.pipeline.pipeline import Pipeline
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.progress import Standing
from bench.schedule.interleave import Interleaver
from bench.schedule.run_directory import RunDirectory
from bench.schedule.store import RunStore
from bench.worker import allocator
from bench.worker.messages import Open
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

    def stand(self, rows: Callable[[], Sequence[Standing]]) -> None:
        pass


@dataclass(frozen=True)
class Round:
    """Seconds of all cases in one round, by where they ran; `timed`: those that the harness says they took."""

    seconds: Mapping[str, float]
    timed: float


def plan_of(options: argparse.Namespace, backend: str) -> Plan:
    request = Request(
        backends=backend,
        device="cpu",
        max_cases=options.cases,
        threads=options.threads,
        demo_width=options.demo_width,
    )
    return make_plan(request, "benchmark", "", PlainProgress(sys.stderr))


def serve_plainly(options: argparse.Namespace) -> None:
    """Run all cases for each line read, and answer with the seconds that they took."""
    backend, how = options.plainly
    if how == allocator.KEEP and not allocator.keep_freed():
        raise SystemExit("this C library cannot keep what is freed")
    plan = plan_of(options, backend)
    opening = next(each for each in plan.opens if isinstance(each, Open) and each.name == backend)
    torch.set_num_threads(opening.target.threads)
    model = build_model(read_checkpoint(opening.checkpoint), widen_to=opening.widen_to)
    with tempfile.TemporaryDirectory() as scratch, engines.load(backend).open(model, opening.target) as session:
        pipeline = Pipeline(session, opening.settings)
        print(f"{SAID}ready", flush=True)
        for _ in sys.stdin:
            paused, start = 0.0, time.perf_counter()
            for case in plan.record.cases:
                paused += pause(options.pause)
                pipeline.run(tuple(map(Path, case.images)), Path(scratch) / f"{case.name}.nii.gz")
            print(f"{SAID}{time.perf_counter() - start - paused}", flush=True)


def pause(seconds: float) -> float:
    """How long it took."""
    start = time.perf_counter()
    if seconds:
        time.sleep(seconds)
    return time.perf_counter() - start


@contextmanager
def plain(options: argparse.Namespace, backend: str, how: str) -> Iterator[Callable[[], float]]:
    """A process that runs all cases plainly each time it is called; seconds."""
    command = [sys.executable, __file__, *sys.argv[1:], "--plainly", backend, how]
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
    opening = next(each for each in plan.opens if isinstance(each, Open) and each.name == backend)
    interleaver.open_one(replace(opening, keep_memory=how == allocator.KEEP))
    try:
        yield interleaver
    finally:
        interleaver.fleet.close_all_but(())


def launch(options: argparse.Namespace, backend: str, number: int) -> dict[str, list[Round]]:
    """The rounds of one launch of all processes, by allocator; both have run all cases once before."""
    plan = plan_of(options, backend)
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
                    sides[side].round(INTERLEAVED, index, plan.record.cases)
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
    costs = [median(r.seconds[HARNESS] / r.seconds[PLAIN] for r in of_launch) for of_launch in launches]
    within = [median(r.timed / r.seconds[PLAIN] for r in of_launch) for of_launch in launches]
    outside = 1 - sum(r.timed for r in rounds) / sum(r.seconds[HARNESS] for r in rounds)
    case_s = median(r.seconds[PLAIN] for r in rounds) / cases
    each = ", ".join(f"{100 * (cost - 1):+.1f}" for cost in sorted(costs))
    cost, timed = percent(costs), percent(within)
    print(f"| `{backend}` | {how} | {case_s:.3f} s | {cost} | {each} | {timed} | {100 * outside:.2f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="torch-fp32,openvino-fp32,openvino-int8", help="one after the other")
    parser.add_argument("--allocators", default=",".join(allocator.ALLOCATORS), help="of both sides of a pair")
    parser.add_argument("--cases", type=int, default=2, help="in a round")
    parser.add_argument("--rounds", type=int, default=3, help="of each launch")
    parser.add_argument("--launches", type=int, default=12, help="of all processes")
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--demo-width", type=int, help="channels of the demo's first layer")
    parser.add_argument("--pause", type=float, default=0, help="seconds that plain processes sleep before each case")
    parser.add_argument("--pools", choices=("default", "passive"), default="default", help="of the plain processes")
    parser.add_argument("--plainly", nargs=2, metavar=("BACKEND", "ALLOCATOR"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plainly:
        serve_plainly(options)
        return
    options.allocators = options.allocators.split(",")
    host = describe("cpu")
    print(f"{host.processor}, {host.cpu_features}, {host.cores} cores; width {options.demo_width or 'of the demo'}, "
          f"{options.cases} cases, {options.launches} launches of {options.rounds} rounds; plain processes' pools: "
          f"{options.pools}, pause before a case: {options.pause:g} s\n")  # fmt: skip
    print("| backend | freed memory | a case, plainly | harness over plain | by launch | timed case over plain "
          "| outside the timed cases |\n|---|---|---:|---:|---:|---:|---:|")  # fmt: skip
    for backend in options.backends.split(","):
        launches = [launch(options, backend, number) for number in range(options.launches)]
        for how in options.allocators:
            show(backend, how, [rounds[how] for rounds in launches], options.cases)


if __name__ == "__main__":
    main()
