"""How much faster one variant is than the baseline: samples paired by launch, round and case."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import exp, log, nan

import numpy as np

from reports.records.record import Sample
from reports.records.store import Run
from reports.stats.bootstrap import Bootstrap, Floats, Interval, of_crossed
from reports.stats.scores import exponential, time_reduction_pct

Pair = tuple[Sample, Sample]  # the baseline's sample and the candidate's: same phase, launch, round and case


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What the pairs say about one scope of time.

    Attributes:
        cases, pairs: how many cases and pairs of samples the figures rest on.
        speedup: baseline time / candidate time.
        reduction: percentage of the baseline's time that is saved.
        log_speedup: what the speedup and its bounds are taken from.
        launches: of the worker processes, over which the samples are spread.
    """

    cases: int = 0
    pairs: int = 0
    speedup: Interval = field(default_factory=Interval)
    log_speedup: Bootstrap = field(default_factory=Bootstrap, repr=False)
    launches: int = 0

    @property
    def reduction(self) -> Interval:
        return time_reduction_pct(self.speedup)

    @property
    def half_width(self) -> float:
        """Half of the distance between the bounds, as a share of the baseline's time or of the variant's own.

        The smaller of both: the one says nothing of a variant that takes many times as long, the other of one that
        takes hardly any time. NaN without bounds.
        """
        return min(self.reduction.high - self.reduction.low, 100 * log(self.speedup.high / self.speedup.low)) / 200

    def reduction_high(self, alpha: float) -> float:
        """The upper bound of the reduction with error rate `alpha`, in percent."""
        return 100 * (1 - exp(-self.log_speedup.high(alpha)))

    def p_at_most(self, reduction_pct: float) -> float:
        """The p-value of "the reduction is at most so many percent"; NaN where there are no bounds."""
        return self.log_speedup.p_at_most(-log(1 - reduction_pct / 100))


def case_ns(sample: Sample) -> int:
    """Nanoseconds from the file on disk to mask and class on disk."""
    return sample.case_ns


def forward_ns(sample: Sample) -> int:
    """Nanoseconds in the engine alone."""
    return sample.stages_ns.get("forward", 0)


def pairs(run: Run, name: str, phase: str, baseline_name: str | None = None) -> tuple[Pair, ...]:
    """The samples of variant `name` in `phase` that have their baseline beside them; the others say nothing.

    `baseline_name`: another variant in the place of the run's baseline.
    """
    baseline = _by_place(run.variant(baseline_name or run.record.baseline).samples, phase)
    candidate = _by_place(run.variant(name).samples, phase)
    return tuple((baseline[place], sample) for place, sample in candidate.items() if place in baseline)


def speed(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> Speed:
    """The speedup over `paired` in one scope of time; cases and launches of the processes are the units."""
    ratios = log_ratios(paired, time_ns)
    cells = _log_ratio_array(ratios)
    log_speedup, (cases, launches, _) = of_crossed(cells), cells.shape
    return Speed(
        cases=cases,
        pairs=sum(map(len, ratios.values())),
        speedup=exponential(log_speedup.interval),
        log_speedup=log_speedup,
        launches=launches,
    )


def log_ratios(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> dict[tuple[str, int], list[float]]:
    """Logs of baseline time / candidate time of each case and launch, over the rounds."""
    ratios: dict[tuple[str, int], list[float]] = {}
    for baseline, candidate in paired:
        before, after = time_ns(baseline), time_ns(candidate)
        if before > 0 and after > 0:
            ratios.setdefault((candidate.case, candidate.launch), []).append(log(before / after))
    return ratios


def _log_ratio_array(ratios: dict[tuple[str, int], list[float]]) -> Floats:
    """[cases, launches, rounds]; NaN where a case was not run."""
    cases = sorted({case for case, _ in ratios})
    launches = sorted({launch for _, launch in ratios})
    cells = np.full((len(cases), len(launches), max(map(len, ratios.values()), default=0)), nan)
    for (case, launch), values in ratios.items():
        cells[cases.index(case), launches.index(launch), : len(values)] = values
    return cells


def _by_place(samples: Iterable[Sample], phase: str) -> dict[tuple[int, int, str], Sample]:
    return {(s.launch, s.round, s.case): s for s in samples if s.phase == phase}
