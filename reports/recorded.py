"""What the checkpoint says about its own accuracy, beside what was measured, and never mixed with it."""

from collections.abc import Mapping
from typing import Any

from reports import figures
from reports.commonmark import section, table, text
from reports.record import RunRecord
from reports.summary import Summary
from reports.verdict import METRICS

_NAMES = {  # last parts of the names that training scripts give them
    "whole_dsc": ("whole_dice", "whole_dsc"),
    "lesion_dsc": ("lesion_dice", "lesion_dsc"),
    "macro_f1": ("cls_f1", "macro_f1"),
}
_REFERENCE = "multitask-unet"
_PROTOCOLS = {"sliding-window": "whole volume by sliding window", "center-patch": "one centre patch a case"}


def recorded(summary: Summary) -> str:
    """A section with the recorded metrics and the measured baseline, each under its protocol."""
    found: Mapping[str, Any] = summary.record.checkpoint.get("recorded") or {}
    figures_found = {k: float(v) for k, v in found.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    if not figures_found:
        return section("Recorded accuracy", "The checkpoint records no accuracy of its own.")
    baseline = summary.row(summary.record.baseline)
    rows = []
    for metric, label in METRICS.items():
        value = next((v for k, v in figures_found.items() if _last(k) in _NAMES[metric]), None)
        measured = getattr(baseline.parity, metric).value if baseline else None
        rows.append([label, "not recorded" if value is None else figures.score(value), figures.score(measured)])
    known = [name for names in _NAMES.values() for name in names]
    rows += [[text(k), figures.score(v), "not measured"] for k, v in figures_found.items() if _last(k) not in known]
    head = ["", "recorded in the checkpoint", f"measured here, {summary.record.baseline}"]
    return section("Recorded accuracy", table(head, rows), _protocols(summary.record, summary.cases))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _protocols(record: RunRecord, cases: int) -> str:
    settings = record.settings
    how = "that of its training script, which the file does not state"
    if record.checkpoint.get("architecture") == _REFERENCE:
        how = "one random 64^3 crop a case, as the reference training script takes it"
    protocol = _PROTOCOLS.get(settings.protocol, settings.protocol)
    if settings.protocol == "sliding-window":
        protocol += f", overlap {settings.overlap:g}"
    return (
        f"Protocol of the recorded figures: {how}. Protocol of the measured ones: {protocol}, "
        f"{figures.count(cases, 'case')}. The two answer different questions; no verdict uses the recorded ones."
    )
