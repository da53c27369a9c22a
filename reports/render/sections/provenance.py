"""What a figure needs to be believed and repeated: controlled settings, host, versions, data, checkpoint, command."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from reports import formatting
from reports.decision.verdict import MARGINS
from reports.records.record import AGREEMENT, RunRecord, StructureRecord, TaskRecord
from reports.render.commonmark import bullets, section, text, words
from reports.stats.bootstrap import MIN_CASES, RESAMPLES
from reports.stats.power import ENOUGH_FOR_F1
from reports.summary.summary import Summary

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ALWAYS_SHOWN = ("absent",)  # of the settings that have a default
_SHOWN = 8  # items of a list; the rest are counted, as run.json holds them all


def provenance_sections(summary: Summary) -> str:
    """Everything about the run that is not a result."""
    record = summary.record
    checkpoint = asdict(record.checkpoint)
    del checkpoint["training_metrics"]  # which have a section of their own
    for name in ("members", "further_paths"):
        if not checkpoint[name]:  # no ensemble
            del checkpoint[name]
    data = asdict(record.data)
    del data["remarks"]  # which are notes under the verdict
    if not data["calibration_sha256"]:
        del data["calibration_sha256"]
    settings = _settings(record)
    subtypes = {case.subtype for case in record.cases} - {None}
    cases = {
        "cases": f"{len(record.cases)}, {sum(c.mask is not None for c in record.cases)} with a mask, "
        f"{sum(c.subtype is not None for c in record.cases)} with a subtype ({len(subtypes)} subtypes)"
    }
    sections = (
        section("Controlled settings", _facts_table(record.controlled_settings)),
        section("Host and versions", _facts_table({**record.host.known(), **record.versions})),
        section("Task", _facts_table(_task_facts(record.task))),
        section("Checkpoint", _facts_table(checkpoint)),
        section("Data", _facts_table({**data, **cases})),
        section("Settings", _facts_table(settings)),
        section("How the figures are made", method_list(summary.claim.accuracy, shards=bool(record.shards))),
        section("To repeat this run", f"```sh\n{commands(record)}\n```", _run_note(summary)),
    )
    return "\n\n".join(part for part in sections if part)


def commands(record: RunRecord) -> str:
    """What was typed: of a merged run the shards' commands before its own."""
    return "\n".join((*(shard.command for shard in record.shards), record.command))


def _settings(record: RunRecord) -> dict[str, Any]:
    """Without those that concern few runs, where they have their default."""
    settings = record.settings
    usual = {each.name: each.default for each in fields(settings) if each.name not in _ALWAYS_SHOWN}
    shown = {name: value for name, value in asdict(settings).items() if value != usual.get(name, MISSING)}
    shown["variants"] = list(settings.variants)  # the recipes are among the controlled settings
    margins = {name for names in MARGINS.values() for name in names}  # of which those of the run's claim are shown
    shown = {name: value for name, value in shown.items() if name not in margins or name in MARGINS[settings.accuracy]}
    if settings.accuracy == AGREEMENT:
        shown |= {name: getattr(settings, name) for name in MARGINS[AGREEMENT]}
    shown["threads"] = settings.threads or record.threads
    return shown | ({"rounds": "auto"} if settings.rounds is None else {})


def _task_facts(task: TaskRecord) -> dict[str, Any]:
    """What the network is for; empty for a run made before that was recorded."""
    if not task.name:
        return {}
    structures = [_structure_text(name, own) for name, own in task.structures.items()]
    return {
        "name": task.name,
        "channels": task.channels,
        "labels": [f"{value} {name}" for name, value in task.labels.items()],
        "ignored in the truth": task.ignore,
        "structures": structures,
        "classes": task.class_names or task.classes,
        "where from": task.sources,
    }


def _structure_text(name: str, own: StructureRecord) -> str:
    """``lesion (2; NSD within 2 mm)``"""
    margins = (("DSC", own.max_dsc_drop), ("NSD", own.max_nsd_drop))
    parts = [
        " and ".join(map(str, own.labels)) or "every label",
        "no NSD" if own.nsd_tolerance_mm is None else f"NSD within {own.nsd_tolerance_mm:g} mm",
        *(f"{kind} margin {margin:g}" for kind, margin in margins if margin is not None),
        *([] if own.predicted else ["the network has no class of it"]),
    ]
    return f"{name} ({'; '.join(parts)})"


def _facts_table(facts: Mapping[str, Any]) -> str:
    rows = [
        [text(name.removesuffix("_bytes").replace("_", " ")), _value_text(name, value)] for name, value in facts.items()
    ]
    return words(["what", "value"], rows) if rows else ""


def _value_text(name: str, value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return formatting.mebibytes(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{text(k)}: {_value_text(str(k), v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_value_text("", item) for item in value[:_SHOWN])
        return f"{shown} and {len(value) - _SHOWN} more" if len(value) > _SHOWN else shown or "none"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return f"{value[:12]}..."
    return f"{value:g}" if isinstance(value, float) else text(value)


def _run_note(summary: Summary) -> str:
    record = summary.record
    return f"Run {text(record.id)}, started {text(record.created)}, {text(record.status)}."


_SHARDS = ", and Student's over the shards' own means where that claims less"


def method_list(accuracy: str, *, shards: bool) -> str:
    """How the figures and the verdicts are made."""
    return bullets([
        "Speedup: baseline time / candidate time of each paired sample; the median over a case's rounds, then the "
        "geometric mean over the cases. Time reduction: 1 - 1 / speedup.",
        "Bounds: bootstrap over the cases, and over the launches of the processes where there are several"
        f"{_SHARDS * shards}; {RESAMPLES:,} resamples, fixed seed, percentiles expanded for few cases, never narrower "
        "than the t-interval. The patient is the unit.",
        "Rows: CONFIRMED is Holm's over all variants. Where the run could stop after each round k, the level is 0.05 / "
        "(k (k + 1)), so that the error over all rounds stays below 5 %. The confirmation has a number of rounds fixed "
        "beforehand and one claim: 5 % as it stands.",
        *(_BY_AGREEMENT if accuracy == AGREEMENT else _BY_TRUTH),
    ])  # fmt: skip


_BY_TRUTH = (
    "CONFIRMED: the lower bound of the time reduction reaches what is required, and every score is kept: the lower "
    "bound of its paired difference stays within the margin.",
    "REFUTED: the upper bound of the time reduction is below what is required, or a score fell by more than its "
    f"margin. INCONCLUSIVE: anything else, any claim on fewer than {MIN_CASES} cases, and an unchanged macro-F1 on "
    f"fewer than {ENOUGH_FOR_F1}.",
)
_BY_AGREEMENT = (
    "Agreement: each variant's masks are scored against the baseline's own, and no mask of the data is. The bound of "
    "the share of changed classes is exact (Clopper and Pearson); the worst DSC is observed and has none.",
    "CONFIRMED: the lower bound of the time reduction reaches what is required, and every score agrees: the lower "
    "bound of each mean and the worst DSC reach what is required, and the upper bound of the changed classes does not "
    "pass what is allowed.",
    "REFUTED: the upper bound of the time reduction is below what is required, or a mean score, the worst DSC or the "
    "share of changed classes is itself beyond what is required. INCONCLUSIVE: anything else, and any claim on fewer "
    f"than {MIN_CASES} cases.",
)
