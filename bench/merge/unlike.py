"""What the shards of one run must have in common: everything but the cases, the machine and its threads."""

import hashlib
import json
import re
from dataclasses import fields, replace
from typing import Any

from bench.predict.header import hash_of_names
from reports.records.record import RunRecord, VariantSettings
from reports.records.store import json_values

_OF_NETWORK = ("weights_sha256", "members", "code", "architecture", "widened_to", "labels", "subtypes")
_OF_DATA = ("sha256", "split", "calibration_cases", "calibration_sha256", "mask_values")
_OF_MACHINE = {"shard", "threads", "device", "variants"}  # settings that may differ, or are compared otherwise
_LETTERS = 40  # of a value in a message
_SHA256 = re.compile("[0-9a-f]{64}")


def first_unlike(own: RunRecord, other: RunRecord) -> tuple[str, str, str] | None:
    """The first of the facts that must be equal and is not, with both values for a message; None where all are."""
    ours, theirs = _facts(own) | _files(own, other), _facts(other) | _files(other, own)
    for what in dict.fromkeys((*theirs, *ours)):
        if ours.get(what) != theirs.get(what):
            return what, _short(ours.get(what)), _short(theirs.get(what))
    return None


def _facts(record: RunRecord) -> dict[str, Any]:
    checkpoint, data, settings = record.checkpoint, record.data, record.settings
    facts: dict[str, Any] = {f"network: {name}": getattr(checkpoint, name) for name in _OF_NETWORK}
    facts |= {f"data: {name}": getattr(data, name) for name in _OF_DATA}
    facts["data: list of cases"] = hash_of_names(record.listed_cases)
    facts |= {f"task: {name}": own for name, own in vars(record.task).items() if name != "sources"}
    facts |= {"baseline": record.baseline, "peers": record.peers, "plan": settings.plan_sha256}
    facts["device"] = settings.device.partition(":")[0]
    for name, variant in settings.variants.items():
        facts |= {f"{name}: {what}": value for what, value in vars(_made_of(variant)).items()}
    own = (each.name for each in fields(settings) if each.name not in _OF_MACHINE)
    facts |= {f"setting {name}": getattr(settings, name) for name in own}
    facts |= {f"controlled setting {name}": _but_number(name, own) for name, own in record.controlled_settings.items()}
    facts |= {f"version of {name}": own for name, own in record.versions.items()}
    return facts


def _files(own: RunRecord, other: RunRecord) -> dict[str, str]:
    """Those that commands of both name: one that only a later shard had was most likely written by an earlier one."""
    theirs = {(name, file) for name, variant in other.settings.variants.items() for file in variant.files}
    return {
        f"{name}: {file}": content
        for name, variant in own.settings.variants.items()
        for file, content in variant.files.items()
        if (name, file) in theirs
    }


def _made_of(own: VariantSettings) -> VariantSettings:
    """Without the folder in which a command ran, and its files."""
    own = own.without_files
    return own if own.command is None else replace(own, command=replace(own.command, folder=""))


def _but_number(name: str, value: str) -> str:
    """Of the threads only how they wait."""
    return value.partition(", ")[2] if name == "threads" else value


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    text = value if isinstance(value, str) else json.dumps(json_values(value))
    if _SHA256.fullmatch(text):
        return text[:12]
    if len(text) <= _LETTERS:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()  # two may begin alike
    return f"{text[:_LETTERS]}... (sha256 {digest[:8]})"
