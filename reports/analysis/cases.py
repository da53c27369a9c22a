"""The cases that a variant changes most, the worst first."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan

from reports.decision.accuracy import DSC, MetricKey, ScorePair, is_left_out, paired_scores, score_of
from reports.records.record import AGREEMENT, RunRecord
from reports.records.store import Run

_LOST, _CHANGED, _EQUAL = range(3)  # what became of a case's class, the worst first


@dataclass(frozen=True, kw_only=True)
class CaseChange:
    """What a variant makes of a case, beside what the baseline makes of it.

    Attributes:
        truth: class of the case; None where it is not known, and in a run that is judged by agreement.
        baseline_class, variant_class: that each predicts; None where it gives none.
        structure: whose DSC falls most, or rises least; empty where none has one in this case.
        baseline_dsc, variant_dsc: of that structure; by agreement with the baseline's mask. NaN without one.
        voxels: compared; `differing_voxels`: labelled otherwise than by the baseline.
    """

    case: str
    truth: int | None
    baseline_class: int | None
    variant_class: int | None
    structure: str = ""
    baseline_dsc: float = nan
    variant_dsc: float = nan
    voxels: int
    differing_voxels: int

    @property
    def flipped(self) -> bool:
        """Whether its class is not the baseline's; never where the baseline gives none."""
        return self.baseline_class is not None and self.variant_class != self.baseline_class

    @property
    def class_lost(self) -> bool:
        """Whether its class is not the baseline's, and did not become right."""
        return self.flipped and (self.truth is None or self.variant_class != self.truth)

    @property
    def differs(self) -> bool:
        """Whether its class, a score or a voxel is not the baseline's."""
        return self.flipped or self.dsc_change < 0 or self.differing_voxels > 0

    @property
    def dsc_change(self) -> float:
        """Of `structure`, below 0 where it is lost; NaN without one."""
        return self.variant_dsc - self.baseline_dsc

    @property
    def changed(self) -> float:
        """Share of the voxels labelled otherwise than by the baseline; NaN where none were compared."""
        return self.differing_voxels / self.voxels if self.voxels else nan

    @property
    def severity(self) -> tuple[int, float, int]:
        """Sorts the worst first: by class, then DSC lost, then changed voxels.

        A class that was right comes before one that changed otherwise; one that became right is no loss.
        """
        was_right = self.truth is not None and self.baseline_class == self.truth
        of_class = _EQUAL if not self.class_lost else _LOST if was_right else _CHANGED
        return of_class, 0.0 if isnan(self.dsc_change) else self.dsc_change, -self.differing_voxels


def worst_cases(run: Run, name: str | None) -> tuple[CaseChange, ...]:
    """The cases that variant `name` and the baseline both predicted, the worst first; equal ones by name.

    None for the baseline, and where `name` is None.
    """
    record = run.record
    if name is None or name == record.baseline:
        return ()
    pairs = paired_scores(run.variant(name).scores, run.variant(record.baseline).scores)
    by_agreement = record.settings.accuracy == AGREEMENT
    truth = {} if by_agreement else {case.name: case.subtype for case in record.cases}
    return tuple(sorted((_change(record, pair, truth) for pair in pairs), key=lambda change: change.severity))


def _change(record: RunRecord, pair: ScorePair, truth: Mapping[str, int | None]) -> CaseChange:
    own, _ = pair
    structure, baseline_dsc, variant_dsc = _worst_structure(record, pair)
    return CaseChange(
        case=own.case,
        truth=truth.get(own.case),
        baseline_class=own.baseline_subtype,
        variant_class=own.subtype,
        structure=structure,
        baseline_dsc=baseline_dsc,
        variant_dsc=variant_dsc,
        voxels=own.voxels,
        differing_voxels=own.differing_voxels,
    )


def _worst_structure(record: RunRecord, pair: ScorePair) -> tuple[str, float, float]:
    """The structure whose DSC falls most, with the baseline's and the variant's."""
    worst = ("", nan, nan)
    for name in record.task.structures:
        own, baseline = (score_of(score, MetricKey(DSC, name)) for score in pair)
        if own is None or baseline is None or is_left_out(record, pair, name):
            continue
        if not worst[0] or own - baseline < worst[2] - worst[1]:
            worst = (name, baseline, own)
    return worst
