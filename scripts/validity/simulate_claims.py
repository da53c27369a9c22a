"""How often the decision is wrong: made-up runs with a known truth, judged by the code that judges real ones.

    python scripts/validity/simulate_claims.py [--runs 200] [--seed 0] [--cases 16,36] [--candidates 1,6] [--race on]
    python scripts/validity/simulate_claims.py --candidates 10 --lead 10 --lossy 3
    python scripts/validity/simulate_claims.py --candidates 10 --case-sd 0.13

Each run goes the way of `bench run`: rounds until the claims converge or the race is settled, the choice of a backend,
and a pass of fresh samples by newly started processes. Prints the share of verdicts CONFIRMED for each true reduction
of the case time; for 0 (A/A, all candidates equal to the baseline) and all below 10 % that is the rate of false claims.
With ``--lead`` one candidate takes so many percent less time than each of the others, whose reduction is that of the
row; of the others the ``--lossy`` first are faster still and lose accuracy. *Leader chosen*: how often it was the one
that the run confirmed on fresh samples, or nothing was to be confirmed. *Samples*: of all the rounds, and of the
confirmation. *Bound above the truth*: how often the lower bound of a confirmation is; it should be at most 5 %.

A sample's log time is the sum of the case's own (standard deviation 0.3), the backend's, what the backend does with
this case (0.01; of the baseline ``--case-sd``, which is in the speedups of all candidates alike), what this launch of
its process is like (``--start-sd``: 0.004, as two equal processes differed on one machine with two cores; 0.017 on
another), a drift of up to 10 % over the run with a slow wave of 3 %, noise that remembers half of its last value
(0.028), and, for one sample in fifty, 20 to 200 % on top.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.accuracy import task_of
from bench.choices import RACES
from bench.schedule.limits import DEFAULT
from models.task import PANCREAS
from reports.decision.confirmation_plan import ConfirmationPlan, Cost, soonest
from reports.decision.outcome import choose, converged, decide, judge_candidates
from reports.decision.racing import accuracy_states, behind, is_settled, leaving, level_after, level_early, looks
from reports.decision.verdict import CONFIRMED, Claim
from reports.records.record import (
    COMPLETE,
    CONFIRMATION,
    INTERLEAVED,
    OK,
    Case,
    CheckpointRecord,
    ConfirmationRecord,
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
LOSS = 0.02  # of a lossy candidate's DSC
LAUNCH_S = 5.0  # of the pair of processes that is confirmed; a case takes about a second
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
    case_sd: float = OF_BACKEND_IN_CASE

    def __post_init__(self) -> None:
        self._of_case = self.random.normal(0, OF_CASE, self.cases)
        spread = {name: self.case_sd if name == BASELINE else OF_BACKEND_IN_CASE for name in self.names}
        self._interaction = {name: self.random.normal(0, sd, self.cases) for name, sd in spread.items()}
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


def settings(names: list[str], race: bool) -> Settings:
    return Settings(
        variants={name: variant_settings(name) for name in names}, device="cpu", protocol="sliding-window", overlap=0.5,
        roi="none", tile=(64, 64, 64),
        batch=1, rounds=None, budget_s=600.0, threads=2, seed=0, min_reduction_pct=10.0, max_dsc_drop=0.005,
        max_nsd_drop=0.01, max_f1_drop=0.02, required=(), timeout_s=600.0, allocator="keep", race=race,
    )  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What is true of a candidate: how many percent less time it takes than the baseline, and the DSC that it loses."""

    reduction: float
    loss: float = 0.0


def simulate(
    random: np.random.Generator,
    cases: int,
    candidates: Sequence[Truth],
    start_sd: float,
    race: bool = False,
    case_sd: float = OF_BACKEND_IN_CASE,
) -> Run:
    """One run of candidates of which the truth is known."""
    names = [BASELINE, *(f"candidate{number}" for number in range(len(candidates)))]
    truths = dict(zip(names, (Truth(0.0), *candidates), strict=True))
    effects = {name: float(np.log(1 - truth.reduction / 100)) for name, truth in truths.items()}
    machine = Machine(random, cases, names, effects, start_sd, case_sd)
    held = tuple(Case(f"case{i}", f"case{i}", f"mask{i}", i % 3, (64, 64, 64), (1.0, 1.0, 1.0)) for i in range(cases))
    record = RunRecord(
        id="simulated", created="", command="", settings=settings(names, race), checkpoint=NETWORK,
        task=task_of(PANCREAS, (0, 1, 2), 3), data=DATA, cases=held, host=HOST,
        versions={}, controlled_settings={}, baseline=BASELINE, status=COMPLETE,
    )  # fmt: skip
    variants = (VariantRecord(name=name, settings=variant_settings(name), status=OK) for name in names)
    run, rounds = _interleave(Run(record, tuple(variants), Path()), machine, truths)
    chosen = choose(run, Claim.of(record.settings))
    if chosen is None:
        return run
    plan = _confirmation(run, chosen, rounds)
    order = machine.random.permutation(cases)[: plan.cases]
    planned = ConfirmationRecord(
        cases=tuple(f"case{case}" for case in order), launches=plan.launches, rounds=plan.rounds, repeated=plan.repeated
    )
    run = replace(run, record=replace(record, confirmed=chosen, confirmation=planned))
    for number in range(plan.rounds):
        machine.restart([BASELINE, chosen])
        own = [int(name.removeprefix("case")) for name in planned.of_launch(number)]
        run = _round(run, machine, [BASELINE, chosen], CONFIRMATION, number, rounds + number, own)
    return run


