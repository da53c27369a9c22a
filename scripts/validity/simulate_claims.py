"""How often the decision is wrong: made-up runs with a known truth, judged by the code that judges real ones.

    python scripts/validity/simulate_claims.py [--runs 200] [--seed 0] [--cases 16,36] [--candidates 1,6]

Each run goes the way of `bench run`: rounds until the claims converge, the choice of a backend, and a pass
of fresh samples by newly started processes. Prints the share of verdicts CONFIRMED for each true reduction of the case
time; for 0 (A/A, all candidates equal to the baseline) and all below 10 % that is the rate of false claims.

A sample's log time is the sum of the case's own (standard deviation 0.3), the backend's, what the backend does with
this case (0.01), what this launch of its process is like (``--start-sd``: 0.004, as two equal processes differed on one
machine with two cores; 0.017 on another), a drift of up to 10 % over the run with a slow wave of 3 %, noise that
remembers half of its last value (0.028), and, for one sample in fifty, 20 to 200 % on top.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.accuracy import task_of
from bench.schedule.limits import DEFAULT
from models.task import PANCREAS
from reports.decision.outcome import choose, converged, decide, judge_candidates
from reports.decision.verdict import CONFIRMED, Claim
from reports.records.record import (
    COMPLETE,
    CONFIRMATION,
    INTERLEAVED,
    OK,
    Case,
    CheckpointRecord,
    DataRecord,
    HostRecord,
    RunRecord,
    Sample,
    Score,
    Settings,
    StructureScore,
    VariantRecord,
    VariantSettings,
)
from reports.records.store import Run
from reports.stats.bootstrap import Interval

BASELINE = "baseline"
REDUCTIONS = (0.0, 5.0, 9.0, 10.0, 11.0, 15.0, 25.0)  # %
BUDGET_ROUNDS = 6  # what the default budget leaves of the rounds with some 36 cases of 1.4 s
OF_CASE, OF_BACKEND_IN_CASE, OF_SAMPLE, MEMORY = 0.3, 0.01, 0.028, 0.5
DRIFT, WAVE, OUTLIERS = 0.10, 0.03, 0.02


@dataclass
class Machine:
    """Draws the times of a run's samples, one after the other."""

    random: np.random.Generator
    cases: int
    names: list[str]
    effects: dict[str, float]  # log time of each backend
    start_sd: float

    def __post_init__(self) -> None:
        self._of_case = self.random.normal(0, OF_CASE, self.cases)
        self._interaction = {name: self.random.normal(0, OF_BACKEND_IN_CASE, self.cases) for name in self.names}
        self._drift = self.random.uniform(-DRIFT, DRIFT)
        self._phase = self.random.uniform(0, 2 * np.pi)
        self._last, self._taken = 0.0, 0
        self.restart(self.names)

    def restart(self, names: list[str]) -> None:
        self._of_start = {name: self.random.normal(0, self.start_sd) for name in names}

    def seconds(self, name: str, case: int) -> float:
        progress = self._taken / (2 * BUDGET_ROUNDS * self.cases * len(self.names))
        self._last = MEMORY * self._last + self.random.normal(0, OF_SAMPLE * np.sqrt(1 - MEMORY**2))
        self._taken += 1
        log = self._of_case[case] + self.effects[name] + self._interaction[name][case] + self._of_start[name]
        log += self._drift * progress + WAVE * np.sin(2 * np.pi * progress * 3 + self._phase) + self._last
        slow = self.random.uniform(1.2, 3.0) if self.random.random() < OUTLIERS else 1.0
        return float(np.exp(log) * slow)


NETWORK = CheckpointRecord(
    path="", sha256="", weights_sha256="", demo=True, architecture="none", width=8, parameters=0, labels=(0, 1, 2),
    subtypes=3, container="none",
)  # fmt: skip
DATA = DataRecord(root="", layout="none", split="none", sha256="", demo=True)
HOST = HostRecord(processor="none", cores=2, memory_bytes=0)


def variant_settings(name: str) -> VariantSettings:
    return VariantSettings(backend=name, roi="none", overlap=0.5, batch=1)


def settings(names: list[str]) -> Settings:
    return Settings(
        variants={name: variant_settings(name) for name in names}, device="cpu", protocol="sliding-window", overlap=0.5,
        roi="none", tile=(64, 64, 64),
        batch=1, rounds=None, budget_s=600.0, threads=2, seed=0, min_reduction_pct=10.0, max_dsc_drop=0.005,
        max_nsd_drop=0.01, max_f1_drop=0.02, required=(), timeout_s=600.0, allocator="keep",
    )  # fmt: skip


