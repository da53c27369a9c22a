"""How often a loss of accuracy is caught: known losses made in a run's masks and classes, judged by the run's rules.

    python scripts/validity/accuracy_losses.py RUN [--draws 200] [--cases 5,16,36]

RUN is a run directory with its predictions (`bench run --backends torch-fp32 --rounds 1`). Each draw takes that many of
its cases at random, and a candidate that answers as the baseline does but for one loss: none; every lesion eroded, or
shifted, by one voxel; classes flipped. Prints how often the accuracy is kept, undecided and lost.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from bench.accuracy import score
from bench.data.volume import MaskValues, read_mask
from bench.data.write import write_mask
from models.task import PANCREAS
from reports.decision.accuracy import compare_accuracy
from reports.decision.verdict import KEPT, LOST, UNDECIDED, Claim, judge_accuracy
from reports.records.record import Case, Score
from reports.records.store import Run, read_run

Masks = NDArray[np.uint8]
LESION = PANCREAS.labels["lesion"]


def eroded(labels: Masks) -> Masks:
    """Every lesion without its outermost layer of voxels, which become pancreas."""
    lesion = labels == LESION
    return np.where(lesion & ~binary_erosion(lesion), 1, labels).astype(np.uint8)


def shifted(labels: Masks) -> Masks:
    """Every lesion moved by one voxel along the first axis."""
    moved = np.where(labels == LESION, 1, labels)
    moved[np.roll(labels == LESION, 1, axis=0)] = LESION
    return moved.astype(np.uint8)


def rescored(run: Run, folder: Path, change: Callable[[Masks], Masks]) -> dict[str, Score]:
    """The scores of the baseline's masks after `change`."""
    import nibabel

    baseline = run.variant(run.record.baseline)
    scores = {}
    for case, own in zip(run.record.cases, baseline.scores, strict=True):
        path = folder / "predictions" / baseline.name / f"{case.name}.nii.gz"
        worse = folder / "predictions" / f"{case.name}.worse.nii.gz"
        write_mask(worse, change(read_mask(path, None, MaskValues.of(run.record.task))), nibabel.load(path))
        scores[case.name] = score(
            case, run.record.settings, run.record.task, run.record.data.mask_values, worse, path,
            own.subtype, own.subtype,
        )  # fmt: skip
        worse.unlink()
    return scores


def flipped(own: Score) -> Score:
    """The score with another one of the three classes, a wrong one where it was right."""
    assert own.subtype is not None
    return replace(own, subtype=(own.subtype + 1) % 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--cases", default="5,16,36")
    options = parser.parse_args()
    run = read_run(options.run)
    baseline = run.variant(run.record.baseline)
    own = {score.case: score for score in baseline.scores}
    losses: dict[str, Callable[[list[Case], np.random.Generator], dict[str, Score]]] = {
        "none": lambda cases, _: {case.name: own[case.name] for case in cases},
        "lesions eroded by one voxel": _all(rescored(run, options.run, eroded)),
        "lesions shifted by one voxel": _all(rescored(run, options.run, shifted)),
        "one class flipped": lambda cases, random: _flips(cases, own, random.permutation(len(cases))[:1]),
        "each class flipped with probability 1/36": lambda cases, random: _flips(
            cases, own, np.flatnonzero(random.random(len(cases)) < 1 / 36)
        ),
        "each class flipped with probability 1/10": lambda cases, random: _flips(
            cases, own, np.flatnonzero(random.random(len(cases)) < 1 / 10)
        ),
    }
    print("| loss | cases | kept | undecided | lost |\n|---|---:|---:|---:|---:|")
    for name, lose in losses.items():
        for number in map(int, options.cases.split(",")):
            states = Counter(_state(run, lose, number, draw) for draw in range(options.draws))
            cells = (f"{100 * states[state] / options.draws:.1f} %" for state in (KEPT, UNDECIDED, LOST))
            print(f"| {name} | {number} | {' | '.join(cells)} |", flush=True)


def _all(scores: dict[str, Score]) -> Callable[[list[Case], np.random.Generator], dict[str, Score]]:
    return lambda cases, _: {case.name: scores[case.name] for case in cases}


def _flips(cases: list[Case], own: dict[str, Score], which: NDArray[np.int64]) -> dict[str, Score]:
    there = {case.name: own[case.name] for case in cases}
    return there | {cases[i].name: flipped(there[cases[i].name]) for i in which}


def _state(
    run: Run, lose: Callable[[list[Case], np.random.Generator], dict[str, Score]], number: int, draw: int
) -> str:
    random = np.random.default_rng([number, draw])
    drawn = [run.record.cases[i] for i in random.permutation(len(run.record.cases))[:number]]
    baseline = run.variant(run.record.baseline)
    kept = tuple(score for score in baseline.scores if score.case in {case.name for case in drawn})
    candidate = replace(baseline, name="candidate", scores=tuple(lose(drawn, random).values()))
    record = replace(run.record, cases=tuple(drawn))
    made = replace(run, record=record, variants=(replace(baseline, scores=kept), candidate))
    return judge_accuracy(compare_accuracy(made, "candidate"), Claim.of(record.settings))[0]


if __name__ == "__main__":
    main()
