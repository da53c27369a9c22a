"""Runs and changes in words."""

from collections.abc import Sequence
from math import isfinite

from reports.formatting import NOT_MEASURED, at_least, bounds, factor, percent
from reports.records.store import Run
from reports.stats.bootstrap import Interval


def short_names(runs: Sequence[Run]) -> list[str]:
    """Names of runs in a chart: those of their folders if no two are alike, else where they lie."""
    names = [run.folder.name if run.folder and run.folder.name else run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.name for run in runs]


def speedup_text(speedup: Interval) -> str:
    """``2.00x [1.95, 2.05]``"""
    return factor(speedup.estimate) + bounds(speedup.low, speedup.high, 2)


def change_text(ratio: Interval) -> str:
    """``fell by 10.2 % (by at least 8.1 %)``, ``rose by 1.0 %``: of two speedups; bounds where they say the same."""
    if not isfinite(ratio.estimate):
        return f"is {NOT_MEASURED}"
    fell = ratio.estimate < 1
    nearest = ratio.high if fell else ratio.low  # to no change
    says_so = isfinite(nearest) and (nearest < 1 if fell else nearest > 1)
    least = f" (by at least {at_least(100 * abs(nearest - 1))})" if says_so else ""
    return f"{'fell' if fell else 'rose'} by {_size(ratio.estimate)}{least}"


def _size(ratio: float) -> str:
    return percent(100 * abs(ratio - 1))
