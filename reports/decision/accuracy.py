"""The scores of one variant beside the baseline's: paired by case, with what was lost and what could have been seen.

In a run that is judged by agreement the scores are those between a variant's mask and the baseline's. The baseline's
own are 1 then, and the paired difference is what lacks to equal masks, so that the same statistics serve both.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import NamedTuple

import numpy as np

from reports.decision.flips import Flip, McNemar, flips, mcnemar
from reports.records.record import ABSENT_SKIP, AGREEMENT, TRUTH, RunRecord, Score, TaskRecord
from reports.records.store import Run
from reports.stats.bootstrap import Interval
from reports.stats.launches import Floats
from reports.stats.power import detectable_drop, detectable_share
from reports.stats.scores import f1_by_class, macro_f1, macro_f1_difference, paired_difference, proportion

DSC, NSD = "dsc", "nsd"
WORST_DSC = "worst_dsc"  # of all cases; only where a run is judged by agreement

_LABELS = {
    DSC: "DSC", NSD: "NSD", WORST_DSC: "worst DSC", "macro_f1": "macro-F1", "class_agreement": "equal classes",
}  # fmt: skip


class MetricKey(NamedTuple):
    """A score: its kind, and the structure that it is of; None for the class of a case."""

    kind: str
    structure: str | None = None

    @property
    def label(self) -> str:
        """``whole-pancreas DSC``"""
        label = _LABELS[self.kind]
        return label if self.structure is None else f"{'-'.join(self.structure.split())} {label}"


MACRO_F1 = MetricKey("macro_f1")
CLASS_AGREEMENT = MetricKey("class_agreement")  # share of the cases whose class is the baseline's


def metric_keys(task: TaskRecord, accuracy: str = TRUTH) -> tuple[MetricKey, ...]:
    """Every score of a task: of all structures the DSC, then the surface distances, then macro-F1.

    By agreement it is the lowest DSC of all cases and the equal classes in the place of macro-F1.
    """
    surfaces = [name for name, structure in task.structures.items() if structure.nsd_tolerance_mm is not None]
    overlaps = [MetricKey(DSC, name) for name in task.structures]
    of_structures = (*overlaps, *(MetricKey(NSD, name) for name in surfaces))
    if accuracy == AGREEMENT:
        return (*of_structures, *(MetricKey(WORST_DSC, name) for name in task.structures), CLASS_AGREEMENT)
    return (*of_structures, MACRO_F1)


def columns(task: TaskRecord, accuracy: str = TRUTH) -> dict[MetricKey, str]:
    """A name of each score for tables of other programs, such as ``whole_pancreas_dsc``.

    By agreement it is ``whole_pancreas_dsc_to_baseline``, so that nobody takes it for a score of the truth.

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
    end = "_to_baseline" if accuracy == AGREEMENT else ""
    keys = metric_keys(task, accuracy)
    return {key: f"{names[key.structure]}_{key.kind}{end}" if key.structure else key.kind for key in keys}


def own_margin(task: TaskRecord, key: MetricKey) -> float | None:
    """How far the task itself lets a score fall; None where it leaves that to the claim."""
    structure = task.structures.get(key.structure or "")
    if structure is None or key.kind == WORST_DSC:
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
        worst_case: of a structure, the case that fell most.
    """

    value: float = nan
    baseline: float = nan
    delta: Interval = field(default_factory=Interval)
    cases: int = 0
    applicable: bool = True
    detectable: float = nan
    absent: int = 0
    own_margin: float | None = None
    worst_case: str = ""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The candidate's accuracy beside the baseline's, or its agreement with the baseline.

    Attributes:
        shown_by: which of the two: `TRUTH` or `AGREEMENT`. By agreement nothing in it is of the truth.
        metrics: every score of the run's task.
        f1: of each class, the candidate's and the baseline's.
        flips: cases whose predicted class is not the baseline's; `mcnemar`: how they bear on the truth.
        voxel_disagreement: share of the voxels labelled otherwise than by the baseline; NaN without predictions.
        cases: predictions compared.
        classifies: whether the run's task has classes.
    """

    shown_by: str = TRUTH
    metrics: Mapping[MetricKey, Metric] = field(default_factory=dict)
    f1: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    flips: tuple[Flip, ...] = ()
    mcnemar: McNemar = field(default_factory=McNemar)
    voxel_disagreement: float = nan
    cases: int = 0
    classifies: bool = True

    def metric(self, key: MetricKey) -> Metric:
        """One of the scores; without values where it is not one of the task's."""
        return self.metrics.get(key, Metric())

    @property
    def class_key(self) -> MetricKey:
        """The score of the cases' classes."""
        return CLASS_AGREEMENT if self.shown_by == AGREEMENT else MACRO_F1

    @property
    def flipped(self) -> tuple[str, ...]:
        """The names of the cases that flipped."""
        return tuple(flip.case for flip in self.flips)

    @classmethod
    def none(cls, run: Run) -> "Accuracy":
        """Of a variant without scores: says what would apply to this run's network."""
        task, shown_by = run.record.task, run.record.settings.accuracy
        metrics = {key: _without_scores(task, key) for key in metric_keys(task, shown_by)}
        return cls(shown_by=shown_by, metrics=metrics, classifies=run.record.classifies)


