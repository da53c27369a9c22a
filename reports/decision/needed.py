"""How many cases and rounds a variant's claim needs, as a pilot lets expect."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil, exp, isfinite, log, nan
from statistics import fmean, harmonic_mean, variance

from reports.decision.accuracy import CLASS_AGREEMENT, DSC, MACRO_F1, NSD, Metric, compare_accuracy
from reports.decision.speed import Pair, case_ns, log_ratios, pairs, speed
from reports.decision.verdict import Claim
from reports.records.record import ALL_CASES, INTERLEAVED
from reports.records.store import Run
from reports.stats.bootstrap import MIN_CASES
from reports.stats.power import ENOUGH_FOR_F1, cases_to_bound
from reports.stats.sample_size import CASES, Components, components, fewest, least_gain, least_kept

TIME = "time"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The confirmation that decides: cases, rounds of each, and launches of the processes; and the most rounds."""

    cases: int
    rounds: int
    launches: int
    most_rounds: int


@dataclass(frozen=True, kw_only=True)
class Needed:
    """What it takes for a variant to be confirmed with a power of 80 %, if it is as the pilot shows it.

    Attributes:
        reduction_pct: the pilot's.
        variance: of its log ratios; None where it has fewer than two cases with a time of their own.
        cases_for: what the time and each score need; None where no number of cases would do, or it is not known.
        rounds: with the planned cases, likewise.
        least_reduction_pct: the smallest true reduction that is confirmed with the planned cases; NaN where unknown.
    """

    reduction_pct: float
    variance: Components | None = None
    cases_for: Mapping[str, int | None] = field(default_factory=dict)
    rounds: int | None = None
    least_reduction_pct: float = nan

    @property
    def cases(self) -> int | None:
        """For everything together."""
        known = [number for number in self.cases_for.values() if number is not None]
        return max(known) if known and len(known) == len(self.cases_for) else None


def needed(pilot: Run, name: str, claim: Claim, planned: Planned) -> Needed:
    """Of variant `name` of a pilot, whose launches have a round each."""
    paired = pairs(pilot, name, INTERLEAVED)
    measured, parts = speed(paired, case_ns), _crossed(log_ratios(paired, case_ns))
    scores = dict(_scores(pilot, name, claim))
    if parts is None:
        return Needed(reduction_pct=measured.reduction.estimate, cases_for={TIME: None, **scores})
    claimed = -log(1 - claim.min_reduction_pct / 100)
    gain = measured.log_speedup.estimate - claimed
    by_cases = partial(least_gain, parts, rounds=planned.rounds, launches=planned.launches)
    by_rounds = partial(least_gain, parts, planned.cases, launches=planned.launches)
    enough = planned.cases >= MIN_CASES
    return Needed(
        reduction_pct=measured.reduction.estimate,
        variance=parts,
        cases_for={TIME: fewest(gain, by_cases, CASES), **scores},
        rounds=fewest(gain, by_rounds, range(planned.launches, planned.most_rounds + 1)) if enough else None,
        least_reduction_pct=100 * (1 - exp(-claimed - by_cases(planned.cases))) if enough else nan,
    )


def variances(paired: Iterable[Pair]) -> Components | None:
    """The variance components of pairs in any number of launches; None of fewer than two cases, and of whole calls.

    Those of a single launch show nothing of launches; and where it has one round, they do not tell cases from rounds:
    then all is taken for the cases'.
    """
    ratios = log_ratios(paired, case_ns)
    if any(case == ALL_CASES for case, _ in ratios):
        return None
    return _crossed(ratios) or _of_one_launch(ratios)


def _of_one_launch(ratios: Mapping[tuple[str, int], list[float]]) -> Components | None:
    if len(ratios) < 2:
        return None
    cells = list(ratios.values())
    repeated = [values for values in cells if len(values) > 1]
    squares = sum((len(values) - 1) * variance(values) for values in repeated)
    rounds = squares / sum(len(values) - 1 for values in repeated) if repeated else 0.0
    of_cases = variance(map(fmean, cells)) - rounds / harmonic_mean(map(len, cells))
    return Components(cases=max(0.0, of_cases), launches=0.0, rounds=rounds)


def _crossed(ratios: Mapping[tuple[str, int], list[float]]) -> Components | None:
    """Of the cases that every launch has; None below two of either."""
    launches = sorted({launch for _, launch in ratios})
    cases = [case for case, launch in ratios if launch == launches[0]]
    complete = [case for case in cases if all((case, launch) in ratios for launch in launches)]
    of_means = components([[fmean(ratios[case, launch]) for launch in launches] for case in complete])
    if of_means is None:
        return None
    # The mean of the rounds of a launch differs less than a single one.
    rounds = harmonic_mean(len(ratios[case, launch]) for launch in launches for case in complete)
    return replace(of_means, rounds=of_means.rounds * rounds)


def _scores(pilot: Run, name: str, claim: Claim) -> Iterator[tuple[str, int | None]]:
    """Of each score that is judged by a bound; the worst of all cases has none."""
    for key, metric in compare_accuracy(pilot, name).metrics.items():
        if metric.applicable and not (metric.absent and not metric.cases):
            if key == MACRO_F1:
                yield key.label, ENOUGH_FOR_F1 if metric.cases else None
            elif key == CLASS_AGREEMENT:
                margin = claim.margin(key)
                yield key.label, cases_to_bound(margin) if margin and metric.value == 1 else None
            elif key.kind in (DSC, NSD):
                yield key.label, _cases_of_score(metric, claim.margin(key, metric.own_margin))


def _cases_of_score(metric: Metric, margin: float) -> int | None:
    """As many more as the pilot has cases without the structure."""
    if not isfinite(metric.detectable):
        return None
    deviation = metric.detectable / least_kept(1.0, metric.cases)
    cases = fewest(margin + min(0.0, metric.delta.estimate), partial(least_kept, deviation), CASES)
    return cases and ceil(cases * (metric.cases + metric.absent) / metric.cases)
