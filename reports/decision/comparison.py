"""One backend against the baseline: paired times and paired scores, taken from the records."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import exp, isfinite, log, nan

import numpy as np

from reports.decision.flips import Flip, McNemar, flips, mcnemar
from reports.records.record import DUEL, OK, PENDING, BackendRecord, Sample, Score
from reports.records.store import Run
from reports.stats.bootstrap import Bootstrap, Floats, Interval, of_crossed
from reports.stats.power import detectable_drop, detectable_share
from reports.stats.scores import (
    exponential,
    f1_by_class,
    macro_f1,
    macro_f1_difference,
    paired_difference,
    time_reduction_pct,
)

Pair = tuple[Sample, Sample]  # the baseline's sample and the candidate's: same phase, start, round and case


@dataclass(frozen=True)
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
        """Half of the distance between the bounds, as a share of the baseline's time or of the backend's own.

        The smaller of both: the one says nothing of a backend that takes many times as long, the other of one that
        takes hardly any time. NaN without bounds.
        """
        return min(self.reduction.high - self.reduction.low, 100 * log(self.speedup.high / self.speedup.low)) / 200

    def reduction_high(self, alpha: float) -> float:
        """The upper bound of the reduction with error rate `alpha`, in percent."""
        return 100 * (1 - exp(-self.log_speedup.high(alpha)))

    def p_at_most(self, reduction_pct: float) -> float:
        """The p-value of "the reduction is at most so many percent"; NaN where there are no bounds."""
        return self.log_speedup.p_at_most(-log(1 - reduction_pct / 100))


@dataclass(frozen=True)
class Metric:
    """A score of the candidate, that of the baseline on the same cases, and the paired difference.

    Attributes:
        applicable: False where the network does not give what is scored; then there is nothing else.
        taken: False in runs from before the score was taken; then it is left out.
        detectable: the smallest loss that so many cases would have shown with a power of 80 %, in the score's unit, for
            macro-F1 as a share of the cases.
    """

    value: float = nan
    baseline: float = nan
    delta: Interval = field(default_factory=Interval)
    cases: int = 0
    applicable: bool = True
    taken: bool = True
    detectable: float = nan


@dataclass(frozen=True)
class Accuracy:
    """The candidate's accuracy beside the baseline's.

    Attributes:
        f1: of each class, the candidate's and the baseline's.
        flips: cases whose predicted class is not the baseline's; `mcnemar`: how they bear on the truth.
        voxel_disagreement: share of the voxels labelled otherwise than by the baseline; NaN without predictions.
        cases: predictions compared.
    """

    whole_dsc: Metric = field(default_factory=Metric)
    lesion_dsc: Metric = field(default_factory=Metric)
    whole_nsd: Metric = field(default_factory=Metric)
    lesion_nsd: Metric = field(default_factory=Metric)
    macro_f1: Metric = field(default_factory=Metric)
    f1: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    mcnemar: McNemar = field(default_factory=McNemar)
    voxel_disagreement: float = nan
    cases: int = 0

    @property
    def flipped(self) -> tuple[str, ...]:
        """The names of the cases that flipped."""
        return tuple(flip.case for flip in self.flips)

    @classmethod
    def none(cls, run: Run) -> "Accuracy":
        """Of a backend without scores: says what would apply to this run's network."""
        lesions, nsd = run.record.finds_lesions, has_nsd(run)
        return cls(
            lesion_dsc=Metric(applicable=lesions),
            whole_nsd=Metric(taken=nsd),
            lesion_nsd=Metric(applicable=lesions, taken=nsd),
            macro_f1=Metric(applicable=run.record.classifies),
        )


@dataclass(frozen=True)
class Comparison:
    """A backend against the baseline in the duels, by both scopes, and its accuracy."""

    name: str
    case: Speed
    forward: Speed
    accuracy: Accuracy


def case_ns(sample: Sample) -> int:
    """Nanoseconds from the file on disk to mask and class on disk."""
    return sample.case_ns


def forward_ns(sample: Sample) -> int:
    """Nanoseconds in the engine alone."""
    return sample.stages_ns.get("forward", 0)


def compare(run: Run, name: str) -> Comparison:
    """Compare backend `name` with the run's baseline by its duels and its scores."""
    duels = pairs(run, name, DUEL)
    return Comparison(name, speed(duels, case_ns), speed(duels, forward_ns), compare_accuracy(run, name))


def candidates(run: Run) -> tuple[BackendRecord, ...]:
    """The backends other than the baseline and the peers that run, or ran, to the end."""
    others = {run.record.baseline, *run.record.peers}
    return tuple(b for b in run.backends if b.name not in others and b.status in (OK, PENDING))


def pairs(run: Run, name: str, phase: str, baseline_name: str | None = None) -> tuple[Pair, ...]:
    """The samples of backend `name` in `phase` that have their baseline beside them; the others tell nothing.

    `baseline_name`: another backend in the place of the run's baseline.
    """
    baseline = _by_place(run.backend(baseline_name or run.record.baseline).samples, phase)
    candidate = _by_place(run.backend(name).samples, phase)
    return tuple((baseline[place], sample) for place, sample in candidate.items() if place in baseline)


