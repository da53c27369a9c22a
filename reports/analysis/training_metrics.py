"""What the training recorded in the checkpoint about the network's accuracy. No verdict uses it."""

import re
from collections import Counter
from dataclasses import dataclass

from reports.decision.accuracy import DSC, MACRO_F1, MetricKey
from reports.records.record import RunRecord, TaskRecord

_NNUNET = ("_best_ema", "ema_fg_dice", "mean_fg_dice", "dice_per_class_or_region")  # last parts of what nnU-Net records


@dataclass(frozen=True)
class TrainingMetric:
    """A metric under the `name` it has in the checkpoint; `metric` is the score of the task that it is, if any."""

    name: str
    value: float
    metric: MetricKey | None = None

    @property
    def is_nnunet(self) -> bool:
        """Whether nnU-Net's own training recorded it."""
        return _last_part(self.name) in _NNUNET


def training_metrics(record: RunRecord) -> tuple[TrainingMetric, ...]:
    """What the training recorded, in the order of the checkpoint."""
    named = [(name, key) for key, names in recorded_names(record.task).items() for name in names]
    often = Counter(name for name, _ in named)
    keys = {name: key for name, key in named if often[name] == 1}  # what two structures go by is neither's
    recorded = record.checkpoint.training_metrics
    return tuple(TrainingMetric(name, value, keys.get(_last_part(name).lower())) for name, value in recorded.items())


def recorded_names(task: TaskRecord) -> dict[MetricKey, tuple[str, ...]]:
    """The last parts of the names that training scripts give the task's scores, in lower case.

    A structure goes by its name, or by the first word of it where no other structure begins so: "whole pancreas" is
    ``whole_pancreas_dice`` or ``whole_dice``.
    """
    first = Counter(_words(structure)[0] for structure in task.structures)
    names: dict[MetricKey, tuple[str, ...]] = {}
    for structure in task.structures:
        words = _words(structure)
        stems = dict.fromkeys(["_".join(words), *([words[0]] if first[words[0]] == 1 else [])])
        names[MetricKey(DSC, structure)] = tuple(f"{stem}_{end}" for stem in stems for end in ("dice", "dsc"))
    return names | {MACRO_F1: ("cls_f1", "macro_f1")}


def _words(structure: str) -> list[str]:
    return re.findall(r"\w+", structure.lower().replace("_", " ")) or [""]


def _last_part(name: str) -> str:
    return re.split(r"[./]", name)[-1]
