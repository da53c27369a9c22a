"""Made-up runs in shards, each as it would lie in its folder and as it is once merged."""

from dataclasses import replace
from typing import Any

from bench.shard import Shard
from reports.records.record import EvidenceRecord, HostRecord, Sample, ShardRecord
from reports.records.store import Run


def shard_of(run: Run, shard: Shard, **changes: Any) -> Run:
    """The part of a run that a shard of it would have been; `changes` are of its record."""
    names = [case.name for case in run.record.cases]
    own = set(shard.names(names))
    variants = tuple(
        replace(
            variant,
            samples=tuple(s for s in variant.samples if s.case in own),
            scores=tuple(s for s in variant.scores if s.case in own),
        )
        for variant in run.variants
    )
    record = replace(
        run.record,
        settings=replace(run.record.settings, shard=str(shard)),
        cases=tuple(case for case in run.record.cases if case.name in own),
        listed_cases=tuple(names),
    )
    return replace(run, record=replace(record, **changes), variants=variants)


def merged(run: Run, count: int, machines: dict[int, float] | None = None, **confirmed: str | None) -> Run:
    """The run as if so many shards had been merged; on a machine of `machines` candidates take so many times as long.

    `confirmed`: what a shard confirmed, by its number as ``s1``; by default what the run did.
    """
    names, machines = [case.name for case in run.record.cases], machines or {}
    number_of = {name: number for number in range(1, count + 1) for name in Shard(number, count).names(names)}

    def moved(sample: Sample, candidate: bool) -> Sample:
        number = number_of[sample.case]
        factor = machines.get(number, 1.0) if candidate else 1.0
        return replace(sample, shard=number, case_ns=int(sample.case_ns * factor))

    variants = tuple(
        replace(v, samples=tuple(moved(s, v.name != run.record.baseline) for s in v.samples)) for v in run.variants
    )
    evidence = {v.name: v.evidence for v in run.variants if v.evidence is not None}
    shards = tuple(
        a_shard(
            number, tuple(Shard(number, count).names(names)), run.record.host, evidence,
            confirmed.get(f"s{number}", run.record.confirmed),
        )
        for number in range(1, count + 1)
    )  # fmt: skip
    chosen = {shard.confirmed for shard in shards}
    record = replace(run.record, shards=shards, confirmed=chosen.pop() if len(chosen) == 1 else None)
    return replace(run, record=record, variants=variants)


def a_shard(
    number: int, cases: tuple[str, ...], host: HostRecord, evidence: dict[str, EvidenceRecord], confirmed: str | None
) -> ShardRecord:
    return ShardRecord(
        number=number, id=f"run{number}", created="2026-01-02T03:04:05+00:00",
        command=f"bench run --rounds 2 --shard {number}/3", cases=cases, host=host, threads=2, device="cpu",
        evidence=evidence, confirmed=confirmed,
    )  # fmt: skip