def speed(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> Speed:
    """The speedup over `paired` in one scope of time; cases and starts of the processes are the units."""
    ratios = log_ratios(paired, time_ns)
    cells = _cells(ratios)
    found, (cases, starts, _) = of_crossed(cells), cells.shape
    return Speed(cases, sum(map(len, ratios.values())), exponential(found.interval), found, starts)


def log_ratios(paired: Iterable[Pair], time_ns: Callable[[Sample], int]) -> dict[tuple[str, int], list[float]]:
    """Logs of baseline time / candidate time of each case and start, over the rounds."""
    ratios: dict[tuple[str, int], list[float]] = {}
    for baseline, candidate in paired:
        before, after = time_ns(baseline), time_ns(candidate)
        if before > 0 and after > 0:
            ratios.setdefault((candidate.case, candidate.start), []).append(log(before / after))
    return ratios


def _cells(ratios: dict[tuple[str, int], list[float]]) -> Floats:
    """[cases, starts, rounds]; NaN where a case was not run."""
    cases = sorted({case for case, _ in ratios})
    starts = sorted({start for _, start in ratios})
    cells = np.full((len(cases), len(starts), max(map(len, ratios.values()), default=0)), nan)
    for (case, start), values in ratios.items():
        cells[cases.index(case), starts.index(start), : len(values)] = values
    return cells


def compare_accuracy(run: Run, name: str) -> Accuracy:
    """Compare the scores of backend `name` with the baseline's on the cases that both have."""
    own, reference = _by_case(run.backend(name).scores), _by_case(run.backend(run.record.baseline).scores)
    both = [(own[case], reference[case]) for case in sorted(own.keys() & reference.keys())]
    scores = [score for score, _ in both]
    voxels = sum(score.voxels for score in scores)
    truth = {case.name: case.subtype for case in run.record.cases}
    absent = Accuracy.none(run)
    measured = {
        metric: mean_score((getattr(candidate, metric), getattr(baseline, metric)) for candidate, baseline in both)
        for metric in ("whole_dsc", "lesion_dsc", "whole_nsd", "lesion_nsd")
    }
    f1, by_class = f1_score(truth, both)
    found = {metric: value for metric, value in (measured | {"macro_f1": f1}).items() if _is_scored(absent, metric)}
    return replace(
        absent,
        **found,
        f1=by_class,
        flips=flips(truth, scores),
        mcnemar=mcnemar(truth, scores) if run.record.classifies else McNemar(),
        voxel_disagreement=sum(score.differing_voxels for score in scores) / voxels if voxels else nan,
        cases=len(both),
    )


def has_nsd(run: Run) -> bool:
    """Whether any score of the run holds a surface distance. Runs from before it was taken do not."""
    return any(
        score.whole_nsd is not None or score.lesion_nsd is not None for one in run.backends for score in one.scores
    )


def _is_scored(absent: Accuracy, metric: str) -> bool:
    found: Metric = getattr(absent, metric)
    return found.applicable and found.taken


def _by_place(samples: Iterable[Sample], phase: str) -> dict[tuple[int, int, str], Sample]:
    return {(s.start, s.round, s.case): s for s in samples if s.phase == phase}


def _by_case(scores: Iterable[Score]) -> dict[str, Score]:
    return {score.case: score for score in scores}


def mean_score(values: Iterable[tuple[float | None, float | None]]) -> Metric:
    """The mean of a score, candidate and baseline of each case, over the cases that have both."""
    known = [(c, b) for c, b in values if c is not None and b is not None and isfinite(c) and isfinite(b)]
    if not known:
        return Metric()
    candidate, baseline = np.array(known).T
    return Metric(
        float(candidate.mean()), float(baseline.mean()), paired_difference(candidate, baseline), len(known),
        detectable=detectable_drop(candidate - baseline),
    )  # fmt: skip


def f1_score(
    truth: Mapping[str, int | None], both: Iterable[tuple[Score, Score]]
) -> tuple[Metric, dict[int, tuple[float, float]]]:
    """Macro-F1, and of each class the candidate's and the baseline's F1."""
    rows = [(truth.get(c.case), c.subtype, b.subtype) for c, b in both]
    known = [(t, c, b) for t, c, b in rows if t is not None and c is not None and b is not None]
    if not known:
        return Metric(), {}
    labels, candidate, baseline = ([row[i] for row in known] for i in range(3))
    delta = macro_f1_difference(labels, candidate, baseline)
    found = Metric(
        macro_f1(labels, candidate), macro_f1(labels, baseline), delta, len(known),
        detectable=detectable_share(len(known)),
    )  # fmt: skip
    own, reference = f1_by_class(labels, candidate), f1_by_class(labels, baseline)
    return found, {name: (own.get(name, nan), reference.get(name, nan)) for name in sorted(own.keys() | reference)}
