"""How often a search confirms a recipe that loses accuracy: made-up searches, judged by the code that judges real ones.

    python scripts/validity/simulate_tuning.py [--runs 200] [--candidates 300] [--seed 0]

Every candidate of a search loses accuracy: its true mean DSC falls by the whole margin (0.005) or more, evenly spread
up to four margins, or with ``--at-margin`` by the margin exactly, which is the hardest to find. A case's own fall
differs from the mean by a normal deviation (``--noise``, 0.01), drawn anew for the tuning and for the evaluation cases.
The candidates are timed without noise, and each next one is faster by a little, so that the search is never short of a
faster one that seems accurate. The best by `reports.decision.tuning.best_of` is then held against the evaluation cases,
and counts as CONFIRMED where its accuracy is kept there: its time is taken to be confirmed in any case.

Prints the share of searches in which a candidate seemed accurate on the tuning cases, and the share that was CONFIRMED,
which should be at most 5 %.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from simulate_claims import DATA, HOST, NETWORK, settings, variant_settings

from reports.decision.accuracy import compare_accuracy
from reports.decision.speed import Speed
from reports.decision.tuning import Trial, best_of, judged
from reports.decision.verdict import KEPT, Claim, judge_accuracy
from reports.records.record import (
    COMPLETE,
    OK,
    Case,
    RunRecord,
    Score,
    StructureRecord,
    StructureScore,
    TaskRecord,
    VariantRecord,
)
from reports.records.store import Run
from reports.stats.bootstrap import Interval

BASELINE, CANDIDATE = "baseline", "candidate"
MARGIN, MOST_MARGINS = 0.005, 4.0
DSC, OF_CASES = 0.8, 0.03  # of the baseline: its mean, and how much cases differ


def run_of(record: RunRecord, baseline: np.ndarray, falls: np.ndarray) -> Run:
    """The baseline and a candidate whose DSC falls by so much in each case."""
    scores = {BASELINE: baseline, CANDIDATE: baseline - falls}
    variants = tuple(
        VariantRecord(
            name=name, settings=variant_settings(name), status=OK,
            scores=tuple(
                Score(
                    case=case.name, structures={"structure": StructureScore(dsc=float(dsc))}, subtype=None,
                    baseline_subtype=None, voxels=10**6, differing_voxels=0,
                )
                for case, dsc in zip(record.cases, own, strict=True)
            ),
        )
        for name, own in scores.items()
    )  # fmt: skip
    return Run(record, variants, Path())


def record_of(cases: int) -> RunRecord:
    held = tuple(
        Case(f"case{i:03d}", f"case{i}", f"mask{i}", None, (64, 64, 64), (1.0, 1.0, 1.0)) for i in range(cases)
    )
    task = TaskRecord(name="made up", structures={"structure": StructureRecord(labels=(1,))}, classes=0)
    return RunRecord(
        id="simulated", created="", command="", settings=settings([BASELINE, CANDIDATE], race=False),
        checkpoint=replace(NETWORK, subtypes=0), task=task, data=DATA, cases=held, host=HOST, versions={},
        controlled_settings={}, baseline=BASELINE, status=COMPLETE,
    )  # fmt: skip


def search(random: np.random.Generator, options: argparse.Namespace) -> tuple[bool, bool]:
    """Whether a candidate of one search seemed accurate, and whether the one that was chosen is confirmed."""
    tuning, evaluation = record_of(options.tuning_cases), record_of(options.cases)
    claim = Claim.of(tuning.settings)
    before = random.normal(DSC, OF_CASES, options.tuning_cases)
    spread = np.ones(options.candidates) if options.at_margin else random.uniform(1, MOST_MARGINS, options.candidates)
    losses = MARGIN * spread
    trials: list[Trial] = []
    for number, loss in enumerate(losses):
        falls = random.normal(loss, options.noise, options.tuning_cases)
        accuracy = compare_accuracy(run_of(tuning, before, falls), CANDIDATE)
        timed = Speed(cases=options.tuning_cases, speedup=Interval(1.0 + 0.001 * number, 1.0, 1.0))
        trials.append(judged(number, variant_settings(f"candidate{number}"), timed, accuracy, claim, options.cases))
    best = best_of(trial for trial in trials if trial.promising)
    if best is None:
        return False, False
    falls = random.normal(losses[best.number], options.noise, options.cases)
    again = run_of(evaluation, random.normal(DSC, OF_CASES, options.cases), falls)
    return True, judge_accuracy(compare_accuracy(again, CANDIDATE), claim)[0] == KEPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--tuning-cases", type=int, default=16)
    parser.add_argument("--cases", type=int, default=36)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--at-margin", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = [search(np.random.default_rng([options.seed, number]), options) for number in range(options.runs)]
    seemed, confirmed = (100 * float(np.mean(column)) for column in zip(*outcomes, strict=True))
    print(f"{options.runs} searches over {options.candidates} lossy candidates: one seemed accurate in {seemed:.1f} %, "
          f"CONFIRMED {confirmed:.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
