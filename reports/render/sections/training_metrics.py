"""What the checkpoint says about its own accuracy, beside what was measured, and never mixed with it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from reports import formatting
from reports.decision.comparison import Metric
from reports.decision.verdict import METRICS
from reports.records.record import RunRecord
from reports.render.commonmark import section, table, text
from reports.summary import Summary

_NAMES = {  # last parts of the names that training scripts give them
    "whole_dsc": ("whole_dice", "whole_dsc"),
    "lesion_dsc": ("lesion_dice", "lesion_dsc"),
    "macro_f1": ("cls_f1", "macro_f1"),
}
_KNOWN = [name for names in _NAMES.values() for name in names]
_NNUNET = ("_best_ema", "ema_fg_dice", "mean_fg_dice", "dice_per_class_or_region")  # last parts of what nnU-Net records
_REFERENCE = "multitask-unet"
_PROTOCOLS = {"sliding-window": "whole volume by sliding window", "center-patch": "one centre patch a case"}
_UNSTATED = "that of its training script, which the file does not state"
_CROP = "one random 64^3 crop a case, as the reference training script takes it"
_PSEUDO = (  # nnunetv2: nnUNetTrainer.on_validation_epoch_end, and nnUNetLogger.log for the moving average
    "nnU-Net's pseudo Dice, over random patches of its validation fold with all voxels of an epoch pooled, as a mean "
    "over the foreground classes (ema: moving average over epochs, 0.9 to 0.1)"
)


def recorded(summary: Summary) -> str:
    """A section with the recorded metrics and the measured baseline, each under its protocol."""
    held: Mapping[str, Any] = summary.record.checkpoint.get("recorded") or {}
    found = {k: float(v) for k, v in held.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    if not found:
        return section("Recorded accuracy", "The checkpoint records no accuracy of its own.")
    baseline = summary.row(summary.record.baseline)
    rows = []
    for metric in _NAMES:
        label = METRICS[metric]
        measured = _measured(getattr(baseline.parity, metric) if baseline else Metric())
        values = {k: formatting.score(v) for k, v in found.items() if _last(k) in _NAMES[metric]}
        rows += [[label if len(values) == 1 else f"{label} ({text(k)})", v, measured] for k, v in values.items()]
        if not values:
            rows.append([label, "not recorded", measured])
    rows += [
        [text(k), formatting.score(v), formatting.NOT_MEASURED] for k, v in found.items() if _last(k) not in _KNOWN
    ]
    head = ["", "recorded in the checkpoint", f"measured here, {summary.record.baseline}"]
    return section("Recorded accuracy", table(head, rows), _protocols(summary.record, found, summary.cases))


def _measured(found: Metric) -> str:
    return formatting.score(found.value) if found.applicable else formatting.NOT_APPLICABLE


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]


def _protocols(record: RunRecord, names: Iterable[str], cases: int) -> str:
    settings = record.settings
    protocol = _PROTOCOLS.get(settings.protocol, settings.protocol)
    if settings.protocol == "sliding-window":
        protocol += f", overlap {settings.overlap:g}"
    return (
        f"Protocol of the recorded figures: {_how_recorded(record, names)}. Protocol of the measured ones: {protocol}, "
        f"{formatting.count(cases, 'case')}. The two answer different questions; no verdict uses the recorded ones."
    )


def _how_recorded(record: RunRecord, names: Iterable[str]) -> str:
    """The protocol of each recorded figure, as far as its name or the network tells."""
    script = _CROP if record.checkpoint.get("architecture") == _REFERENCE else _UNSTATED
    own = [name for name in names if _last(name) in _NNUNET]
    others = [name for name in names if _last(name) not in _NNUNET]
    if not own:
        return script
    return f"for {', '.join(map(text, own))}: {_PSEUDO}" + (f"; for the others: {script}" if others else "")
