"""Shards of `bench run`: one run of all cases, judged by the same rules, with the shards as a level of their own."""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeVar

from bench.choices import PLAN_FILE
from bench.errors import InputError
from bench.merge.shards import Part, refuse_foreign, whole
from bench.merge.unlike import first_unlike
from bench.package.export import refuse_place, unfinished
from bench.progress import Progress
from bench.run import write_classes, write_documents
from bench.schedule.run_directory import RunDirectory
from bench.shard import Shard
from reports.records.record import (
    COMPLETE,
    FAILED,
    OK,
    SKIPPED,
    EvidenceRecord,
    HostRecord,
    RunRecord,
    ShardRecord,
    VariantRecord,
)
from reports.records.store import VARIANTS_FOLDER, Run, read_run, write_run

Value = TypeVar("Value")

_JOINED = ("processor", "gpu")  # of a machine; what else is unlike is None


def merge_runs(folders: Sequence[Path], out: Path, command: str, progress: Progress) -> Run:
    """Join the shards in `folders` into a run in `out`; `command` is what was typed.

    Raises:
        InputError, reports.records.store.RecordError: they are no whole set of complete shards of one run, or `out`
            cannot be written to; nothing was written.
    """
    refuse_place(out)
    parts = _checked([_read(folder) for folder in folders])
    run = _joined(parts, command)
    with unfinished(out) as work:
        progress.start("copying predictions", len(parts))
        for part in parts:
            _copy(part, work)
            progress.advance(str(part.shard))
        write_run(work, run)
        write_classes(RunDirectory(work), run.variants)
        write_documents(RunDirectory(work), replace(run, folder=out))
    return read_run(out)


def _read(folder: Path) -> Part[Run]:
    run = read_run(folder)
    if not run.record.settings.shard:
        what = "was merged already" if run.record.shards else "a run of all cases, and no shard"
        raise InputError(f"{folder}: {what}; name folders of `bench run --shard I/N`")
    return Part(folder, Shard.of(run.record.settings.shard), run)


def _checked(parts: Sequence[Part[Run]]) -> list[Part[Run]]:
    first = parts[0]
    for part in parts[1:]:
        difference = first_unlike(part.content.record, first.content.record)
        if difference is not None and part.shard.count == first.shard.count:
            refuse_foreign(part, first, *difference)
    ordered = whole(parts)
    for part in ordered:
        record = part.content.record
        if record.status != COMPLETE:
            raise InputError(
                f"{part.folder}: shard {part.shard} is not finished ({record.status}); to finish it: "
                f"{RunDirectory(part.folder).command_to_resume}"
            )
        if sorted(case.name for case in record.cases) != part.shard.names(record.listed_cases):
            raise InputError(f"{part.folder}: its cases are not those of shard {part.shard}; run it again")
    return ordered


# --- the record -------------------------------------------------------------------------------------------------------


def _joined(parts: Sequence[Part[Run]], command: str) -> Run:
    records = [part.content.record for part in parts]
    first = records[0]
    variants = tuple(_variant(name, parts) for name in first.settings.variants)
    begun = min(records, key=lambda record: record.created)
    cases = {case.name: case for record in records for case in record.cases}
    record = replace(
        first,
        id=f"{begun.id}-merged",
        created=begun.created,
        command=command,
        settings=replace(
            first.settings,
            shard="",
            threads=_common([record.settings.threads for record in records], 0),
            device=_common([record.settings.device for record in records], first.settings.device.partition(":")[0]),
        ),
        data=replace(first.data, remarks=tuple(dict.fromkeys(each for r in records for each in r.data.remarks))),
        cases=tuple(cases[name] for name in first.listed_cases),
        host=_host(parts),
        confirmed=_confirmed(records, variants),
        confirmation=None,
        peak_flops={},
        peak_libraries={},
        peak_bytes_per_s=None,
        groups=(),
        listed_cases=(),
        shards=tuple(map(_shard, parts)),
    )
    return Run(_with_threads(record), variants)


def _with_threads(record: RunRecord) -> RunRecord:
    """With the numbers of threads of all shards among the controlled settings."""
    controlled = dict(record.controlled_settings)
    if "threads" in controlled:
        controlled["threads"] = f"{record.threads}, {controlled['threads'].partition(', ')[2]}"
    return replace(record, controlled_settings=controlled)


def _shard(part: Part[Run]) -> ShardRecord:
    record = part.content.record
    evidence = {v.name: replace(v.evidence, details={}) for v in part.content.variants if v.evidence is not None}
    return ShardRecord(
        number=part.shard.number,
        id=record.id,
        created=record.created,
        command=record.command,
        cases=tuple(case.name for case in record.cases),
        host=record.host,
        threads=record.settings.threads,
        device=record.settings.device,
        evidence=evidence,
        confirmed=record.confirmed,
        confirmation=record.confirmation,
    )


