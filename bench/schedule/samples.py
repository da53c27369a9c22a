"""A sample out of what a worker replied, and what is wrong with what an own command wrote."""

from collections.abc import Sequence
from pathlib import Path

from bench.data.volume import MaskValues, read_mask, read_space
from bench.errors import InputError
from bench.worker.messages import CommandRan, Predicted
from reports.records.record import ALL_CASES, Case, RunRecord, Sample, TaskRecord, VariantSettings


def sample_of(
    reply: Predicted | CommandRan, own: VariantSettings, run: RunRecord, phase: str, number: int, cases: Sequence[Case]
) -> Sample:
    """What a variant made of `own` settings replied on `cases`, a single one but in a call over all."""
    if isinstance(reply, Predicted):
        timing = reply.timing
        return Sample(
            phase=phase,
            round=number,
            case=cases[0].name,
            case_ns=reply.case_ns,
            stages_ns=reply.stages_ns,
            device_ns=timing.device_ns,
            tiles=timing.tiles,
            subtype=timing.subtype,
            started_unix_s=reply.started_unix_s,
            cpu_ns=reply.cpu_ns,
            gpu=reply.gpu,
            roi=timing.roi,
            class_checked=timing.class_checked,
        )
    classes = reply.classes if run.classifies else dict.fromkeys(reply.classes)
    return Sample(
        phase=phase,
        round=number,
        case=ALL_CASES if own.one_call else cases[0].name,
        case_ns=reply.case_ns,
        stages_ns=reply.stages_ns,
        device_ns=None,
        tiles=0,
        subtype=None if own.one_call else classes[cases[0].name],
        started_unix_s=reply.started_unix_s,
        cpu_ns=reply.cpu_ns,
        classes=classes if own.one_call else None,
    )


def fault_of_command(
    task: TaskRecord, sample: Sample, earlier: Sample, cases: Sequence[Case], masks: Sequence[Path]
) -> str | None:
    """What is wrong with the masks or classes of an own command's `sample`; None where nothing is.

    Each mask of each round is looked at: a command may fail in one of them. `earlier`: its first sample, or this one.
    """
    values = MaskValues.of(task)
    for case, mask in zip(cases, masks, strict=True):
        try:
            read_mask(mask, read_space(Path(case.image)), values)
        except InputError as error:
            return f"{case.name}: its mask cannot be used: {error}"
    had = any(each is not None for each in earlier.subtypes.values())
    for of_case, subtype in sample.subtypes.items():
        if (subtype is not None) != had:
            return f"{of_case}: it gives a class of some cases and not of others; give one of each, or of none"
        if subtype is not None and subtype >= task.classes:
            return f"{of_case}: its class {subtype} is unknown; the task has {task.classes}, counted from 0"
    return None
