"""Time against accuracy: which variants of a run no other one beats in both."""

from collections.abc import Mapping
from math import isfinite

from reports.decision.accuracy import NSD, Accuracy, MetricKey


def compared_keys(accuracy: Accuracy) -> tuple[MetricKey, ...]:
    """The scores that count here: DSC and those of classes, as the surface distance goes with the DSC."""
    return tuple(key for key in accuracy.metrics if key.kind != NSD)


def compared_words(accuracy: Accuracy) -> str:
    """``every score but NSD``: `compared_keys` in words."""
    return "every score" if len(compared_keys(accuracy)) == len(accuracy.metrics) else f"every score but {NSD.upper()}"


def front(variants: Mapping[str, tuple[float, Accuracy]]) -> tuple[str, ...]:
    """The names of the variants that are Pareto-optimal in speedup and `compared_keys`, by their estimates.

    A variant is dominated by one that is at least as fast and at least as accurate in each score that both have, and
    better in one of these. Variants without a time are left out.
    """
    points = {
        name: (speedup, *(accuracy.metric(key).value for key in compared_keys(accuracy)))
        for name, (speedup, accuracy) in variants.items()
        if isfinite(speedup)
    }
    return tuple(name for name, point in points.items() if not any(_dominates(p, point) for p in points.values()))


def _dominates(point: tuple[float, ...], other: tuple[float, ...]) -> bool:
    known = [(a, b) for a, b in zip(point, other, strict=True) if isfinite(a) and isfinite(b)]
    return all(a >= b for a, b in known) and any(a > b for a, b in known)
