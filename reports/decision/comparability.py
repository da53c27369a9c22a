"""What two runs must have in common before they may be compared, and what else differs between them."""

from collections.abc import Mapping

from reports.formatting import count
from reports.records.record import HostRecord, RunRecord
from reports.records.store import RecordError, Run

_NOT_STATED = "not stated"
_SHOWN = 12  # characters of a hash

Difference = tuple[str, str, str]
"""What differs, its value in the reference, and in the other run."""


def require_comparable(reference: Run, other: Run) -> None:
    """Controlled settings, weights, data, device and baseline must be those of the reference.

    Raises:
        RecordError: one of them is not. The line lists each difference.
    """
    differences = controlled_differences(reference.record, other.record)
    if differences:
        listed = "; ".join(f"{name} is {new}, there {old}" for name, old, new in differences)
        raise RecordError(
            f"{other.name}: not comparable with {reference.name}: {listed}; measure again with what the reference had"
        )


def controlled_differences(reference: RunRecord, other: RunRecord) -> tuple[Difference, ...]:
    """What must be equal in runs that are compared, and is not."""
    return (
        *_differences(_controlled(reference), _controlled(other)),
        *_calibration(reference, other),
        *_recipes(reference, other),
        *_structures(reference, other),
    )


def machine(record: RunRecord) -> str:
    """The machine in words, the same for all runs on it, whatever its system and drivers; of shards each machine."""
    return " and ".join(machines(record))


def machines(record: RunRecord) -> list[str]:
    """The unlike machines of a run, in words: of each of its shards, or the only one."""
    own = [(shard.host, shard.device) for shard in record.shards] or [(record.host, record.settings.device)]
    return sorted({_machine(*each) for each in own})


def _machine(host: HostRecord, device: str) -> str:
    quota = f"a quota of {host.cpu_quota:g} CPUs" if host.cpu_quota is not None else ""
    gpu = host.gpu or "" if device.startswith("cuda") else ""
    cores = "" if host.cores is None else count(host.cores, "core")
    return ", ".join(part for part in (gpu, host.processor, host.cpu_features or "", cores, quota) if part)


def uncontrolled_differences(reference: Run, other: Run) -> tuple[Difference, ...]:
    """What may differ between runs that are compared, and does: date, host, versions, and how much was measured."""
    return tuple(_differences(_uncontrolled(reference.record), _uncontrolled(other.record)))


def _controlled(record: RunRecord) -> dict[str, str]:
    settings, checkpoint = record.settings, record.checkpoint
    # The controlled batch also names those of single variants (A@4), which a run may have or lack.
    controlled = {
        name: value
        for name, value in record.controlled_settings.items()
        if not name.startswith(("but recipe ", "but command "))
    }
    controlled |= {"batch": str(settings.batch)}
    controlled["tile"] = " x ".join(map(str, settings.tile))
    controlled["accuracy shown by"] = settings.accuracy
    controlled |= {"overlap": f"{settings.overlap:g}", "ROI": settings.roi, "protocol": settings.protocol}
    identity = {
        "weights": checkpoint.weights_sha256,
        "code of the network": checkpoint.code,
        "widened to": str(checkpoint.widened_to or ""),
        "data": record.data.sha256,
    }
    members = [weights[:_SHOWN] for weights in checkpoint.members]
    if members:
        controlled["further networks of the ensemble"] = ", ".join(members)
    kind = settings.device.partition(":")[0]  # which of the GPUs is a matter of the host
    return {
        **controlled,
        "threads": record.threads,
        **{name: _shortened(value) for name, value in identity.items() if value},
        "cases": str(len(record.cases)),
        **({"shard": settings.shard} if settings.shard else {}),
        "device": kind,
        "baseline": record.baseline,
    }


def _calibration(reference: RunRecord, other: RunRecord) -> list[Difference]:
    """INT8 ranges come from these cases; a run without an INT8 variant has none."""
    old, new = (record.data.calibration_cases for record in (reference, other))
    if not old or not new or sorted(old) == sorted(new):
        return []
    texts = [f"{len(names)}, from {min(names)} on" for names in (old, new)]
    return [("calibration cases", texts[0], texts[1])]


def _recipes(reference: RunRecord, other: RunRecord) -> list[Difference]:
    """A run may have or lack a recipe or a command, but one name must stand for one thing."""
    old, new = ({**own.settings.recipes, **own.settings.commands} for own in (reference, other))
    texts = {name: [str(recipes[name]) for recipes in (old, new)] for name in old if name in new}
    return [(f"recipe {name}", before, after) for name, (before, after) in texts.items() if before != after]


def _structures(reference: RunRecord, other: RunRecord) -> list[Difference]:
    """A run may score more structures than the other, but one name must stand for one thing."""
    old, new = reference.task.structures, other.task.structures
    both = [(name, old[name], new[name]) for name in old if name in new]
    labels = [(f"labels of {name}", *(" and ".join(map(str, own.labels)) for own in pair)) for name, *pair in both]
    tolerances = [
        (
            f"NSD tolerance of {name}",
            *(f"{own.nsd_tolerance_mm:g} mm" if own.nsd_tolerance_mm is not None else "" for own in pair),
        )
        for name, *pair in both
    ]
    return [
        (name, before, after) for name, before, after in labels + tolerances if before and after and before != after
    ]


def _uncontrolled(record: RunRecord) -> dict[str, str]:
    rounds = "auto" if record.settings.rounds is None else str(record.settings.rounds)
    facts = {"started": record.created, "device": record.settings.device, "rounds": rounds}
    facts |= {"seed": str(record.settings.seed), "data folder": record.data.root}
    facts |= {f"host: {name}": str(value) for name, value in record.host.known().items()}
    for name, own in record.settings.commands.items():
        facts |= {f"{file} of command {name}": _shortened(content) for file, content in own.files.items()}
    return facts | {f"version of {name}": value for name, value in record.versions.items()}


def _differences(reference: Mapping[str, str], other: Mapping[str, str]) -> list[Difference]:
    names = {**reference, **other}
    both = [(name, reference.get(name, _NOT_STATED), other.get(name, _NOT_STATED)) for name in names]
    return [(name, old, new) for name, old, new in both if old != new]


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