def simulate(random: np.random.Generator, cases: int, candidates: int, reduction: float, start_sd: float) -> Run:
    """One run whose candidates all take `reduction` percent less time than the baseline, and label as it does."""
    names = [BASELINE, *(f"candidate{number}" for number in range(candidates))]
    effects = dict.fromkeys(names, float(np.log(1 - reduction / 100))) | {BASELINE: 0.0}
    machine = Machine(random, cases, names, effects, start_sd)
    held = tuple(Case(f"case{i}", f"case{i}", f"mask{i}", i % 3, (64, 64, 64), (1.0, 1.0, 1.0)) for i in range(cases))
    scores = tuple(
        Score(
            case=case.name,
            structures={
                "whole pancreas": StructureScore(dsc=0.9, nsd=0.95),
                "lesion": StructureScore(dsc=0.8, nsd=0.9),
            },
            subtype=case.subtype, baseline_subtype=case.subtype, voxels=10**6, differing_voxels=0,
        )
        for case in held
    )  # fmt: skip
    record = RunRecord(
        id="simulated", created="", command="", settings=settings(names), checkpoint=NETWORK,
        task=task_of(PANCREAS, (0, 1, 2), 3), data=DATA, cases=held, host=HOST,
        versions={}, controlled_settings={}, baseline=BASELINE, status=COMPLETE,
    )  # fmt: skip
    variants = (VariantRecord(name=name, settings=variant_settings(name), status=OK, scores=scores) for name in names)
    run = Run(record, tuple(variants), Path())
    claim = Claim.of(record.settings)
    for rounds in range(1, min(DEFAULT.rounds, BUDGET_ROUNDS) + 1):
        run = _round(run, machine, names, INTERLEAVED, rounds - 1, rounds - 1)
        machine.restart(names)
        if rounds >= DEFAULT.launches and converged(run, claim):
            break
    chosen = choose(run, claim)
    if chosen is None:
        return run
    run = replace(run, record=replace(record, confirmed=chosen))
    for number in range(rounds):
        run = _round(run, machine, [BASELINE, chosen], CONFIRMATION, number, rounds + number)
        machine.restart([BASELINE, chosen])
    return run


def _round(run: Run, machine: Machine, names: list[str], phase: str, number: int, start: int) -> Run:
    taken: dict[str, list[Sample]] = {name: [] for name in names}
    for case in machine.random.permutation(machine.cases):
        for name in machine.random.permutation(names):
            ns = round(machine.seconds(name, case) * 1e9)
            sample = Sample(phase, number, f"case{case}", ns, {"forward": ns}, None, 8, 0, float(machine._taken), ns)
            taken[name].append(replace(sample, launch=start))
    backends = (replace(each, samples=(*each.samples, *taken.get(each.name, []))) for each in run.variants)
    return replace(run, variants=tuple(backends))


@dataclass(frozen=True)
class Outcome:
    confirmed: bool
    rounds: int
    reduction: Interval


def outcomes(options: argparse.Namespace, cases: int, candidates: int, reduction: float) -> Iterator[Outcome]:
    for number in range(options.runs):
        random = np.random.default_rng([options.seed, number, cases, candidates, round(10 * reduction)])
        run = simulate(random, cases, candidates, reduction, options.start_sd)
        claim = Claim.of(run.record.settings)
        judged = judge_candidates(run, claim)
        decision = decide(run, claim, judged)
        shown = decision.confirmation or next(iter(judged.values())).comparison.case
        rounds = 1 + max(sample.round for sample in run.variant(BASELINE).samples if sample.phase == INTERLEAVED)
        yield Outcome(decision.verdict == CONFIRMED, rounds, shown.reduction)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="16,36")
    parser.add_argument("--candidates", default="1,6")
    parser.add_argument("--start-sd", type=float, default=0.004, help="of a start's log time")
    parser.add_argument("--reductions", default=",".join(map(str, REDUCTIONS)))
    options = parser.parse_args()
    print("| true reduction | cases | candidates | CONFIRMED | rounds, median | half-width of the interval, median |")
    print("|---:|---:|---:|---:|---:|---:|")
    for candidates in map(int, options.candidates.split(",")):
        for cases in map(int, options.cases.split(",")):
            for reduction in map(float, options.reductions.split(",")):
                runs = list(outcomes(options, cases, candidates, reduction))
                rate = 100 * np.mean([run.confirmed for run in runs])
                half = np.median([(run.reduction.high - run.reduction.low) / 2 for run in runs])
                rounds = np.median([run.rounds for run in runs])
                print(
                    f"| {reduction:g} % | {cases} | {candidates} | {rate:.1f} % | {rounds:g} | {half:.2f} points |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
