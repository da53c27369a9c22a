"""The scores of one variant beside the baseline's: paired by case, with what was lost and what could have been seen."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import NamedTuple

import numpy as np

from reports.decision.flips import Flip, McNemar, flips, mcnemar
from reports.records.record import ABSENT_SKIP, RunRecord, Score, TaskRecord
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.stats.power import detectable_drop, detectable_share
from reports.stats.scores import f1_by_class, macro_f1, macro_f1_difference, paired_difference

DSC, NSD = "dsc", "nsd"


class MetricKey(NamedTuple):
    """A score: its kind, and the structure that it is of; None for the class of a case."""

    kind: str
    structure: str | None = None

    @property
    def label(self) -> str:
        """``whole-pancreas DSC``"""
        return "macro-F1" if self.structure is None else f"{'-'.join(self.structure.split())} {self.kind.upper()}"


MACRO_F1 = MetricKey("macro_f1")


def metric_keys(task: TaskRecord) -> tuple[MetricKey, ...]:
    """Every score of a task: of all structures the DSC, then the surface distances, then macro-F1."""
    surfaces = [name for name, structure in task.structures.items() if structure.nsd_tolerance_mm is not None]
    overlaps = [MetricKey(DSC, name) for name in task.structures]
    return (*overlaps, *(MetricKey(NSD, name) for name in surfaces), MACRO_F1)


def columns(task: TaskRecord) -> dict[MetricKey, str]:
    """A name of each score for tables of other programs, such as ``whole_pancreas_dsc``.

    It holds letters, digits and underscores, and no two of a task are equal, in lower case either: of "left kidney" and
    "left-kidney" the second becomes ``left_kidney_2``.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for structure in task.structures:
        plain = re.sub(r"\W+", "_", structure).strip("_") or "structure"
        numbered = (plain if n == 1 else f"{plain}_{n}" for n in range(1, len(task.structures) + 1))
        names[structure] = next(name for name in numbered if name.casefold() not in taken)
        taken.add(names[structure].casefold())
    return {key: f"{names[key.structure]}_{key.kind}" if key.structure else key.kind for key in metric_keys(task)}


def own_margin(task: TaskRecord, key: MetricKey) -> float | None:
    """How far the task itself lets a score fall; None where it leaves that to the claim."""
    structure = task.structures.get(key.structure or "")
    if structure is None:
        return None
    return structure.max_nsd_drop if key.kind == NSD else structure.max_dsc_drop


def target(task: TaskRecord, key: MetricKey) -> float | None:
    """The score that is asked of the network; None where nothing is."""
    if key.structure is None:
        return task.f1_target
    structure = task.structures[key.structure]
    return structure.nsd_target if key.kind == NSD else structure.dsc_target


ScorePair = tuple[Score, Score]  # the candidate's score and the baseline's of one case


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of the candidate, that of the baseline on the same cases, and the paired difference.

    Attributes:
        applicable: False where the network does not give what is scored; then there is nothing else.
        detectable: the smallest loss that so many cases would have shown with a power of 80 %, in the score's unit, for
            macro-F1 as a share of the cases.
        absent: cases left out, as neither their truth nor the two predictions hold the structure.
        own_margin: how far the task lets it fall; None where that is the claim's.
    """

    value: float = nan
    baseline: float = nan
    delta: Interval = field(default_factory=Interval)
    cases: int = 0
    applicable: bool = True
    detectable: float = nan
    absent: int = 0
    own_margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The candidate's accuracy beside the baseline's.

    Attributes:
        metrics: every score of the run's task.
        f1: of each class, the candidate's and the baseline's.
        flips: cases whose predicted class is not the baseline's; `mcnemar`: how they bear on the truth.
        voxel_disagreement: share of the voxels labelled otherwise than by the baseline; NaN without predictions.
        cases: predictions compared.
    """

    metrics: Mapping[MetricKey, Metric] = field(default_factory=dict)
    f1: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    mcnemar: McNemar = field(default_factory=McNemar)
    voxel_disagreement: float = nan
    cases: int = 0

    def metric(self, key: MetricKey) -> Metric:
        """One of the scores; without values where it is not one of the task's."""
        return self.metrics.get(key, Metric())

    @property
    def flipped(self) -> tuple[str, ...]:
        """The names of the cases that flipped."""
        return tuple(flip.case for flip in self.flips)

    @classmethod
    def none(cls, run: Run) -> "Accuracy":
        """Of a variant without scores: says what would apply to this run's network."""
        task = run.record.task
        return cls(metrics={key: _without_scores(task, key) for key in metric_keys(task)})


