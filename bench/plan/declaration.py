"""A claim declared before the run: what the run is made of, in a file with a hash of its own.

Everything in it is taken from the plan of the run itself (`bench.plan.plan`), so that nothing can be declared that a
run would not do. To run it the plan is made again, by the options that it was declared with, and whatever differs is
refused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench import __version__
from bench.commands.command import named_files
from bench.data.cases import fingerprint
from bench.data.layouts import CaseFiles
from bench.errors import InputError
from bench.plan.plan import Plan
from bench.plan.variants.variants import packages_of
from bench.worker.messages import Open
from engines.probe import versions
from reports.decision.verdict import Claim
from reports.formatting import count
from reports.records.record import Case, VariantSettings
from reports.records.store import json_values

SCHEMA = 1
_PARTS = (
    "claim", "roles", "variants", "scripts", "order", "stopping", "settings", "controlled_settings", "checkpoint",
    "task", "cases", "data", "versions",
)  # fmt: skip
"""What a run is held against; the rest says when and where it was declared, and what is to be expected."""
ANEW = "declare anew with `bench plan`"
_SHOWN, _LETTERS = 3, 60  # differences that a message names, and letters of a value
_ABSENT = object()


@dataclass(frozen=True)
class Declaration:
    """What `bench plan` writes to a file; its content is what its hash says."""

    path: Path
    document: Mapping[str, Any]

    @property
    def options(self) -> list[str]:
        """The command line that it was declared with, without the name of the program."""
        return list(self.document["options"])

    @property
    def sha256(self) -> str:
        """Of its content."""
        return str(self.document["sha256"])

    @property
    def declared(self) -> str:
        """When, as ISO 8601 has it."""
        return str(self.document["declared"])

    @property
    def text(self) -> str:
        """The content of the file."""
        return json.dumps(self.document, indent=2) + "\n"


def parts_of(plan: Plan, stopping: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is made of, as JSON has it; `stopping`: the bounds that are not among its settings.

    Raises:
        InputError: a file cannot be read.
    """
    record, settings, claim = plan.record, plan.record.settings, Claim.of(plan.record.settings)
    placed = {"variants", "required", "seed", "rounds", "budget_s", "plan_sha256", "shard", *vars(claim)}
    rounds = "auto" if settings.rounds is None else settings.rounds
    parts = {
        "claim": {name: value for name, value in vars(claim).items() if name != "variant"},
        "roles": {"baseline": record.baseline, "peers": record.peers, "required": settings.required},
        "variants": {name: _without_files(own) for name, own in settings.variants.items()},
        "scripts": {name: _files_of(own) for name, own in settings.commands.items()},
        "order": {"seed": settings.seed},
        "stopping": {"rounds": rounds, "budget_s": settings.budget_s, **stopping},
        "settings": {each.name: getattr(settings, each.name) for each in fields(settings) if each.name not in placed},
        "controlled_settings": record.controlled_settings,
        "checkpoint": _checkpoint(plan),
        "task": record.task,
        "cases": {case.name: _case(case) for case in record.cases},
        "data": _data(plan),
        "versions": _versions(plan),
    }
    values: dict[str, Any] = json_values(parts)
    return values


def declaration_of(
    path: Path, plan: Plan, stopping: Mapping[str, Any], options: Sequence[str], forecast: Mapping[str, Any]
) -> Declaration:
    """What is to be written to `path` of a plan that `options` led to."""
    record = plan.record
    document = {
        "schema": SCHEMA,
        "declared": record.created,
        "folder": str(Path.cwd()),
        "options": list(options),
        **parts_of(plan, stopping),
        "machine": json_values(record.host.known()),
        "remarks": [*record.data.remarks, *record.host.remarks],
        "forecast": json_values(forecast),
    }
    document["checksums"] = {name: _checksum(value) for name, value in _entries(document)}
    return Declaration(path, document | {"sha256": _sha256(document)})


