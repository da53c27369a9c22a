"""Error rates where several claims are judged at once, or one again and again."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.stats.bootstrap import ALPHA


@dataclass(frozen=True)
class InterimAnalysis:
    """One analysis of the speed claims of a run.

    Attributes:
        alpha: the error rate that this analysis may spend.
        number: which it is, from 1, where the run may stop after each; None where there is only one, fixed beforehand.
        claims: how many variants are judged together.
    """

    alpha: float = ALPHA
    number: int | None = None
    claims: int = 1

    @classmethod
    def after(cls, number: int | None, claims: int) -> "InterimAnalysis":
        """The analysis after `number` rounds, or the only one."""
        return cls(ALPHA if number is None else spent(number), number, claims)


def spent(analysis: int) -> float:
    """The error rate of an interim analysis, from 1: alpha / (k (k + 1)), whose sum over all k is alpha.

    By the union bound the error over all analyses stays below alpha, however they depend on each other: an
    error-spending rule (Lan & DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70(3), 1983).
    """
    return ALPHA / (analysis * (analysis + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: those at most alpha may be rejected together, with error rate alpha over all of them.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6(2),
    1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