def compare_accuracy(run: Run, name: str) -> Accuracy:
    """Compare the scores of variant `name` with the baseline's on the cases that both have."""
    pairs = paired_scores(run.variant(name).scores, run.variant(run.record.baseline).scores)
    scores = [score for score, _ in pairs]
    voxels = sum(score.voxels for score in scores)
    truth = {case.name: case.subtype for case in run.record.cases}
    return Accuracy(
        metrics=compare_scores(run.record, pairs),
        f1=_f1_of_classes(truth, pairs),
        flips=flips(truth, scores),
        mcnemar=mcnemar(truth, scores) if run.record.classifies else McNemar(),
        voxel_disagreement=sum(score.differing_voxels for score in scores) / voxels if voxels else nan,
        cases=len(pairs),
    )


def paired_scores(candidate: Iterable[Score], baseline: Iterable[Score]) -> list[ScorePair]:
    """The scores of the cases that both have, by name."""
    own, reference = ({score.case: score for score in scores} for scores in (candidate, baseline))
    return [(own[case], reference[case]) for case in sorted(own.keys() & reference.keys())]


def compare_scores(record: RunRecord, pairs: Sequence[ScorePair]) -> dict[MetricKey, Metric]:
    """Every score of the run's task over the cases that have it in both."""
    truth = {case.name: case.subtype for case in record.cases}
    present: dict[str | None, Sequence[ScorePair]] = {
        name: [pair for pair in pairs if not is_left_out(record, pair, name)] for name in record.task.structures
    }

    def compare(key: MetricKey) -> Metric:
        empty = _without_scores(record.task, key)
        if not empty.applicable:
            return empty
        metric = _macro_f1(truth, pairs) if key == MACRO_F1 else _mean_score(present[key.structure], key)
        absent = len(pairs) - len(present[key.structure]) if key.structure is not None else 0
        return replace(metric, absent=absent, own_margin=empty.own_margin)

    return {key: compare(key) for key in metric_keys(record.task)}


def is_left_out(record: RunRecord, pair: ScorePair, structure: str) -> bool:
    """Whether a case counts nothing for a structure, as its truth and both predictions are without it."""
    held = [score.structures.get(structure) for score in pair]
    return record.settings.absent == ABSENT_SKIP and all(own is not None and own.absent for own in held)


def _without_scores(task: TaskRecord, key: MetricKey) -> Metric:
    return Metric(applicable=is_applicable(task, key), own_margin=own_margin(task, key))


def is_applicable(task: TaskRecord, key: MetricKey) -> bool:
    """Whether the network gives what is scored."""
    return task.classes > 0 if key.structure is None else task.structures[key.structure].predicted


def score_of(score: Score, key: MetricKey) -> float | None:
    """A structure's score of one case."""
    structure = score.structures.get(key.structure or "")
    return getattr(structure, key.kind) if structure else None


def _mean_score(pairs: Iterable[ScorePair], key: MetricKey) -> Metric:
    """The mean of a score over the cases where both have it."""
    values = [(score_of(candidate, key), score_of(baseline, key)) for candidate, baseline in pairs]
    known = [(c, b) for c, b in values if c is not None and b is not None]
    if not known:
        return Metric()
    candidate, baseline = np.array(known).T
    return Metric(
        value=float(candidate.mean()),
        baseline=float(baseline.mean()),
        delta=paired_difference(candidate, baseline),
        cases=len(known),
        detectable=detectable_drop(candidate - baseline),
    )


def _macro_f1(truth: Mapping[str, int | None], pairs: Iterable[ScorePair]) -> Metric:
    classes = _known_classes(truth, pairs)
    if not classes:
        return Metric()
    labels, candidate, baseline = zip(*classes, strict=True)
    return Metric(
        value=macro_f1(labels, candidate),
        baseline=macro_f1(labels, baseline),
        delta=macro_f1_difference(labels, candidate, baseline),
        cases=len(classes),
        detectable=detectable_share(len(classes)),
    )


def _f1_of_classes(truth: Mapping[str, int | None], pairs: Iterable[ScorePair]) -> dict[int, tuple[float, float]]:
    """Of each class the candidate's and the baseline's F1."""
    classes = _known_classes(truth, pairs)
    if not classes:
        return {}
    labels, candidate, baseline = zip(*classes, strict=True)
    own, reference = f1_by_class(labels, candidate), f1_by_class(labels, baseline)
    return {name: (own.get(name, nan), reference.get(name, nan)) for name in sorted(own.keys() | reference)}


def _known_classes(truth: Mapping[str, int | None], pairs: Iterable[ScorePair]) -> list[tuple[int, int, int]]:
    """Truth, candidate's and baseline's class of the cases that have all three."""
    classes = ((truth.get(c.case), c.subtype, b.subtype) for c, b in pairs)
    return [(t, c, b) for t, c, b in classes if t is not None and c is not None and b is not None]
