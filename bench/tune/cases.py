"""Which cases a search may see, and which are kept for the confirmation."""

from dataclasses import dataclass, replace
from pathlib import Path

from bench.data.cases import find_cases, sha256_of
from bench.data.layouts import CaseFiles
from bench.errors import InputError
from bench.plan.accuracy_claim import resolve_accuracy
from bench.plan.cache import demo_data
from bench.plan.plan import evenly
from bench.plan.request import Request
from bench.progress import Progress
from reports.formatting import count
from reports.stats.bootstrap import MIN_CASES

MOST = 24
"""Tuning cases. With more a trial takes longer, and the confirmation decides in any case."""


@dataclass(frozen=True)
class Parts:
    """Two requests of the same network and data.

    Attributes:
        tuning: over the cases that a search may see. evaluation: over others, so many as `evaluated` says.
        remark: where the former are from, a sentence.
    """

    tuning: Request
    evaluation: Request
    evaluated: int
    remark: str


def part(request: Request, tuning_split: str | None, progress: Progress) -> Parts:
    """Take tuning cases from another split than the evaluated one, or from that where there is no other with masks.

    Args:
        tuning_split: the user's; None for ``train`` where that has enough cases with masks, else half of the
            evaluated split.

    Raises:
        InputError: there are too few cases, or the same image is in both.
    """
    root = (request.data or demo_data(progress, request.demo, request.max_cases)).absolute()
    _, evaluated = find_cases(root, request.split, names=None)
    if request.split == "train":
        raise InputError(
            "--split train: a confirmation needs cases that neither the network nor the search has seen; name another"
        )
    if tuning_split == request.split:
        return _halves(request, evaluated, root, "--tuning-split names it too")
    try:
        _, others = find_cases(root, tuning_split or "train", names=None)
    except InputError:
        if tuning_split is not None:
            raise
        return _halves(request, evaluated, root, "there is no usable split train beside it")
    with_masks = [case for case in others if case.mask_path is not None]
    if tuning_split is None and len(with_masks) < MIN_CASES:
        return _halves(request, evaluated, root, f"the split train has {count(len(with_masks), 'case')} with masks")
    chosen = evenly(with_masks or others, min(MOST, request.max_cases or MOST))
    _refuse_same(chosen, evaluated, root)
    split = tuning_split or "train"
    if with_masks:  # else both cannot be judged alike, and the search is by agreement
        request = replace(request, accuracy=resolve_accuracy(request, root, evenly(evaluated, request.max_cases)))
    tuning = replace(request, split=split, cases=tuple(case.name for case in chosen), max_cases=None, tuning=True)
    known = ", which the network was trained on, so that a loss may show less there" if split == "train" else ""
    remark = f"{count(len(chosen), 'case')} of the split {split}{known}"
    return Parts(tuning, request, len(evenly(evaluated, request.max_cases)), remark)


def _halves(request: Request, every: list[CaseFiles], root: Path, why: str) -> Parts:
    """Every second case of the split is tuned on, and the others are evaluated; `why` not those of another split."""
    cases = evenly(every, request.max_cases)
    if len(cases) < 2 * MIN_CASES:
        cut = len(cases) < len(every)
        number = f"{len(cases)} of its {len(every)} cases, by --max-cases" if cut else count(len(every), "case")
        raise InputError(
            f"--split {request.split}: {number}, for the search and for its confirmation, as {why}; they need at least "
            f"{MIN_CASES} each: {_more(len(every), cut)}, or name another split with --tuning-split"
        )
    tuned, kept = evenly(cases[1::2], MOST), cases[0::2]
    _refuse_same(tuned, kept, root)
    tuning = replace(request, cases=tuple(case.name for case in tuned), max_cases=None)
    evaluation = replace(request, cases=tuple(case.name for case in kept), max_cases=None)
    remark = f"every second case of the split {request.split}; the others are evaluated"
    return Parts(tuning, evaluation, len(kept), remark)


def _more(cases: int, cut: bool) -> str:
    """How to have enough for both, of a split with so many; `cut`: --max-cases left some out."""
    least = 2 * MIN_CASES
    if not cut:
        return "add cases"
    return f"give --max-cases {least} or more" if cases >= least else "leave --max-cases out and add cases"


def _refuse_same(tuning: list[CaseFiles], evaluated: list[CaseFiles], root: Path) -> None:
    """By content alone, since splits number their cases anew."""
    seen = {sha256_of(case.image_path): case for case in tuning}
    for case in evaluated:
        if (twin := seen.get(sha256_of(case.image_path))) is not None:
            raise InputError(
                f"{case.image_path}: also a tuning case ({twin.image_path}); a search must not see what confirms it: "
                f"remove one from {root}"
            )
