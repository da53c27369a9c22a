"""What the training recorded in the checkpoint about the network's accuracy. No verdict uses it."""

import re
from dataclasses import dataclass

from reports.decision.accuracy import DSC, MACRO_F1, MetricKey
from reports.records.record import RunRecord

NAMES = {  # last parts of the names that training scripts give the metrics
    MetricKey(DSC, "whole pancreas"): ("whole_dice", "whole_dsc"),
    MetricKey(DSC, "lesion"): ("lesion_dice", "lesion_dsc"),
    MACRO_F1: ("cls_f1", "macro_f1"),
}
_NNUNET = ("_best_ema", "ema_fg_dice", "mean_fg_dice", "dice_per_class_or_region")  # last parts of what nnU-Net records


@dataclass(frozen=True)
class TrainingMetric:
    """A metric under the `name` it has in the checkpoint; `metric` is the one of `NAMES` that it is, if any."""

    name: str
    value: float

    @property
    def metric(self) -> MetricKey | None:
        return next((metric for metric, names in NAMES.items() if self._last_part in names), None)

    @property
    def is_nnunet(self) -> bool:
        """Whether nnU-Net's own training recorded it."""
        return self._last_part in _NNUNET

    @property
    def _last_part(self) -> str:
        return re.split(r"[./]", self.name)[-1]


def training_metrics(record: RunRecord) -> tuple[TrainingMetric, ...]:
    """What the training recorded, in the order of the checkpoint."""
    return tuple(TrainingMetric(name, value) for name, value in record.checkpoint.training_metrics.items())