def read_declaration(path: Path) -> Declaration:
    """Read a plan, and check that it is as it was declared.

    Raises:
        InputError: it is none, of another version, or was changed; what was changed is named.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that `bench plan` wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON document ({error}); give a file that `bench plan` wrote") from None
    if not isinstance(document, dict) or not _is_plan(document):
        raise InputError(f"{path}: not a plan; give a file that `bench plan` wrote")
    if document["schema"] != SCHEMA:
        raise InputError(f"{path}: a plan of schema {document['schema']!r}, where {SCHEMA} is read; {ANEW}")
    _refuse_changed(path, document)
    return Declaration(path, document)


def _is_plan(document: Mapping[str, Any]) -> bool:
    wanted, options = {"schema", "declared", "options", "checksums", "sha256", *_PARTS}, document.get("options")
    return wanted <= document.keys() and isinstance(options, list) and all(isinstance(each, str) for each in options)


def refuse_other(declaration: Declaration, plan: Plan, stopping: Mapping[str, Any]) -> None:
    """Refuse to run a plan that is not the declared one, or go on with a shard of another.

    Raises:
        InputError: so it is; the first differences are named.
    """
    current, declared = parts_of(plan, stopping), dict(declaration.document)
    if plan.record.settings.shard:  # whose data have the hash of all cases
        declared["cases"] = {name: own for name, own in declared["cases"].items() if name in current["cases"]}
    differing = [
        f"{where} is {_short(now)}, declared {_short(before)}"
        for part in _PARTS
        for where, now, before in _differences(current[part], declared[part], part)
    ]
    if differing:
        more = f"; and {count(len(differing) - _SHOWN, 'more difference')}" if len(differing) > _SHOWN else ""
        raise InputError(
            f"{declaration.path}: not what was declared: {'; '.join(differing[:_SHOWN])}{more}; put it back, or {ANEW}"
        )


def _refuse_changed(path: Path, document: Mapping[str, Any]) -> None:
    computed = _sha256(document)
    if computed == document["sha256"]:
        return
    entries, sums = dict(_entries(document)), document["checksums"] if isinstance(document["checksums"], dict) else {}
    changed = [
        f"{name} is {_short(entries.get(name, _ABSENT))}"
        for name in [*entries, *(sums.keys() - entries.keys())]
        if name not in entries or _checksum(entries[name]) != sums.get(name)
    ]
    what = f": {'; '.join(changed[:_SHOWN])}, which was not declared" if changed else ""
    raise InputError(
        f"{path}: was changed after it was declared{what} (its sha256 is {computed[:12]}, declared "
        f"{_short(document['sha256'])}); put it back, or {ANEW}"
    )


def _case(case: Case) -> dict[str, Any]:
    mask = None if case.mask is None else Path(case.mask)
    files = CaseFiles(case.name, tuple(map(Path, case.images)), mask, case.subtype)
    return {"class": case.subtype, "mask": mask is not None, "shape": case.shape, "sha256": fingerprint([files])}


def _checkpoint(plan: Plan) -> dict[str, Any]:
    """The network and how volumes are brought to it; not where its file lies."""
    names = ("weights_sha256", "code", "members", "architecture", "parameters", "labels", "subtypes", "widened_to")
    described = {name: value for name, value in vars(plan.record.checkpoint).items() if name in names}
    settings = next((str(request.settings) for request in plan.opens if isinstance(request, Open)), "")
    return described | {"inference_sha256": hashlib.sha256(settings.encode(errors="surrogateescape")).hexdigest()}


def _data(plan: Plan) -> dict[str, Any]:
    data = plan.record.data
    targets = [target for request in plan.opens if (target := getattr(request, "target", None)) is not None]
    calibration = next((target.calibration.sha256 for target in targets if target.calibration), None)
    return {
        "sha256": data.sha256,
        "split": data.split,
        "mask_values": data.mask_values,
        "calibration_cases": data.calibration_cases,
        "calibration_sha256": calibration,
    }


def _versions(plan: Plan) -> dict[str, str]:
    """Of what runs this plan, and not of every runtime that is installed."""
    settings = [known for request in plan.opens if (known := getattr(request, "settings", None)) is not None]
    plans, bundle = any(known.plans for known in settings), any(known.bundle for known in settings)
    names = packages_of(plan.record.settings.variants, plans=plans, bundle=bundle)
    return {"voxbench": __version__, **versions(*names)}


def _without_files(own: VariantSettings) -> dict[str, Any]:
    """As JSON has it; the files of a command have a part of their own."""
    values: dict[str, Any] = json_values(own)
    if values["command"] is not None:
        del values["command"]["files"]
    return values


def _files_of(own: VariantSettings) -> Mapping[str, str]:
    """Of an own command the files that its line names; those of a run of an older version as they are now."""
    assert own.command is not None
    return named_files(own.command) if own.command.files is None else own.command.files


def _differences(now: Any, before: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Places at which two JSON values differ, with both values there."""
    if isinstance(now, dict) and isinstance(before, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(now.get(key, _ABSENT), before.get(key, _ABSENT), f"{where}.{key}")
    elif now != before:
        yield where, now, before


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parts of a document, or what they consist of, by names such as ``claim.max_dsc_drop``."""
    for part, value in document.items():
        if part in ("schema", "checksums", "sha256"):
            continue
        if isinstance(value, dict) and value:
            yield from ((f"{part}.{name}", own) for name, own in value.items())
        else:
            yield part, value


def _checksum(value: Any) -> str:
    """To name what was changed; that nothing was is proved by the hash of the whole."""
    return hashlib.sha256(_canonical(value)).hexdigest()[:12]


def _sha256(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({k: v for k, v in document.items() if k != "sha256"})).hexdigest()


def _canonical(value: Any) -> bytes:
    """JSON with sorted keys, without spaces, in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef"):
        return value[:12]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 3]}..."
