"""What stands in the plan where a network does, in a run of own commands alone that has none: the task, and no more."""

from torch import nn

from models.model import REFERENCE_WINDOW, Model
from models.task import Task
from reports.records.record import CheckpointRecord, OptionsRecord

NONE = "none"  # in the place of a container


def model_of(task: Task) -> Model:
    """A model that is never run; its labels, channels and classes are those of the task."""
    return Model(
        module=nn.Identity(),
        architecture=NONE,
        width=0,
        tile=(0, 0, 0),
        window=REFERENCE_WINDOW,
        sha256="",
        task=task,
        labels=task.output_labels,
        painting=task.output_painting,
        subtypes=len(task.classes),
    )


def describe(model: Model, options: OptionsRecord) -> CheckpointRecord:
    """What the record says of it."""
    return CheckpointRecord(
        path="",
        sha256="",
        weights_sha256="",
        demo=False,
        options=options,
        architecture=NONE,
        width=0,
        parameters=0,
        labels=model.labels,
        subtypes=model.subtypes,
        remarks=("there was none: own commands ran alone, and the task came from --task",),
        container=NONE,
    )
