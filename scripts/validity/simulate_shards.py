"""How often the decision on shards is wrong: made-up runs on several machines, judged by the code for real ones.

    python scripts/validity/simulate_shards.py [--runs 1000] [--seed 0] [--cases 36] [--rounds 3]

Each run is one of so many shards, whose machines differ in what the variant saves: by a normal deviation of the log
ratio around the truth (``machine_sd``). In everything else a machine is that of simulate_claims.py, with launches that
differ by a standard deviation of 0.004 and a launch for each round. A shard times its cases in fixed rounds, then
confirms the variant on fresh samples on the same machine, unless its own rounds refute it. The whole is CONFIRMED where
no shard refuted the variant, and the fresh samples of all together confirm the claim.

Prints a line of CSV for each experiment, which is docs/results/claims/shards.csv: of so many runs those whose lower
bound lies above the truth, whatever the shards chose, and those that were CONFIRMED; and the median half of the
distance between the bounds, in points. With the truth at the claim, 10 %, the former two should be at most 5 % of the
runs; with it at 15 %, ``confirmed`` is the power. One shard stands for one machine that does all.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from simulate_claims import BASELINE, Machine, settings

from bench.shard import Shard
from reports.decision.speed import Pair, case_ns, speed
from reports.decision.verdict import CONFIRMED, REFUTED, Claim, judge_speed
from reports.records.record import CONFIRMATION, INTERLEAVED, Sample

VARIANT = "variant"
START_SD = 0.004
EXPERIMENTS = (
    (1, 0.0, 10.0), (1, 0.0, 15.0),
    *((shards, sd, reduction) for reduction in (10.0, 15.0) for shards in (2, 3, 8) for sd in (0.0, 0.01, 0.05)),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Of one run; `above`: the lower bound of the reduction lies above the truth."""

    above: bool
    confirmed: bool
    half_width: float


def times(machine: Machine, names: Sequence[str], shard: int, phase: str, rounds: range) -> list[Pair]:
    """The pairs of a shard, whose processes are launched anew before each round."""
    paired = []
    for number in rounds:
        machine.restart([BASELINE, VARIANT])
        for case in machine.random.permutation(len(names)).tolist():
            taken = {}
            for name in machine.random.permutation([BASELINE, VARIANT]):
                ns = round(machine.seconds(name, case) * 1e9)
                taken[name] = Sample(
                    phase, number, names[case], ns, {}, None, 8, None, 0.0, 0, launch=number, shard=shard
                )
            paired.append((taken[BASELINE], taken[VARIANT]))
    return paired


def simulate(random: np.random.Generator, options: argparse.Namespace, shards: int, sd: float, truth: float) -> Outcome:
    """One run of so many shards."""
    claim = Claim.of(settings([BASELINE, VARIANT], race=False))
    cases = [f"case{number:03d}" for number in range(options.cases)]
    fresh: list[Pair] = []
    refuted = False
    for number in range(1, shards + 1):
        names = Shard(number, shards).names(cases)
        effects = {BASELINE: 0.0, VARIANT: float(np.log(1 - truth / 100) + random.normal(0, sd))}
        machine = Machine(random, len(names), [BASELINE, VARIANT], effects, START_SD)
        own = speed(times(machine, names, number, INTERLEAVED, range(options.rounds)), case_ns)
        refuted |= judge_speed(own, claim).verdict == REFUTED
        fresh += times(machine, names, number, CONFIRMATION, range(options.rounds, 2 * options.rounds))
    shown = speed(fresh, case_ns)
    return Outcome(
        above=shown.reduction.low > truth,
        confirmed=not refuted and judge_speed(shown, claim).verdict == CONFIRMED,
        half_width=(shown.reduction.high - shown.reduction.low) / 2,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["shards", "cases", "machine_sd", "reduction", "runs", "above", "confirmed", "half_width"])
    for shards, sd, reduction in EXPERIMENTS:
        seeds = (
            [options.seed, number, shards, round(1000 * sd), round(10 * reduction)] for number in range(options.runs)
        )
        runs = [simulate(np.random.default_rng(seed), options, shards, sd, reduction) for seed in seeds]
        above, confirmed = sum(run.above for run in runs), sum(run.confirmed for run in runs)
        half = f"{median(run.half_width for run in runs):.2f}"
        table.writerow([shards, options.cases, sd, f"{reduction:g}", options.runs, above, confirmed, half])
        sys.stdout.flush()


if __name__ == "__main__":
    main()