def _confirmation(run: Run, chosen: str, rounds: int) -> ConfirmationPlan:
    """As `bench run` plans it; each of the `rounds` before was a launch."""
    launches, cases = max(rounds, DEFAULT.launches), len(run.record.cases)
    plan = ConfirmationPlan(cases=cases, launches=launches, rounds=launches, repeated=cases)
    if not run.record.settings.race:
        return plan
    pair = [s.case_ns for name in (BASELINE, chosen) for s in run.variant(name).samples]
    cost = Cost(case_s=2e-9 * float(np.mean(pair)), launch_s=LAUNCH_S)
    return soonest(run, chosen, Claim.of(run.record.settings), cost, plan, DEFAULT.launches)


def _interleave(run: Run, machine: Machine, truths: dict[str, Truth]) -> tuple[Run, int]:
    """The rounds of a run, a launch each, and how many they were; the accuracy is known after the first."""
    claim, race = Claim.of(run.record.settings), run.record.settings.race
    run, looked = _first_round(run, machine, truths)
    accuracy, rounds = accuracy_states(run, claim), 1
    while not (race and is_settled(run, claim)) and not (rounds >= DEFAULT.launches and converged(run, claim)):
        if rounds == min(DEFAULT.rounds, BUDGET_ROUNDS):
            break
        machine.restart([variant.name for variant in run.variants])
        rounds += 1
        racing = [variant.name for variant in run.variants if not variant.left]
        run = _round(run, machine, racing, INTERLEAVED, rounds - 1, rounds - 1)
        looked += 1
        if race:
            run = _left(run, leaving(run, claim, level_after(looked), accuracy))
    return run, rounds


def _first_round(run: Run, machine: Machine, truths: dict[str, Truth]) -> tuple[Run, int]:
    """The cases in passes: in a race variants wait until the accuracy of those that are faster is known.

    A pass runs the cases that one of its variants lacks through all of them, as `bench run` does. Returned is also how
    many passes there were, since each ends with a look at the samples.
    """
    claim, race = Claim.of(run.record.settings), run.record.settings.race
    order = machine.random.permutation(machine.cases).tolist()
    early, passes, waiting = set(looks(machine.cases)), 0, set[str]()
    while True:
        unknown = [variant.name for variant in run.variants[1:] if not (variant.left or variant.scores)]
        waiting = set(behind(run, claim, unknown, passes)) if passes else waiting
        for number, case in enumerate(order, 1):
            names = [variant.name for variant in run.variants if not variant.left and variant.name not in waiting]
            had = [{sample.case for sample in run.variant(name).samples} for name in names]
            if not all(f"case{case}" in cases for cases in had):
                run = _cases(_without(run, names, case), machine, names, [case], INTERLEAVED, 0, 0)
            if race and number in early:
                early.discard(number)
                run = _left(run, leaving(run, claim, level_early(machine.cases), accuracy_states(run, claim)))
                waiting |= set(behind(run, claim, [name for name in unknown if not run.variant(name).left], passes))
        passes += 1
        run = _with_scores(run, truths, waiting)
        if race:
            run = _left(run, leaving(run, claim, level_after(passes), accuracy_states(run, claim)))
        waiting = {name for name in waiting if not run.variant(name).left}
        if not waiting:
            return run, passes


def _left(run: Run, why: Mapping[str, str]) -> Run:
    return replace(run, variants=tuple(replace(each, left=why.get(each.name, each.left)) for each in run.variants))


def _without(run: Run, names: Collection[str], case: int) -> Run:
    """Without what these variants have of a case, of which they are run again."""

    def others(variant: VariantRecord) -> tuple[Sample, ...]:
        return tuple(s for s in variant.samples if variant.name not in names or s.case != f"case{case}")

    return replace(run, variants=tuple(replace(each, samples=others(each)) for each in run.variants))


def _with_scores(run: Run, truths: dict[str, Truth], waiting: Collection[str]) -> Run:
    return replace(
        run,
        variants=tuple(
            each if each.name in waiting or each.scores else _scored(each, truths[each.name]) for each in run.variants
        ),
    )


def _scored(variant: VariantRecord, truth: Truth) -> VariantRecord:
    """With the scores of the cases that it has had."""
    scores = (
        Score(
            case=sample.case,
            structures={
                "whole pancreas": StructureScore(dsc=0.9 - truth.loss, nsd=0.95),
                "lesion": StructureScore(dsc=0.8 - truth.loss, nsd=0.9),
            },
            subtype=0, baseline_subtype=0, voxels=10**6, differing_voxels=0,
        )
        for sample in variant.samples
    )  # fmt: skip
    return replace(variant, scores=tuple(scores))