def compare_accuracy(run: Run, name: str) -> Accuracy:
    """Compare the scores of variant `name` with the baseline's on the cases that both have."""
    pairs = paired_scores(run.variant(name).scores, run.variant(run.record.baseline).scores)
    scores = [score for score, _ in pairs]
    voxels = sum(score.voxels for score in scores)
    truth = _true_classes(run.record)
    return Accuracy(
        shown_by=run.record.settings.accuracy,
        metrics=compare_scores(run.record, pairs),
        f1=_f1_of_classes(truth, pairs),
        flips=flips(truth, scores),
        mcnemar=mcnemar(truth, scores) if run.record.classifies else McNemar(),
        voxel_disagreement=sum(score.differing_voxels for score in scores) / voxels if voxels else nan,
        cases=len(pairs),
        classifies=run.record.classifies,
    )


def paired_scores(candidate: Iterable[Score], baseline: Iterable[Score]) -> list[ScorePair]:
    """The scores of the cases that both have, by name."""
    own, reference = ({score.case: score for score in scores} for scores in (candidate, baseline))
    return [(own[case], reference[case]) for case in sorted(own.keys() & reference.keys())]


def compare_scores(record: RunRecord, pairs: Sequence[ScorePair]) -> dict[MetricKey, Metric]:
    """Every score of the run's task over the cases that have it in both."""
    truth = _true_classes(record)
    present: dict[str | None, Sequence[ScorePair]] = {
        name: [pair for pair in pairs if not is_left_out(record, pair, name)] for name in record.task.structures
    }

    def compare(key: MetricKey) -> Metric:
        empty = _without_scores(record.task, key)
        if not empty.applicable:
            return empty
        if key.structure is None and pairs and all(baseline.subtype is None for _, baseline in pairs):
            return replace(empty, applicable=False)  # an own command may give no class, whatever the task has
        if key.structure is None:
            metric = _macro_f1(truth, pairs) if key == MACRO_F1 else _class_agreement(pairs)
        else:
            metric = (_worst_score if key.kind == WORST_DSC else _mean_score)(present[key.structure], key)
        absent = len(pairs) - len(present[key.structure]) if key.structure is not None else 0
        return replace(metric, absent=absent, own_margin=empty.own_margin)

    return {key: compare(key) for key in metric_keys(record.task, record.settings.accuracy)}


def _true_classes(record: RunRecord) -> dict[str, int | None]:
    """By case; none where the run is judged by agreement, even if the data hold them."""
    return {} if record.settings.accuracy == AGREEMENT else {case.name: case.subtype for case in record.cases}


def is_left_out(record: RunRecord, pair: ScorePair, structure: str) -> bool:
    """Whether a case counts nothing for a structure, as its truth and both predictions are without it.

    By agreement: as neither the mask nor the baseline's holds it.
    """
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
    return getattr(structure, DSC if key.kind == WORST_DSC else key.kind) if structure else None


def _mean_score(pairs: Iterable[ScorePair], key: MetricKey) -> Metric:
    """The mean of a score over the cases where both have it."""
    cases, candidate, baseline = _known_scores(pairs, key)
    if not cases:
        return Metric()
    return Metric(
        value=float(candidate.mean()),
        baseline=float(baseline.mean()),
        delta=paired_difference(candidate, baseline),
        cases=len(cases),
        detectable=detectable_drop(candidate - baseline),
        worst_case=cases[int(np.argmin(candidate - baseline))],
    )


def _worst_score(pairs: Iterable[ScorePair], key: MetricKey) -> Metric:
    """The lowest score of all cases. It has no bounds, since the cases at hand do not bound the worst of others."""
    cases, candidate, baseline = _known_scores(pairs, key)
    if not cases:
        return Metric()
    value, reference = float(candidate.min()), float(baseline.min())
    worst_case = cases[int(np.argmin(candidate))]
    return Metric(
        value=value, baseline=reference, delta=Interval(value - reference), cases=len(cases), worst_case=worst_case
    )


def _known_scores(pairs: Iterable[ScorePair], key: MetricKey) -> tuple[list[str], Floats, Floats]:
    """The cases where both have a score, and the candidate's and the baseline's of each."""
    values = [(c.case, score_of(c, key), score_of(b, key)) for c, b in pairs]
    known = [(case, c, b) for case, c, b in values if c is not None and b is not None]
    candidate, baseline = (np.array([score[i] for score in known], dtype=np.float64) for i in (1, 2))
    return [case for case, *_ in known], candidate, baseline


def _class_agreement(pairs: Iterable[ScorePair]) -> Metric:
    """The share of the cases whose class is the baseline's. A class that is missing is another one.

    Beside a variant whose classes are all the baseline's, as its own are, the bounds are the exact ones of a share.
    """
    classes = [(c, b) for c, b in pairs if c.baseline_subtype is not None and b.baseline_subtype is not None]
    if not classes:
        return Metric()
    candidate, baseline = (
        np.array([pair[i].subtype == pair[i].baseline_subtype for pair in classes], dtype=np.float64) for i in (0, 1)
    )
    changes = proportion(int((candidate == 0).sum()), len(classes))
    exact = Interval(0.0 - changes.estimate, 0.0 - changes.high, 0.0 - changes.low)  # and never -0
    return Metric(
        value=float(candidate.mean()),
        baseline=float(baseline.mean()),
        delta=exact if baseline.all() else paired_difference(candidate, baseline),
        cases=len(classes),
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
