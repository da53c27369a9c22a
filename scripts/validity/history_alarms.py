"""How often `bench history` sees a change that is none, and how soon it sees one: made-up series of runs.

    python scripts/validity/history_alarms.py [--series 1000] [--seed 0] [--runs 20]

Each run's log speedup is the level, what the run happened to differ by (``noise``), and an error of its measurement,
whose size the run knows and which differs from run to run (0.2 to 1 %). The noise is normal, has heavy tails (Student's
t with 3 degrees of freedom), has one run in ten that is 10 % off, or is that of the real A/A runs in
docs/results/claims/demo-cpu-200.jsonl, drawn with replacement together with their errors. With ``carried over`` half of
a run's noise is that of the run before, which the test does not allow for.

Without a step, counted are series with a false alarm after all ``--runs``, and with one in any look: after each run
from the first that is looked at. With a step, which comes after half of the runs: series in which it was found in its
direction, and after how many runs. Prints a line of CSV for each experiment, which is docs/results/claims/history.csv.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from statistics import median

import numpy as np
from numpy.random import Generator

from reports.stats.bootstrap import Interval
from reports.stats.change_points import LEAST, ChangePoint, change_points, log_error
from reports.stats.launches import Floats

CLAIMS = Path(__file__).resolve().parents[2] / "docs/results/claims/demo-cpu-200.jsonl"
OWN_ERROR = (0.002, 0.010)  # of a run's measurement, least and largest
ODD = 0.10  # what an odd run is off by
RESAMPLES = 999  # of the order, rather than 9,999: as valid, a little coarser, and fast enough for many series

Series = tuple[Floats, Floats]  # log speedups, and their standard errors [runs]


@dataclass(frozen=True)
class Outcome:
    """What became of the series of one experiment; `delays`: runs after the step, of those in which it was found."""

    series: int
    one_look: int
    any_look: int
    delays: tuple[int, ...]


def normal(chance: Generator, runs: int, sd: float) -> Floats:
    return chance.normal(0, sd, runs)


def heavy_tailed(chance: Generator, runs: int, sd: float) -> Floats:
    noise: Floats = chance.standard_t(3, runs) * sd / np.sqrt(3)
    return noise


def sometimes_odd(chance: Generator, runs: int, sd: float) -> Floats:
    odd: Floats = (chance.random(runs) < 0.1) * chance.choice([-ODD, ODD], runs)
    return normal(chance, runs, sd) + odd


def carried_over(chance: Generator, runs: int, sd: float) -> Floats:
    noise = normal(chance, runs, sd)
    for i in range(1, runs):
        noise[i] = 0.5 * noise[i - 1] + np.sqrt(0.75) * noise[i]
    return noise


NOISES: dict[str, Callable[[Generator, int, float], Floats]] = {
    "normal": normal, "heavy tails": heavy_tailed, "odd runs": sometimes_odd, "carried over": carried_over,
}  # fmt: skip
REAL = "real A/A runs"
EXPERIMENTS = (
    *((noise, sd, step) for noise in ("normal",) for sd in (0.01, 0.02) for step in (0, 5, 10)),
    *((noise, 0.01, step) for noise in ("heavy tails", "odd runs") for step in (0, 5, 10)),
    *((REAL, 0.0, step) for step in (0, 5, 10)),
    ("carried over", 0.01, 0),
)


@cache
def real_runs() -> Series:
    """The log speedups of the committed A/A runs, and their standard errors."""
    lines = [json.loads(line) for line in CLAIMS.read_text(encoding="utf-8").splitlines()]
    speedups = [
        Interval(*(1 / (1 - run[name] / 100) for name in ("estimate", "low", "high")))
        for run in lines
        if run["what"] == "aa"
    ]
    return np.array([log(s.estimate) for s in speedups]), np.array([log_error(s) for s in speedups])


def draw(chance: Generator, noise: str, sd: float, step_pct: float, runs: int) -> Series:
    """A series whose speedup falls by `step_pct` per cent after half of the `runs`."""
    if noise == REAL:
        values, errors = real_runs()
        drawn = chance.integers(values.size, size=runs)
        y, s = values[drawn], errors[drawn]
    else:
        s = chance.uniform(*OWN_ERROR, runs)
        y = NOISES[noise](chance, runs, sd) + chance.normal(0, s)
    y = y.copy()
    y[runs // 2 :] += log(1 - step_pct / 100)
    return y, s


def experiment(noise: str, sd: float, step_pct: float, series: int, runs: int, seed: int) -> Outcome:
    """Look at each of so many series after every run."""
    chance = np.random.default_rng((seed, int(1000 * sd), int(step_pct), *noise.encode()))
    one_look, any_look, delays = 0, 0, []
    for _ in range(series):
        y, s = draw(chance, noise, sd, step_pct, runs)
        if step_pct:
            looks = range(max(LEAST, runs // 2 + 1), runs + 1)
            first = next((n for n in looks if any(c.change.estimate < 0 for c in _changes(y[:n], s[:n]))), None)
            delays += [first - runs // 2] if first else []
        else:
            alarms = [bool(_changes(y[:n], s[:n])) for n in range(LEAST, runs + 1)]
            one_look += alarms[-1]
            any_look += any(alarms)
    return Outcome(series, one_look, any_look, tuple(delays))


def _changes(y: Floats, s: Floats) -> tuple[ChangePoint, ...]:
    return change_points(y, s, RESAMPLES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        ["noise", "sd", "step_pct", "runs", "series", "one_look", "any_look", "found", "delay_median", "delay_p90"]
    )
    for noise, sd, step in EXPERIMENTS:
        own = experiment(noise, sd, step, options.series, options.runs, options.seed)
        delays = [median(own.delays), float(np.percentile(own.delays, 90))] if own.delays else ["", ""]
        alarms = ["", ""] if step else [own.one_look, own.any_look]
        steps = [len(own.delays)] if step else [""]
        table.writerow([noise, sd, step, options.runs, own.series, *alarms, *steps, *delays])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