def _round(
    run: Run, machine: Machine, names: list[str], phase: str, number: int, start: int, cases: Sequence[int] = ()
) -> Run:
    """Over these cases, by default over all."""
    order = machine.random.permutation(cases or machine.cases).tolist()
    return _cases(run, machine, names, order, phase, number, start)


def _cases(
    run: Run, machine: Machine, names: list[str], cases: Sequence[int], phase: str, number: int, start: int
) -> Run:
    taken: dict[str, list[Sample]] = {name: [] for name in names}
    for case in cases:
        for name in machine.random.permutation(names):
            ns = round(machine.seconds(name, case) * 1e9)
            subtype = run.record.cases[case].subtype
            sample = Sample(
                phase, number, f"case{case}", ns, {"forward": ns}, None, 8, subtype, float(machine._taken), ns
            )
            taken[name].append(replace(sample, launch=start))
    variants = (replace(each, samples=(*each.samples, *taken.get(each.name, []))) for each in run.variants)
    return replace(run, variants=tuple(variants))


@dataclass(frozen=True)
class Outcome:
    """Of one run.

    Attributes:
        leads: the first candidate was the one that the run confirmed, or none was.
        samples, confirmation: how many were taken in the rounds, and in the confirmation.
        above: the lower bound of the confirmation is above the truth.
    """

    confirmed: bool
    leads: bool
    rounds: int
    samples: int
    confirmation: int
    above: bool
    reduction: Interval


def outcomes(options: argparse.Namespace, cases: int, candidates: int, reduction: float) -> Iterator[Outcome]:
    for number in range(options.runs):
        random = np.random.default_rng([options.seed, number, cases, candidates, round(10 * reduction)])
        truths = _field(options, candidates, reduction)
        run = simulate(random, cases, truths, options.start_sd, options.race == "on", options.case_sd)
        claim = Claim.of(run.record.settings)
        judged = judge_candidates(run, claim)
        decision = decide(run, claim, judged)
        shown = decision.confirmation or next(iter(judged.values())).comparison.case
        taken = [s for variant in run.variants for s in variant.samples]
        interleaved = [s for s in taken if s.phase == INTERLEAVED]
        yield Outcome(
            confirmed=decision.verdict == CONFIRMED,
            leads=run.record.confirmed in (None, "candidate0"),
            rounds=1 + max(sample.round for sample in interleaved),
            samples=len(interleaved),
            confirmation=len(taken) - len(interleaved),
            above=decision.confirmation is not None
            and shown.reduction.low > truths[int((decision.subject or "").removeprefix("candidate"))].reduction,
            reduction=shown.reduction,
        )


def _field(options: argparse.Namespace, candidates: int, reduction: float) -> list[Truth]:
    """The candidates, the leader first."""
    if options.lead is None:
        return [Truth(reduction)] * candidates
    leader = 100 - (100 - reduction) * (1 - options.lead / 100)
    faster = 100 - (100 - leader) * (1 - options.lead / 100)
    lossy = min(options.lossy, candidates - 1)
    return [Truth(leader), *[Truth(faster, LOSS)] * lossy, *[Truth(reduction)] * (candidates - 1 - lossy)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", default="16,36")
    parser.add_argument("--candidates", default="1,6")
    parser.add_argument("--start-sd", type=float, default=0.004, help="of a start's log time")
    parser.add_argument(
        "--case-sd", type=float, default=OF_BACKEND_IN_CASE, help="of the baseline's log time in a case"
    )
    parser.add_argument("--reductions", default=",".join(map(str, REDUCTIONS)))
    parser.add_argument("--race", choices=RACES, default="on")
    parser.add_argument("--lead", type=float, help="percent of the others' time that the first candidate saves")
    parser.add_argument("--lossy", type=int, default=0, help="candidates that are faster still and lose accuracy")
    options = parser.parse_args()
    head = ["true reduction", "cases", "candidates", "CONFIRMED", "leader chosen", "rounds, median", "samples, mean"]
    head += ["of the confirmation", "bound above the truth", "half-width of the interval, median"]
    print("| " + " | ".join(head) + " |")
    print("|" + "---:|" * len(head))
    for candidates in map(int, options.candidates.split(",")):
        for cases in map(int, options.cases.split(",")):
            for reduction in map(float, options.reductions.split(",")):
                runs = list(outcomes(options, cases, candidates, reduction))
                cells = [
                    f"{reduction:g} %",
                    cases,
                    candidates,
                    f"{100 * np.mean([run.confirmed for run in runs]):.1f} %",
                    f"{100 * np.mean([run.leads for run in runs]):.1f} %",
                    f"{np.median([run.rounds for run in runs]):g}",
                    f"{np.mean([run.samples for run in runs]):.0f}",
                    f"{np.mean([run.confirmation for run in runs]):.0f}",
                    f"{100 * np.mean([run.above for run in runs]):.1f} %",
                    f"{np.median([(run.reduction.high - run.reduction.low) / 2 for run in runs]):.2f} points",
                ]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