def _confirmed(records: Sequence[RunRecord], variants: Sequence[VariantRecord]) -> str | None:
    """What all shards confirmed and ran to the end."""
    name = _common([record.confirmed for record in records], None)
    return name if name in {variant.name for variant in variants if variant.status == OK} else None


def _host(parts: Sequence[Part[Run]]) -> HostRecord:
    """What the machines have in common."""
    hosts = {part.shard.number: part.content.record.host for part in parts}
    unlike = {each.name for each in fields(HostRecord) if len({getattr(h, each.name) for h in hosts.values()}) > 1}
    joined = {
        name: "; ".join(dict.fromkeys(own for host in hosts.values() if (own := getattr(host, name)) is not None))
        for name in _JOINED
    }
    own = {name: joined.get(name) for name in unlike - {"remarks"}}
    return replace(next(iter(hosts.values())), **own, remarks=tuple(_remarks(hosts)))


def _remarks(hosts: dict[int, HostRecord]) -> list[str]:
    """Each with the shards whose machine it is about, where it is not about all."""
    by_remark: dict[str, list[int]] = {}
    for number, host in hosts.items():
        for remark in host.remarks:
            by_remark.setdefault(remark, []).append(number)
    return [
        remark if len(numbers) == len(hosts) else f"on shard {', '.join(map(str, numbers))}: {remark}"
        for remark, numbers in by_remark.items()
    ]


# --- a variant --------------------------------------------------------------------------------------------------------


def _variant(name: str, parts: Sequence[Part[Run]]) -> VariantRecord:
    """All that it did on every shard; what was skipped or has failed on one is so in the whole."""
    own = {part.shard.number: part.content.variant(name) for part in parts}
    order = {case: i for i, case in enumerate(parts[0].content.record.listed_cases)}
    lost = next(((n, v) for status in (FAILED, SKIPPED) for n, v in own.items() if v.status == status), None)
    record = VariantRecord(
        name=name,
        settings=own[parts[0].shard.number].settings,
        status=OK if lost is None else lost[1].status,
        peak_memory_bytes=max((v.peak_memory_bytes for v in own.values() if v.peak_memory_bytes), default=None),
        evidence=_evidence([variant.evidence for variant in own.values()]),
        samples=tuple(replace(sample, shard=n) for n, variant in own.items() for sample in variant.samples),
        scores=tuple(sorted((s for v in own.values() for s in v.scores), key=lambda score: order[score.case])),
        noise=_sums([variant.noise for variant in own.values()]),
    )
    if lost is None:
        return record
    number, variant = lost
    log = None if variant.log is None else _log(variant.name, number)
    return replace(record, reason=f"on shard {number}: {variant.reason}", fix=variant.fix, log=log)


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """By key; a sum of 0 stays, since it says that something was looked at."""
    return {key: sum(each.get(key, 0) for each in counts) for key in dict.fromkeys(itertools.chain(*counts))}


def _evidence(own: Sequence[EvidenceRecord | None]) -> EvidenceRecord | None:
    """What ran, with the details that are equal; None where it was not the same everywhere."""
    first = own[0]
    if first is None or any(each is None or replace(each, details={}) != replace(first, details={}) for each in own):
        return None
    known = [each.details for each in own if each is not None]
    return replace(first, details={k: v for k, v in first.details.items() if all(d.get(k) == v for d in known)})


def _log(name: str, number: int) -> str:
    """The log of a variant's worker on one shard, relative to the run directory."""
    return f"{VARIANTS_FOLDER}/{name}.shard-{number}.log"


# --- files ------------------------------------------------------------------------------------------------------------


def _copy(part: Part[Run], work: Path) -> None:
    """The masks of each variant, its log, and the plan."""
    theirs, ours = RunDirectory(part.folder), RunDirectory(work)
    (work / VARIANTS_FOLDER).mkdir(exist_ok=True)
    for variant in part.content.variants:
        kept = (theirs.prediction(variant.name, case) for case in part.content.record.cases)
        masks = [mask for mask in kept if mask.is_file()]
        if masks or variant.samples:
            ours.predictions(variant.name).mkdir(parents=True, exist_ok=True)
        for mask in masks:
            shutil.copyfile(mask, ours.predictions(variant.name) / mask.name)
        if theirs.log(variant.name).is_file():
            shutil.copyfile(theirs.log(variant.name), work / _log(variant.name, part.shard.number))
    if (part.folder / PLAN_FILE).is_file():
        shutil.copyfile(part.folder / PLAN_FILE, work / PLAN_FILE)


def _common(values: Sequence[Value], otherwise: Value) -> Value:
    """What all of them are, or else `otherwise`."""
    return values[0] if all(value == values[0] for value in values) else otherwise
