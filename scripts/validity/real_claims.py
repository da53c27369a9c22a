"""How often the decision is wrong on this machine: real runs of the demo with a known truth.

    python scripts/validity/real_claims.py aa --runs 30                  two equal backends: no claim may be confirmed
    python scripts/validity/real_claims.py power --reductions 5,9,11,15,25 --runs 4
    python scripts/validity/real_claims.py neighbour --reductions 0,25 --runs 10  both cores loaded for half of the run
    python scripts/validity/real_claims.py noise --runs 3                2 % of the logits are those of other voxels
    python scripts/validity/real_claims.py show

Each run is a whole `bench run`, with worker processes of its own, of the bundled demo. A true reduction of the case
time is made by a baseline that sleeps after each forward, for a share of that forward's own time; what it really came
to is read from the samples. Whether accuracy alone would pass is the verdict under a claim that any time meets.
Outcomes are appended to ``--out`` (a line of JSON each) and are not measured again:
interrupted, it goes on where it was. `show` prints them as tables.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import engines
from bench.cli.main import main as bench
from engines import BASELINE
from engines.base import Backend
from reports.decision.verdict import CONFIRMED, INCONCLUSIVE, REFUTED
from reports.records.record import INTERLEAVED
from reports.records.store import read_run
from reports.summary.summarise import summarise

FORWARD_SHARE = 0.96  # of the case, at width 8; the sleep is a share of the forward, the truth is read from the samples
PERIOD_S = 4.0  # of the neighbour: it works for half of each
VERDICTS = (CONFIRMED, REFUTED, INCONCLUSIVE)
BURN = "while True: pass"
ANY_TIME = -1000.0  # a reduction in per cent that every backend reaches


@contextlib.contextmanager
def neighbour(busy: bool, seed: int) -> Iterator[None]:
    """A process on each core that works for half of the time, in turns of random length."""
    if not busy:
        yield
        return
    burning = [subprocess.Popen([sys.executable, "-P", "-c", BURN]) for _ in range(os.cpu_count() or 1)]
    turns = f"""
import os, random, signal, time
chance = random.Random({seed})
while True:
    for what in (signal.SIGCONT, signal.SIGSTOP):
        for process in {[process.pid for process in burning]}:
            os.kill(process, what)
        time.sleep(chance.uniform(0.5, 1.5) * {PERIOD_S / 2})
"""
    switch = subprocess.Popen([sys.executable, "-P", "-c", turns])
    try:
        yield
    finally:
        switch.kill()
        switch.wait()
        for process in burning:
            process.kill()
            process.wait()


def measure(options: argparse.Namespace, reduction: float, number: int) -> dict[str, Any]:
    """One run of the demo whose baseline sleeps so long that the other takes `reduction` percent less time."""
    share = reduction / 100 / (1 - reduction / 100) / FORWARD_SHARE
    os.environ["VOXBENCH_INJECT"] = "noise=0.02" if options.what == "noise" else f"sleep={share}"
    row = engines.BACKENDS[BASELINE]
    own = Backend("scripts.validity.injected:InjectedEngine", row.precision)
    slowed = {BASELINE: own, "plain": row} if reduction else {}
    noised = {"noised": own} if options.what == "noise" else {}
    names = next(iter(noised), "plain" if reduction else BASELINE)
    with (
        tempfile.TemporaryDirectory() as folder,
        neighbour(options.what == "neighbour", number),
        patch.dict(engines.BACKENDS, slowed | noised),
        io.StringIO() as printed,
    ):
        command = ["run", "--device", "cpu", "--backends", f"{BASELINE},{names}", "--seed", str(number)]
        command += ["--max-cases", str(options.cases), "--protocol", options.protocol, "--out", f"{folder}/run"]
        command += ["--budget", str(options.budget)]
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            code = bench(command)
        if code not in (0, 1, 3):
            raise SystemExit(printed.getvalue())
        return _outcome(Path(folder) / "run", share) | {"exit": code}


def _outcome(folder: Path, share: float) -> dict[str, Any]:
    run = read_run(folder)
    summary = summarise(run)
    any_time = summarise(run, replace(summary.claim, min_reduction_pct=ANY_TIME))
    candidate, alone = (next(row for row in each.rows if not row.is_baseline) for each in (summary, any_time))
    speed = summary.confirmation or candidate.case
    baseline = run.variant(run.record.baseline).samples
    slept = [s.stages_ns["forward"] * share / (1 + share) / s.case_ns for s in baseline]
    return {
        "verdict": summary.verdict,
        "row": candidate.verdict,
        "true": 100 * mean(slept),
        "estimate": speed.reduction.estimate,
        "low": speed.reduction.low,
        "high": speed.reduction.high,
        "confirmed_on_fresh": summary.confirmation is not None,
        "row_low": candidate.case.reduction.low,
        "row_high": candidate.case.reduction.high,
        "starts": candidate.case.launches,
        "rounds": 1 + max(s.round for s in baseline if s.phase == INTERLEAVED),
        "seconds": max(s.started_unix_s for s in baseline) - min(s.started_unix_s for s in baseline),
        "reasons": list(summary.reasons),
        "accuracy": alone.verdict,
        "accuracy_reasons": list(alone.reasons),
    }


def show(out: Path) -> None:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for line in out.read_text().splitlines():
        run = json.loads(line)
        groups[run["what"], run["reduction"], run["cases"], run["protocol"]].append(run)
    head = ["experiment", "reduction set", "true, median", "cases", "protocol", "runs", *VERDICTS]
    head += ["half-width, median", "truth within the bounds", "measuring, median", "accuracy lost"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for (what, reduction, cases, protocol), runs in sorted(groups.items()):
        verdicts = Counter(run["verdict"] for run in runs)
        half = median((run["high"] - run["low"]) / 2 for run in runs)
        within = sum(run["low"] <= run["true"] <= run["high"] for run in runs)
        cells = [what, f"{reduction:g} %", f"{median(run['true'] for run in runs):.1f} %", cases, protocol, len(runs)]
        cells += [*(verdicts[name] for name in VERDICTS), f"{half:.2f} points", f"{within} of {len(runs)}"]
        cells += [f"{median(run['seconds'] for run in runs):.0f} s"]
        judged = [run["accuracy"] for run in runs if "accuracy" in run]  # only some of the committed ones have it
        cells.append(f"{judged.count(REFUTED)} of {len(judged)}")
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("aa", "power", "neighbour", "noise", "show"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--reductions", default="0", help="true reductions of the case time in per cent")
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--protocol", default="sliding-window")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of samples in a run")
    parser.add_argument("--out", type=Path, default=Path("claims.jsonl"))
    options = parser.parse_args()
    if options.what == "show":
        show(options.out)
        return
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    wanted = [(number, float(each)) for number in range(options.runs) for each in options.reductions.split(",")]
    random.Random(0).shuffle(wanted)
    for number, reduction in wanted:
        place = {"what": options.what, "reduction": reduction, "number": number, "cases": options.cases}
        place |= {"protocol": options.protocol}
        if any(place.items() <= run.items() for run in done):
            continue
        run = place | measure(options, reduction, number)
        with options.out.open("a") as file:
            file.write(json.dumps(run) + "\n")
        print(f"{options.what} {reduction:g} % #{number}: {run['verdict']}, {run['estimate']:.2f} "
              f"[{run['low']:.2f}, {run['high']:.2f}] %, true {run['true']:.2f} %", flush=True)  # fmt: skip


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
