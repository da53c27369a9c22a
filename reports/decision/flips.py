"""Cases whose predicted class is not the baseline's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import scipy

from reports.records.record import Score


@dataclass(frozen=True)
class Flip:
    """One such case; the truth is None where the data hold none."""

    case: str
    truth: int | None
    baseline: int | None
    candidate: int | None


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of "as many cases are lost as are gained".

    Attributes:
        lost: right by the baseline and wrong by the candidate; `gained`: the reverse.
        p: two-sided; NaN where no case has a truth.
    """

    lost: int = 0
    gained: int = 0
    p: float = nan


def flips(truth: Mapping[str, int | None], scores: Sequence[Score]) -> tuple[Flip, ...]:
    """The flips among a variant's `scores`; none where the baseline gives no class, as an own command may."""
    return tuple(
        Flip(score.case, truth.get(score.case), score.baseline_subtype, score.subtype)
        for score in scores
        if score.baseline_subtype is not None and score.subtype != score.baseline_subtype
    )


def mcnemar(truth: Mapping[str, int | None], scores: Sequence[Score]) -> McNemar:
    """By the binomial distribution of the discordant cases: McNemar, Psychometrika 12(2), 1947."""
    if all(truth.get(score.case) is None or score.baseline_subtype is None for score in scores):
        return McNemar()
    known = [flip for flip in flips(truth, scores) if flip.truth is not None]
    lost = sum(flip.baseline == flip.truth for flip in known)
    gained = sum(flip.candidate == flip.truth for flip in known)
    p = float(scipy.stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    return McNemar(lost, gained, p)
